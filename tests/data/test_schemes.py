"""Tags and spans: there and back, which tags may meet, and how impossible rows are read."""

import itertools
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qingformer.data.schemes import SCHEMES, TagScheme, tags_to_spans
from qingformer.data.spans import Span, longest_disjoint
from qingformer.errors import DataError

CASES = [(name, ("LOC", "PER")) for name in SCHEMES] + [("bmes", ("word",))]

# What seqeval 1.2.2 answers to get_entities (its ends are inclusive; M is not known to it and stands here for I).
DEFAULT = [
    ("B-PER I-PER O B-LOC", [(0, 2, "PER"), (3, 4, "LOC")]),
    ("I-PER I-PER O", [(0, 2, "PER")]),
    ("O I-PER I-LOC", [(1, 2, "PER"), (2, 3, "LOC")]),
    ("B-PER I-LOC I-LOC", [(0, 1, "PER"), (1, 3, "LOC")]),
    ("B-PER B-PER I-PER", [(0, 1, "PER"), (1, 3, "PER")]),
    ("B-PER I-PER E-PER S-LOC", [(0, 3, "PER"), (3, 4, "LOC")]),
    ("E-PER E-PER", [(0, 1, "PER"), (1, 2, "PER")]),
    ("B-PER O E-PER", [(0, 1, "PER"), (2, 3, "PER")]),
    ("B-PER I-PER S-PER I-PER", [(0, 2, "PER"), (2, 3, "PER"), (3, 4, "PER")]),
    ("B-PER E-PER I-PER", [(0, 2, "PER"), (2, 3, "PER")]),
    ("B-PER E-LOC", [(0, 1, "PER"), (1, 2, "LOC")]),
    ("B-A-B I-A-B I-A", [(0, 2, "A-B"), (2, 3, "A")]),
    ("B M E S B E", [(0, 3, "word"), (3, 4, "word"), (4, 6, "word")]),
    ("O O", []),
    ("", []),
]
STRICT = [
    ("bio", "B-PER I-PER I-LOC I-PER O I-PER B-LOC", [(0, 2, "PER"), (6, 7, "LOC")]),
    ("bioes", "B-PER I-PER E-PER B-PER O B-LOC B-LOC E-LOC S-PER E-PER", [(0, 3, "PER"), (6, 8, "LOC"), (8, 9, "PER")]),
    ("bmes", "B M M B E S M S", [(3, 5, "word"), (5, 6, "word"), (7, 8, "word")]),
]


@st.composite
def tokens_and_spans(draw, labels, covering=False):
    cuts = draw(st.lists(st.integers(1, 4), max_size=8))
    ends = list(itertools.accumulate(cuts))
    spans = [Span(end - size, end, draw(st.sampled_from(labels))) for end, size in zip(ends, cuts)]
    if not covering:
        spans = [span for span in spans if draw(st.booleans())]
    return spans, ends[-1] if ends else 0


@pytest.mark.parametrize(("tags", "spans"), DEFAULT)
def test_default_reading(tags, spans):
    assert tags_to_spans(tags.split()) == spans


@pytest.mark.parametrize(("scheme", "tags", "spans"), STRICT)
def test_strict_reading(scheme, tags, spans):
    assert tags_to_spans(tags.split(), scheme, strict=True) == spans
    assert tags_to_spans(tags.split(), strict=True) == spans


def test_tags():
    assert TagScheme("bio", ["LOC", "PER"]).tags == ("O", "B-LOC", "I-LOC", "B-PER", "I-PER")
    assert TagScheme("bioes", ["LOC"]).tags == ("O", "B-LOC", "I-LOC", "E-LOC", "S-LOC")
    assert TagScheme("bmes", ["LOC"]).tags == ("O", "B-LOC", "M-LOC", "E-LOC", "S-LOC")
    assert TagScheme("bmes", ["word"]).tags == ("B", "M", "E", "S")
    assert TagScheme("bio", ["word"]).tags == ("O", "B-word", "I-word")
    assert TagScheme("bio", ["LOC"]) == TagScheme("bio", ("LOC",)) != TagScheme("bioes", ("LOC",))


@pytest.mark.parametrize(("name", "labels"), CASES)
@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_there_and_back(name, labels, data):
    scheme = TagScheme(name, labels)
    spans, length = data.draw(tokens_and_spans(labels, covering=scheme.segments))
    codes = scheme.encode(reversed(spans), length)
    assert codes.dtype == np.int32
    assert codes.shape == (length,)
    assert scheme.decode(codes) == scheme.decode(codes.tolist()) == spans
    tags = [scheme.tags[code] for code in codes]
    assert tags_to_spans(tags, name) == tags_to_spans(tags, name, strict=True) == spans
    follows, begins, ends = scheme.allowed()
    assert follows[codes[:-1], codes[1:]].all()
    assert length == 0 or (begins[codes[0]] and ends[codes[-1]])


@pytest.mark.parametrize(("name", "labels"), CASES)
def test_allowed_are_just_the_rows_that_come_back(name, labels):
    scheme = TagScheme(name, labels)
    follows, begins, ends = scheme.allowed()
    assert follows.dtype == begins.dtype == ends.dtype == bool
    for length in (1, 2, 3):
        for row in itertools.product(range(len(scheme.tags)), repeat=length):
            allowed = begins[row[0]] and ends[row[-1]] and all(follows[pair] for pair in itertools.pairwise(row))
            assert allowed == (scheme.encode(scheme.decode(row), length).tolist() == list(row)), row


@pytest.mark.parametrize(("scheme", "pattern"), [("bio", "BI*|bi*"), ("bioes", "S|BI*E|s|bi*e")])
def test_strict_is_a_regular_expression(scheme, pattern):
    tags = {"B": "B-x", "I": "I-x", "b": "B-y", "i": "I-y", "O": "O"}
    if scheme == "bioes":
        tags |= {"E": "E-x", "S": "S-x", "e": "E-y", "s": "S-y"}
    for row in map("".join, itertools.product(tags, repeat=4)):
        wanted = [(*match.span(), "x" if match[0].isupper() else "y") for match in re.finditer(pattern, row)]
        assert tags_to_spans([tags[letter] for letter in row], scheme, strict=True) == wanted, row


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 5), st.sampled_from("xy")), max_size=8))
def test_longest_disjoint_by_brute_force(triples):
    spans = [Span(start, start + size, label) for start, size, label in triples]
    kept, left = [], set(spans)
    while left:
        best = min(left, key=lambda span: (-(span.end - span.start), span.start, span.label))
        kept.append(best)
        left = {span for span in left if span.end <= best.start or span.start >= best.end}
    assert longest_disjoint(spans) == (sorted(kept), len(set(spans)) - len(kept))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: TagScheme("iob", ["x"]), "'iob' is not known; choose one of bio, bioes, bmes"),
        (lambda: TagScheme("bio", []), "at least one label"),
        (lambda: TagScheme("bio", ["x", "x"]), "none twice"),
        (lambda: TagScheme("bio", ["x", ""]), "none empty"),
        (lambda: TagScheme("bio", "xy"), "give a list"),
        (lambda: TagScheme("bio", ["x"]).encode([Span(0, 2, "x"), Span(1, 3, "x")], 4), "overlap"),
        (lambda: TagScheme("bio", ["x"]).encode([Span(3, 5, "x")], 4), "not inside the 4 tokens"),
        (lambda: TagScheme("bio", ["x"]).encode([Span(-1, 1, "x")], 4), "not inside"),
        (lambda: TagScheme("bio", ["x"]).encode([Span(1, 1, "x")], 4), "empty"),
        (lambda: TagScheme("bio", ["x"]).encode([Span(0, 1, "y")], 4), "label is not one of x"),
        (lambda: TagScheme("bmes", ["word"]).encode([Span(0, 1, "word")], 3), "token 1 is in no word"),
        (lambda: tags_to_spans(["O", "X"]), "'X' is not a tag; tags look like"),
        (lambda: tags_to_spans(["B-"]), "'B-' is not a tag"),
        (lambda: tags_to_spans(["Q-PER"]), "'Q-PER' is not a tag"),
        (lambda: tags_to_spans(["E-PER"], "bio"), "'E-PER' is not of the scheme bio"),
        (lambda: tags_to_spans(["O"], "iob"), "'iob' is not known"),
    ],
)
def test_wrong_input(call, message):
    with pytest.raises(DataError, match=message):
        call()
