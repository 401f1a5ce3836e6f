"""Labelled texts from every kind of file and from Python, and one clear line for whatever is wrong."""

import gzip
import io
import json
import lzma
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qingformer.data.spans import Span, longest_disjoint
from qingformer.data.tagging import TaggedText, from_rows, read_tagging, to_brat, to_columns, to_json
from qingformer.errors import DataError

BIO = "在 O\n北 B-LOC\n京 I-LOC\n\n\n王 B-PER\n来 O\n"
CLUENER = {"text": "王来北京王", "label": {"name": {"王": [[0, 0], [4, 4]]}, "address": {"北京": [[2, 3]]}}}
SPANS = (Span(0, 1, "name"), Span(2, 4, "address"), Span(4, 5, "name"))
COMPRESSORS = {"": bytes, ".gz": gzip.compress, ".xz": lzma.compress}


def write(path, text):
    path.write_bytes(text.encode("utf-8") if isinstance(text, str) else text)
    return path


def read(folder, text, name="train.txt", **options):
    return read_tagging(write(folder / name, text), **options)


def only(texts):
    (item,) = texts.items
    return item


@pytest.mark.parametrize("suffix", COMPRESSORS)
@pytest.mark.parametrize("name", ["train.txt", "train.conll", "example.train"])
def test_columns(tmp_path, name, suffix):
    texts = read(tmp_path, COMPRESSORS[suffix](BIO.encode()), name + suffix)
    assert texts.items == [
        TaggedText("在北京", (Span(1, 3, "LOC"),), 1, ((0, 1), (1, 2), (2, 3))),
        TaggedText("王来", (Span(0, 1, "PER"),), 6, ((0, 1), (1, 2))),
    ]
    assert (texts.name, texts.notes, texts.scheme) == (str(tmp_path / (name + suffix)), [], "bio")


def test_english_columns_are_joined_by_spaces(tmp_path):
    text = "-DOCSTART- -X- O O\n\nEU NNP I-NP B-ORG\nrejects VBZ I-VP O\nNew NNP I-NP B-LOC\nYork NNP I-NP I-LOC\n"
    item = only(read(tmp_path, text))
    assert item.text == "EU rejects New York"
    assert [(item.text[start:end], label) for start, end, label in item.spans] == [("EU", "ORG"), ("New York", "LOC")]
    assert [item.text[start:end] for start, end in item.tokens] == "EU rejects New York".split()
    assert item.line == 3
    assert only(read(tmp_path, text, joiner="")).text == "EUrejectsNewYork"


def test_chinese_words_in_columns_are_joined_without_spaces(tmp_path):
    item = only(read(tmp_path, "中国\tB-LOC\n合作\tO\n2001\tO\n"))
    assert (item.text, item.tokens) == ("中国合作2001", ((0, 2), (2, 4), (4, 8)))


def test_white_space_can_be_a_token(tmp_path):
    assert only(read(tmp_path, "王\tB-PER\n \tI-PER\n\tI-PER\n五\tI-PER\n")).spans == (Span(0, 4, "PER"),)
    assert only(read(tmp_path, "王 B-PER\n  O\n\u3000 O\n\u00a0 O\n五 B-PER\n")).text == "王 \u3000\u00a0五"


@pytest.mark.parametrize(
    ("lines", "scheme", "spans"),
    [
        ("王 S-PER\n在 O\n北 B-LOC\n京 E-LOC", "bioes", [(0, 1, "PER"), (2, 4, "LOC")]),
        ("王 S-PER\n在 O\n北 B-LOC\n京 M-LOC\n城 E-LOC", "bmes", [(0, 1, "PER"), (2, 5, "LOC")]),
        ("王 S\n在 S\n北 B\n京 M\n城 E", "bmes", [(0, 1, "word"), (1, 2, "word"), (2, 5, "word")]),
    ],
)
def test_other_schemes(tmp_path, lines, scheme, spans):
    texts = read(tmp_path, lines + "\n")
    assert (texts.scheme, texts.notes) == (scheme, [])
    assert list(only(texts).spans) == spans


def test_impossible_tags_are_read_and_noted_once(tmp_path):
    lines = "王 B-PER\n在 O\n北 I-LOC\n京 I-LOC\n\n来 I-PER\n京 B-LOC\n王 I-PER\n"
    texts = read(tmp_path, lines)
    assert [list(item.spans) for item in texts.items] == [
        [(0, 1, "PER"), (2, 4, "LOC")],
        [(0, 1, "PER"), (1, 2, "LOC"), (2, 3, "PER")],
    ]
    (note,) = texts.notes
    assert note.startswith(f"{tmp_path / 'train.txt'}: 3 tags that cannot follow the tag before")
    assert "first line 3: I-LOC after O" in note
    with pytest.raises(DataError, match=r"train\.txt, line 3: I-LOC after O is impossible in the scheme bio"):
        read(tmp_path, lines, strict=True)


def test_ends_that_are_missing_lose_no_span(tmp_path):
    lines = "王 B-PER\n五 I-PER\n在 O\n北 B-LOC\n京 E-LOC\n城 B-LOC\n\n王 S-PER\n"
    texts = read(tmp_path, lines)
    assert list(texts.items[0].spans) == [(0, 2, "PER"), (3, 5, "LOC"), (5, 6, "LOC")]
    assert "2 tags" in texts.notes[0]
    assert "line 3: O after I-PER" in texts.notes[0]
    with pytest.raises(DataError, match="line 3: O after I-PER"):
        read(tmp_path, lines, strict=True)
    with pytest.raises(DataError, match="line 2: B-PER at the end"):
        read(tmp_path, "京 S-LOC\n王 B-PER\n\n京 O\n", strict=True)


def test_segmentation_digits(tmp_path):
    lines = "王0\tB-PER\n五1\tI-PER\n10\tO\n 0\tO\n"
    texts = read(tmp_path, lines)
    assert only(texts).text == "王五1 "
    assert "segmentation digit" in texts.notes[0]
    assert only(read(tmp_path, lines, digits=False)).text == "王0五110 0"
    forced = read(tmp_path, lines, digits=True)
    assert (only(forced).text, forced.notes) == ("王五1 ", [])
    for other in (lines + "王\tO\n", lines + "\n王1\tO\n", lines + "ab\tO\n"):
        assert read(tmp_path, other).items[0].text.startswith("王0")
    with pytest.raises(DataError, match="line 5: token 'ab' does not end in a segmentation digit"):
        read(tmp_path, lines + "ab\tO\n", digits=True)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("王 B-PER\n来 X\n了 O\n", r"train\.txt, line 2: 'X' is not a tag; tags look like O, B-PER"),
        ("王 B-\n来 O\n了 O\n", "line 1: 'B-' is not a tag"),
        ("王 O\n来 O\n\n了 Q-PER\n", "line 4: 'Q-PER' is not a tag"),
        ("王 O\n来 O\n了\n", "line 3: expected a token and its tag, found only '了'"),
        ("王\tO\n来\tO\n了\t\n", "line 3: expected a token and its tag, found only '了'"),
        ("王\n来\n\n了\n", "no labels found"),
        ("", "is empty"),
        ("\n \n", "is empty"),
    ],
)
def test_wrong_columns(tmp_path, lines, message):
    with pytest.raises(DataError, match=message) as caught:
        read(tmp_path, lines)
    assert "\n" not in str(caught.value)


def test_columns_without_looking_at_labels(tmp_path):
    texts = read(tmp_path, BIO, labelled=False)
    assert ([item.spans for item in texts.items], texts.scheme) == ([None, None], None)
    assert texts.items[0].tokens == ((0, 1), (1, 2), (2, 3))
    assert [item.text for item in read(tmp_path, "王\n来\n\n了\n", format="bio", labelled=False).items] == [
        "王来",
        "了",
    ]


FORMS = [
    {"text": CLUENER["text"], "entities": [{"start": s, "end": e, "label": x} for s, e, x in SPANS]},
    {"text": CLUENER["text"], "spans": [{"start": s, "end": e, "type": x} for s, e, x in reversed(SPANS)]},
    {"text": CLUENER["text"], "spans": [[s, e, x] for s, e, x in SPANS * 2]},
    {"text": CLUENER["text"], "label": [[s, e, x] for s, e, x in SPANS]},
    to_json(CLUENER["text"], SPANS),
    CLUENER,
]


@pytest.mark.parametrize("row", FORMS)
@pytest.mark.parametrize(("name", "indent"), [("a.json", None), ("a.json", 1), ("a.data", None), ("a.data", 1)])
def test_json(tmp_path, row, name, indent):
    content = [row, {"text": "无", "entities": []}]
    text = json.dumps(content, ensure_ascii=False, indent=indent)
    if indent is None:
        text = "\n".join(json.dumps(one, ensure_ascii=False) for one in content)
    texts = read(tmp_path, text, name)
    assert [item.spans for item in texts.items] == [SPANS, ()]
    assert [item.line for item in texts.items] == [1, 2] if indent is None else texts.items[0].line == 2
    assert texts.scheme is None
    assert from_rows(content).items[0].spans == SPANS


def test_nested_spans_are_kept():
    spans = [(0, 4, "ORG"), (0, 2, "LOC"), (1, 3, "PER")]
    assert from_rows([("北京大学", spans)]).items[0].spans == tuple(sorted(Span(*span) for span in spans))


def test_white_space_of_covered_texts_and_borders():
    text = "住在New  York\n市 里"
    rows = [
        {"text": text, "entities": [{"start": 2, "end": 11, "label": "LOC", "text": "New York"}]},  # collapsed
        {"text": text, "entities": [{"start": 2, "end": 12, "label": "LOC", "text": "New York"}]},  # and cut off
        {"text": text, "entities": [[2, 12, "LOC"]]},
        {"text": text, "label": {"LOC": {"New York": [[2, 10]]}}},
        TaggedText(text, (Span(2, 12, "LOC"),)),
        (text, [(2, 12, "LOC")]),
    ]
    assert {item.spans for item in from_rows(rows).items} == {(Span(2, 11, "LOC"),)}
    with pytest.raises(DataError, match=r"should be 'Ne York', but the text there is 'New  York'"):
        from_rows([{"text": text, "entities": [{"start": 2, "end": 11, "label": "LOC", "text": "Ne York"}]}])
    with pytest.raises(DataError, match="covers nothing but white space"):
        from_rows([(text, [(5, 7, "LOC")])])


def entity(*entry):
    return {"text": "王在北京", "entities": list(entry)}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (entity([2, 5, "LOC"]), r"entity \[2, 5, 'LOC'\] is empty or not inside the text, which has 4"),
        (entity([-1, 1, "LOC"]), "not inside the text"),
        (entity([2, 2, "LOC"]), "is empty or not inside"),
        (entity([3, 2, "LOC"]), "is empty or not inside"),
        (entity([2, 4, ""]), "has the type ''; name its type"),
        (entity([2, 4, None]), "has the type None"),
        (entity([2, 4]), r"\[2, 4\] is not a span; write"),
        (entity("LOC"), "'LOC' is not a span"),
        (entity([2, "4", "LOC"]), "no whole numbers"),
        (entity([2, 4.0, "LOC"]), "no whole numbers"),
        (entity([False, True, "LOC"]), "no whole numbers"),
        (entity({"start": 2, "label": "LOC"}), "no whole numbers"),
        (
            entity({"start": 2, "end": 4, "label": "LOC", "text": "南京"}),
            "should be '南京', but the text there is",
        ),
        (
            entity({"start": 2, "end": 3, "label": "LOC", "text": "北京"}),
            "there is '北'; its end seems to be inclusive",
        ),
        ({"text": "王", "label": "PER"}, "the spans are 'PER'; write"),
        ({"text": "王", "label": 3}, "the spans are 3; write"),
        ({"text": "王", "label": {"PER": ["王"]}}, r"type 'PER' holds \['王'\]"),
        ({"text": "王", "label": {"PER": {"王": [0, 0]}}}, r"entity '王' of type 'PER' has the places \[0, 0\]"),
        ({"text": "王", "label": {"PER": {"王": []}}}, r"has the places \[\]"),
        ({"text": "王", "label": {"PER": {"王": [[0, None]]}}}, "no whole numbers"),
        ({"text": "王", "label": {"PER": {"李": [[0, 0]]}}}, "should be '李', but the text there is '王'"),
        ({"text": "王", "label": {"PER": {"王": [[0, 1]]}}}, r"entity '王' of type 'PER' at \[0, 1\] is empty or not"),
        ({"text": "王", "label": {"": {"王": [[0, 0]]}}}, "has the type ''"),
        ({"text": "王"}, "is not labelled: none of entities, spans, label is there"),
        ({"text": "王", "label": None}, "is not labelled"),
        ({"text": " ", "label": []}, '"text" is empty'),
        ({"label": []}, '"text" is missing'),
        ({"text": 3, "label": []}, '"text" is 3'),
    ],
)
def test_wrong_objects(tmp_path, row, message):
    good = json.dumps(CLUENER)
    with pytest.raises(DataError, match=message) as caught:
        read(tmp_path, f"{good}\n\n{json.dumps(row, ensure_ascii=False)}\n", "a.jsonl")
    assert str(caught.value).startswith(f"{tmp_path / 'a.jsonl'}, line 3: ")
    assert "\n" not in str(caught.value)
    with pytest.raises(DataError, match=message) as caught:
        from_rows([CLUENER, row], "dev")
    assert str(caught.value).startswith("dev, item 2: ")


def test_segmented_text(tmp_path):
    texts = read(tmp_path, "共同  创造  \n\n新\u3000世纪\n", "training.utf8")
    assert texts.scheme == "bmes"
    assert texts.items == [
        TaggedText("共同创造", (Span(0, 2, "word"), Span(2, 4, "word")), 1, ((0, 2), (2, 4))),
        TaggedText("新世纪", (Span(0, 1, "word"), Span(1, 3, "word")), 3, ((0, 1), (1, 3))),
    ]
    assert [item.text for item in read(tmp_path, "共同  创造\n", labelled=False).items] == ["共同  创造"]
    assert only(read(tmp_path, "创造\n", format="words")).spans == (Span(0, 2, "word"),)
    assert only(read(tmp_path, "good news\n", format="words")).text == "good news"


def test_raw_texts(tmp_path):
    items = read(tmp_path, "[图片] 北京\r\n\n来\n", labelled=False).items
    assert items == [TaggedText("[图片] 北京", line=1), TaggedText("来", line=3)]
    assert only(read(tmp_path, '{"text": "王"}\n', labelled=False)).text == "王"
    assert only(read(tmp_path, '{"text": "王", "label": {"PER": 3}}\n', labelled=False)) == TaggedText("王", line=1)


def test_standard_input(monkeypatch):
    def stdin(text):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))

    stdin("北京\n来\n")
    assert [item.text for item in read_tagging("-", labelled=False).items] == ["北京", "来"]
    stdin('{"text": "北京"}\n')
    assert [item.text for item in read_tagging("-", labelled=False).items] == ["北京"]
    stdin(BIO)
    assert len(read_tagging("-", "bio").items) == 2
    with pytest.raises(DataError, match="pass format="):
        read_tagging("-")


def test_from_python():
    tagged = TaggedText("在北京", (Span(1, 3, "LOC"),), 7, ((0, 1), (1, 3)))
    rows = [tagged, ("在北京", [(1, 3, "LOC")]), ["在北京", [Span(np.int64(1), np.int32(3), "LOC")]]]
    texts = from_rows(rows, "dev")
    assert texts.items == [tagged, *[TaggedText("在北京", tagged.spans)] * 2]
    assert all(type(place) is int for span in texts.items[2].spans for place in span[:2])
    assert (texts.name, texts.notes, texts.scheme) == ("dev", [], None)
    unlabelled = from_rows([*rows, "在北京"], labelled=False)
    assert {(item.text, item.spans) for item in unlabelled.items} == {("在北京", None)}
    assert unlabelled.items[0].tokens == tagged.tokens


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("在北京", "expected a list, found one text; write"),
        (["在北京"], "dev, item 1: is not labelled"),
        ([TaggedText("王")], "dev, item 1: is not labelled"),
        ([TaggedText("王", (Span(0, 2, "PER"),))], "not inside the text"),
        ([("王", "PER")], "the spans are 'PER'"),
        ([("王", [], 3)], "expected .*; found tuple"),
        ([None], "found NoneType"),
        ([], "holds no texts"),
    ],
)
def test_wrong_python(rows, message):
    with pytest.raises(DataError, match=message):
        from_rows(rows, "dev")


def test_wrong_options(tmp_path):
    path = write(tmp_path / "a.txt", BIO)
    with pytest.raises(DataError, match="format 'iob' is not known; choose one of bio, json, csv, words, brat, text"):
        read_tagging(path, "iob")
    with pytest.raises(DataError, match="has no labels; pass labelled=False"):
        read_tagging(path, "text")
    with pytest.raises(DataError, match="no such file"):
        read_tagging(tmp_path / "none.txt")


def test_writers():
    text, spans = "王 在北京", [Span(3, 5, "LOC"), Span(0, 1, "PER")]
    assert to_columns(text, spans) == ["王\tB-PER", "在\tO", "北\tB-LOC", "京\tI-LOC"]
    assert to_columns(text, spans, [(0, 1), (1, 3), (3, 5)], "bioes") == ["王\tS-PER", " 在\tO", "北京\tS-LOC"]
    assert to_columns("北京城", [Span(0, 3, "word")], scheme="bmes") == ["北\tB", "京\tM", "城\tE"]
    assert to_columns("北", []) == ["北\tO"]
    assert to_columns("a\tb", [Span(0, 3, "x")], [(0, 3)]) == ["a b\tB-x"]
    assert to_brat(text, spans) == "T1\tPER 0 1\t王\nT2\tLOC 3 5\t北京\n"
    assert to_brat(text, []) == ""
    assert to_json(text, spans)["entities"][1] == {"start": 3, "end": 5, "label": "LOC", "text": "北京"}
    with pytest.raises(DataError, match="'北', cuts a token"):
        to_columns(text, [Span(3, 4, "LOC")], [(0, 1), (3, 5)])
    with pytest.raises(DataError, match="covers no token"):
        to_columns(text, [Span(1, 2, "LOC")])
    with pytest.raises(DataError, match="overlap"):
        to_columns("北京", [Span(0, 2, "x"), Span(1, 2, "x")])


@settings(max_examples=60, deadline=None)
@given(st.data(), st.sampled_from(["bio", "bioes", "bmes"]))
def test_columns_come_back(tmp_path_factory, data, scheme):
    rows = []
    for _ in range(data.draw(st.integers(1, 3))):
        text = data.draw(st.text("北京王a1，", min_size=1, max_size=12))
        places = st.tuples(st.integers(0, len(text) - 1), st.integers(1, 4), st.sampled_from(["PER", "A-B.x"]))
        drawn = data.draw(st.lists(places, max_size=5))
        rows.append((text, longest_disjoint(Span(s, min(s + n, len(text)), x) for s, n, x in drawn)[0]))
    lines = "\n\n".join("\n".join(to_columns(text, spans, scheme=scheme)) for text, spans in rows)
    texts = read(tmp_path_factory.mktemp("columns"), lines, strict=True)
    assert [(item.text, list(item.spans)) for item in texts.items] == rows


REAL = [
    ("cluener/train.json.gz", 10748, 23971, 10, None),
    ("cluener/dev.json.gz", 1343, 3072, 10, None),
    ("weibo-ner/train.conll.gz", 1350, 1895, 8, "bio"),
    ("weibo-ner/dev.conll.gz", 270, 389, 8, "bio"),
    ("msra-ner/test.txt.gz", 4631, 6192, 3, "bio"),
    ("peoples-daily-ner/example.dev.gz", 2318, 3819, 3, "bio"),
    ("cws-msr/test_gold.utf8.gz", 3985, 106873, 1, "bmes"),
]


@pytest.mark.shared
@pytest.mark.parametrize(("name", "count", "spans", "labels", "scheme"), REAL)
def test_real_files(shared, name, count, spans, labels, scheme):
    texts = read_tagging(shared / "data" / name)
    assert (len(texts.items), texts.scheme) == (count, scheme)
    assert sum(len(item.spans) for item in texts.items) == spans
    assert len({span.label for item in texts.items for span in item.spans}) == labels


@pytest.mark.shared
@pytest.mark.parametrize("part", ["train", "dev"])
def test_surfaces_of_cluener(shared, part):
    path = shared / "data" / "cluener" / f"{part}.json.gz"
    rows = map(json.loads, gzip.decompress(path.read_bytes()).splitlines())
    for row, item in zip(rows, read_tagging(path).items, strict=True):
        wanted = {
            (surface, first, label)
            for label, surfaces in row["label"].items()
            for surface, places in surfaces.items()
            for first, _ in places
        }
        assert {(item.text[start:end], start, label) for start, end, label in item.spans} == wanted


@pytest.mark.shared
def test_column_files_against_their_lines(shared):
    """Number of spans and characters counted with nothing but the first letters of the tags."""
    for name, digit in (("weibo-ner/dev.conll.gz", 1), ("peoples-daily-ner/example.dev.gz", 0)):
        lines = gzip.decompress((shared / "data" / name).read_bytes()).decode().split("\n")
        fields = [line.split("\t" if "\t" in line else " ") for line in lines if line.strip()]
        texts = read_tagging(shared / "data" / name)
        assert sum(len(item.spans) for item in texts.items) == sum(tag.startswith("B-") for _, tag in fields)
        assert "".join(item.text for item in texts.items) == "".join(token[: len(token) - digit] for token, _ in fields)
        assert len(texts.notes) == digit


@pytest.mark.shared
def test_unlabelled_real_files(shared):
    texts = read_tagging(shared / "data" / "cluener" / "test.json.gz", labelled=False)
    assert (len(texts.items), texts.items[0].spans) == (1345, None)
    with pytest.raises(DataError, match="line 1: is not labelled"):
        read_tagging(shared / "data" / "cluener" / "test.json.gz")
