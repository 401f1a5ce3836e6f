"""Labelled stretches of a text or of a row of tokens."""

from bisect import bisect_left
from collections.abc import Iterable
from typing import NamedTuple


class Span(NamedTuple):
    """The characters (or tokens) from `start` up to, not including, `end`, and what they are called.

    >>> "叶老桂在北京"[Span(4, 6, "LOC").start : 6]
    '北京'
    """

    start: int
    end: int
    label: str


def longest_disjoint(spans: Iterable[Span]) -> tuple[list[Span], int]:
    """Keep the longest spans that do not overlap (of equal ones the earlier, then by label), in order of place.

    Returns them and the number of spans dropped because they overlap a kept one; repeated spans count once.

    >>> longest_disjoint([Span(0, 2, "LOC"), Span(0, 4, "ORG"), Span(5, 6, "PER")])
    ([Span(start=0, end=4, label='ORG'), Span(start=5, end=6, label='PER')], 1)
    """
    unique = {Span(*span) for span in spans}
    kept: list[Span] = []
    for span in sorted(unique, key=lambda span: (span.start - span.end, span)):
        place = bisect_left(kept, span)
        before_is_free = place == 0 or kept[place - 1].end <= span.start
        if before_is_free and (place == len(kept) or span.end <= kept[place].start):
            kept.insert(place, span)
    return kept, len(unique) - len(kept)
