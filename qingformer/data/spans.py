"""Labelled stretches of a text or of a row of tokens."""

import unicodedata
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple


class Span(NamedTuple):
    """The characters (or tokens) from `start` up to, not including, `end`, and what they are called.

    >>> "叶老桂在北京"[Span(4, 6, "LOC").start : 6]
    '北京'
    """

    start: int
    end: int
    label: str


_IGNORABLE = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0")  # joiners and fillers that no category names


@lru_cache(maxsize=4096)
def is_blank(character: str) -> bool:
    """Whether nothing of a character is seen: white space, control and format characters, variation selectors.

    >>> [is_blank(character) for character in " \\u3000\\u200b\\ufeff\\ufe0f\\u00ad京"]
    [True, True, True, True, True, True, False]
    """
    return (
        character.isspace()
        or unicodedata.category(character) in ("Cc", "Cf")
        or character in _IGNORABLE
        # Variation selectors: they change how the character before them is drawn, and stand for nothing themselves.
        or "\ufe00" <= character <= "\ufe0f"
        or "\U000e0100" <= character <= "\U000e01ef"
    )


def trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    """The place [start, end) without the blank characters at its borders; empty if there is nothing else in it.

    >>> trimmed("住在 上海\\u200b", 2, 6), trimmed("a  b", 1, 3)
    ((3, 5), (3, 3))
    """
    while start < end and is_blank(text[start]):
        start += 1
    while start < end and is_blank(text[end - 1]):
        end -= 1
    return start, end


def longest_disjoint(spans: Iterable[Span]) -> tuple[list[Span], int]:
    """Keep the longest spans that do not overlap (of equal ones the earlier, then by label), in order of place.

    Returns them and the number of spans dropped because they overlap a kept one; repeated spans count once.

    >>> longest_disjoint([Span(0, 2, "LOC"), Span(0, 4, "ORG"), Span(5, 6, "PER")])
    ([Span(start=0, end=4, label='ORG'), Span(start=5, end=6, label='PER')], 1)
    """
    unique = {Span(*span) for span in spans}
    kept: list[Span] = []
    taken: set[int] = set()
    # The longest first, then in order; equal ones are settled by their label, so that the result does not depend on
    # luck.
    for span in sorted(unique, key=lambda span: (span.start - span.end, span)):
        # What was kept before is at least as long: where it overlaps this span, it holds one of the two ends.
        if span.start not in taken and span.end - 1 not in taken:
            kept.append(span)
            taken.update(range(span.start, span.end))
    return sorted(kept), len(unique) - len(kept)
