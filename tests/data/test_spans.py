"""Spans that do not overlap, against a slow account; blank characters at borders."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qingformer.data.spans import Span, is_blank, longest_disjoint, trimmed

PLACES = st.tuples(st.integers(0, 12), st.integers(1, 6), st.sampled_from("ab"))


def slowly(spans):
    kept = []
    for span in sorted(set(spans), key=lambda span: (span.start - span.end, span)):
        if all(span.end <= other.start or other.end <= span.start for other in kept):
            kept.append(span)
    return sorted(kept), len(set(spans)) - len(kept)


@given(st.lists(PLACES, max_size=12))
def test_the_longest_are_those_of_a_slow_search(places):
    spans = [Span(start, start + length, label) for start, length, label in places]
    assert longest_disjoint(spans) == slowly(spans)


def test_a_long_row_of_words_takes_time_in_its_length():
    words = [Span(2 * n, 2 * n + 1 + n % 2, "word") for n in range(100_000)]
    begin = time.process_time()
    assert longest_disjoint(words) == (words, 0)
    assert time.process_time() - begin < 4  # 5 s and more when every word moved those after it


@pytest.mark.parametrize(
    ("text", "place", "wanted"),
    [
        ("a 北京 b", (1, 5), (2, 4)),
        ("\u3000北 京\t", (0, 5), (1, 4)),
        ("\ufeff北京\u200b\ufe0f", (0, 5), (1, 3)),
        ("\u00ad\u200d\u2060\x07 ", (0, 5), (5, 5)),
        ("北京", (0, 2), (0, 2)),
    ],
)
def test_blank_borders_are_trimmed(text, place, wanted):
    assert trimmed(text, *place) == wanted


def test_what_is_blank():
    assert not any(map(is_blank, "a1。京é\u0301😀\U0001f1e8"))
    assert all(map(is_blank, "\x00\x1f\x7f\u034f\u200e\u2028\u3164\ufe0f\ufeff\U000e0100\U000e0020"))
