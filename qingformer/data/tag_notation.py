"""The notations in which files write tags, and how each reads as B-PER, I-PER, M-PER, E-PER, S-PER and O."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

from qingformer.data.schemes import split_tag

_SEPARATORS = "-_:.－–—‐‑−"
_LETTERS = frozenset("BIMESLUW")
# Letters for begin, inside, end and a single token, by those that stand for E and S.
# BIOES, BILOU, W for a word of one token, BILOS.
_ALPHABETS: tuple[dict[str, str], ...] = ({}, {"L": "E", "U": "S"}, {"W": "S"}, {"L": "E", "S": "S"})


@dataclass(frozen=True)
class Notation:
    """One way to write tags: the separator, whether the letter comes last, its case, and other letters for E and S."""

    separator: str = "-"
    is_suffix: bool = False
    is_lower: bool = False
    other_letters: tuple[tuple[str, str], ...] = ()

    @property
    def is_usual(self) -> bool:
        """Whether tags need no translation."""
        return self == Notation()

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        letters = "BI" + "".join(letter for letter, _ in self.other_letters)
        letters += "".join(one for one in "MES" if one not in dict(self.other_letters).values())
        letters = letters.lower() if self.is_lower else letters
        part = re.escape(self.separator)
        if self.is_suffix:
            return re.compile(rf"(?:(?P<label>.+){part})?(?P<letter>[{letters}])")
        return re.compile(rf"(?P<letter>[{letters}])(?:{part}(?P<label>.+))?")

    def read(self, tag: str) -> str | None:
        """The tag as ours, or None if it is none of this notation.

        >>> Notation("_").read("B_PER"), Notation(is_suffix=True).read("PER-I"), Notation("_").read("B-PER")
        ('B-PER', 'I-PER', None)
        """
        if tag == "O" or (self.is_lower and tag == "o"):
            return "O"
        found = self._pattern.fullmatch(tag)
        if found is None:
            return None
        letter = found["letter"].upper()
        letter = dict(self.other_letters).get(letter, letter)
        return letter if found["label"] is None else f"{letter}-{found['label']}"


@lru_cache(maxsize=1)
def _notations() -> list[Notation]:
    """Every notation, the usual one first."""
    return [
        Notation(separator, is_suffix, is_lower, tuple(sorted(letters.items())))
        for letters in _ALPHABETS
        for is_lower in (False, True)
        for is_suffix in (False, True)
        for separator in _SEPARATORS
    ]


def notation_of(tags: Mapping[str, int]) -> tuple[Notation, int]:
    """The notation that reads most of the tags, which come with their number, and how many it reads.

    >>> notation_of({"O": 7, "B_PER": 2, "I_PER": 1})
    (Notation(separator='_', is_suffix=False, is_lower=False, other_letters=()), 10)
    """
    total = sum(tags.values())
    best, most = Notation(), -1
    for notation in _notations():
        count = _count(notation, tags)
        if count > most:
            best, most = notation, count
        # All tags are read; a later notation could do no better.
        if most == total:
            break
    # B-I could be a B of the label I, or an I of the label B: which of the two occurs as a label tells.
    turned = replace(best, is_suffix=True)
    if not best.is_suffix and _stands_last(best, tags) and _count(turned, tags) == most:
        return turned, most
    return best, most


def _count(notation: Notation, tags: Mapping[str, int]) -> int:
    return sum(number for tag, number in tags.items() if notation.read(tag) is not None)


def _stands_last(notation: Notation, tags: Iterable[str]) -> bool:
    """Whether the letter of a scheme seems to stand last: S-B, S-I are of the label S, as no tag begins with B."""
    parts = [(notation.read(tag) or "O").partition("-") for tag in tags]
    letters, labels = {letter for letter, _, label in parts if label}, {label for _, _, label in parts if label}
    return "B" in labels and labels <= _LETTERS and "B" not in letters


def tag_share(cells: Iterable[str]) -> float:
    """The share of the cells that are tags in the notation that fits best.

    >>> tag_share(["B_PER", "O", "O", "我"])
    0.75
    """
    counts = Counter(cells)
    _, count = notation_of(dict(counts.most_common(400)))  # a column of words has more kinds than one of tags
    return count / max(1, counts.total())


def is_iob1(rows: Iterable[Sequence[str]]) -> bool:
    """Whether spans begin with I, and B only parts a span from one of the same label before it.

    >>> is_iob1([["I-PER", "B-PER", "O"]]), is_iob1([["B-PER", "O", "I-PER"]])
    (True, False)
    """
    begins = False
    for tags in rows:
        before = ("O", "")
        for tag in tags:
            now = split_tag(tag) or ("O", "")
            inside = before[0] != "O" and before[1] == now[1]
            if now[0] not in "OBI" or (now[0] == "B" and not inside):
                return False
            begins |= now[0] == "I" and not inside
            before = now
    return begins


def why_no_tag(tag: str) -> str:
    """Why a cell is not a tag, for a message."""
    hint = "outside of spans the tag is the letter O; " if tag == "0" else ""
    shown = repr(tag if len(tag) <= 60 else tag[:60] + "...")
    return (
        f"{shown} is not a tag; {hint}tags look like O, B-PER, I-PER (or M-), E-PER, S-PER, or B, M, E, S; "
        "B_PER, PER-B, b-PER and L-, U- are read too, one notation a file"
    )
