"""Tag schemes: spans of tokens as one tag a token, and back.

Prefixes: B begins a span, I (or M) continues it, E ends it, S is a span of one token; O is outside of every span.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from qingformer.data.spans import Span
from qingformer.errors import DataError

SCHEMES = ("bio", "bioes", "bmes")
WORD = "word"

_PREFIXES = {"bio": "BI", "bioes": "BIES", "bmes": "BMES"}
_TAG = re.compile(r"O|([BIMES])(?:-(.+))?")
_OUTSIDE = ("O", "")

Parts = tuple[str, str]


@dataclass(frozen=True)
class TagScheme:
    """The tags of `labels` in the scheme `name`, one of `SCHEMES`; a tag's number is its place in `tags`.

    "bio": O, B-x, I-x, ...; "bioes": O, B-x, I-x, E-x, S-x, ...; "bmes": O, B-x, M-x, E-x, S-x, ..., and for the labels
    `("word",)`, of word segmentation, B, M, E, S alone, where every token is part of a word.

    Raises `DataError` for an unknown scheme, no labels, an empty or a repeated label.

    >>> TagScheme("bio", ["LOC"]).tags
    ('O', 'B-LOC', 'I-LOC')
    """

    name: str
    labels: Sequence[str]
    tags: tuple[str, ...] = field(init=False, compare=False)

    def __post_init__(self) -> None:
        labels = tuple(self.labels)
        if self.name not in SCHEMES:
            raise DataError(f"tag scheme {self.name!r} is not known; choose one of {', '.join(SCHEMES)}")
        if isinstance(self.labels, str) or not labels or "" in labels or len(set(labels)) < len(labels):
            raise DataError(
                f"tag scheme {self.name}: labels {self.labels!r}; give a list of at least one label, "
                "none empty and none twice"
            )
        if self.segments:
            tags = tuple(_PREFIXES[self.name])
        else:
            tags = ("O", *(f"{prefix}-{label}" for label in labels for prefix in _PREFIXES[self.name]))
        object.__setattr__(self, "labels", labels)
        object.__setattr__(self, "tags", tags)

    @property
    def segments(self) -> bool:
        """Whether these are the bare tags of word segmentation, B, M, E, S without O."""
        return self.name == "bmes" and tuple(self.labels) == (WORD,)

    def encode(self, spans: Iterable[Span], length: int) -> np.ndarray:
        """Tag numbers (length,) int32 of disjoint `spans` of tokens.

        Raises `DataError` for spans that overlap, are empty, reach outside or have another label, and for tokens in no
        word where there is no tag O.

        >>> TagScheme("bio", ["LOC", "PER"]).encode([Span(1, 3, "PER")], 4).tolist()
        [0, 3, 4, 0]
        """
        numbers = {tag: number for number, tag in enumerate(self.tags)}
        # -1 where the scheme has no O: with B, M, E, S every token must be in a word.
        codes = np.full(length, numbers.get("O", -1), np.int32)
        before: Span | None = None
        for span in sorted(Span(*span) for span in spans):
            if span.label not in self.labels:
                raise DataError(f"span {tuple(span)}: the label is not one of {', '.join(self.labels)}")
            if not 0 <= span.start < span.end <= length:
                raise DataError(f"span {tuple(span)} is empty or not inside the {length} tokens from 0")
            if before is not None and span.start < before.end:
                raise DataError(
                    f"spans {tuple(before)} and {tuple(span)} overlap, but a token has one tag; "
                    "keep one of them (longest_disjoint does)"
                )
            suffix = "" if self.segments else f"-{span.label}"
            codes[span.start : span.end] = [
                numbers[prefix + suffix] for prefix in self._prefixes(span.end - span.start)
            ]
            before = span
        if length and codes.min() < 0:
            raise DataError(
                f"token {int(codes.argmin())} is in no word; with the tags {', '.join(self.tags)} every token must be"
            )
        return codes

    def decode(self, tags: Sequence[int]) -> list[Span]:
        """The spans of tokens that tag numbers stand for; impossible sequences are read as `tags_to_spans` does.

        >>> TagScheme("bio", ["LOC", "PER"]).decode([0, 3, 4, 2])
        [Span(start=1, end=3, label='PER'), Span(start=3, end=4, label='LOC')]
        """
        parts = [_parts(tag) for tag in self.tags]
        return list(_tolerant([parts[number] for number in np.asarray(tags).tolist()]))

    def allowed(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Which tags may follow which (L, L), row the tag before; may begin (L,); may end a sequence (L,): all bool.

        >>> TagScheme("bio", ["LOC"]).allowed()[0].astype(int).tolist()
        [[1, 1, 0], [1, 1, 1], [1, 1, 1]]
        """
        parts = [_parts(tag) for tag in self.tags]
        # (tags, tags), row before column; begins and ends are the same with nothing before or after.
        follows = np.array([[may_follow(before, after, self.name) for after in parts] for before in parts])
        begins = np.array([may_follow(_OUTSIDE, after, self.name) for after in parts])
        ends = np.array([may_follow(before, _OUTSIDE, self.name) for before in parts])
        return follows, begins, ends

    def _prefixes(self, length: int) -> str:
        inner = "M" if self.name == "bmes" else "I"
        if self.name == "bio":
            return "B" + inner * (length - 1)
        return "S" if length == 1 else "B" + inner * (length - 2) + "E"


@lru_cache(maxsize=4096)
def split_tag(tag: str) -> Parts | None:
    """Prefix and label of a tag, the label "word" if it has none: ("O", "") of O; None if it is no tag.

    >>> split_tag("B-PER.NAM"), split_tag("S"), split_tag("B-")
    (('B', 'PER.NAM'), ('S', 'word'), None)
    """
    match = _TAG.fullmatch(tag)
    if match is None:
        return None
    return _OUTSIDE if match[1] is None else (match[1], match[2] or WORD)


def scheme_of(prefixes: Iterable[str]) -> str:
    """The narrowest scheme that has these prefixes: "bio", "bmes" if there is an M, else "bioes".

    >>> scheme_of("OBI"), scheme_of("OBIS"), scheme_of("BMES")
    ('bio', 'bioes', 'bmes')
    """
    found = set(prefixes)
    return "bmes" if "M" in found else "bioes" if found & {"E", "S"} else "bio"


def may_follow(before: Parts, after: Parts, scheme: str) -> bool:
    """Whether `scheme` lets one tag follow another, both as `split_tag` gives them; O also stands for both borders."""
    is_open = before[0] in "BIM"
    if after[0] in "IME":
        return is_open and before[1] == after[1]
    return scheme == "bio" or not is_open


def tags_to_spans(tags: Sequence[str], scheme: str | None = None, strict: bool = False) -> list[Span]:
    """The spans of tokens that a row of tags stands for.

    Impossible rows are read as the conlleval script and seqeval do by default: a span begins where the label changes,
    at B and S, and at any other tag after O, E or S; it ends where the label changes, after E and S, and before O, B
    and S. With `strict` only well-formed spans count, as in seqeval's strict mode: B I ... I in "bio", and in the
    others S or B I ... I E, each of one label.

    Args:
        tags: O, B-x, I-x, M-x (as I), E-x, S-x; tags without a label have the label "word".
        scheme: one of `SCHEMES`, or None for the narrowest with all the prefixes in `tags`.

    Raises `DataError` for what is no tag, or no tag of `scheme`.

    >>> tags_to_spans(["I-PER", "I-PER", "O", "B-LOC"])
    [Span(start=0, end=2, label='PER'), Span(start=3, end=4, label='LOC')]
    >>> tags_to_spans(["I-PER", "I-PER", "O", "B-LOC"], strict=True)
    [Span(start=3, end=4, label='LOC')]
    """
    if scheme is not None and scheme not in SCHEMES:
        raise DataError(f"tag scheme {scheme!r} is not known; choose one of {', '.join(SCHEMES)}")
    parts = [_parts(tag) for tag in tags]
    for tag, (prefix, _) in zip(tags, parts):
        if scheme is not None and prefix not in "O" + _PREFIXES[scheme]:
            raise DataError(f"tag {tag!r} is not of the scheme {scheme}, whose tags begin with {_PREFIXES[scheme]}")
    if strict:
        return list(_strict(parts, scheme or scheme_of(prefix for prefix, _ in parts)))
    return list(_tolerant(parts))


def _parts(tag: str) -> Parts:
    parts = split_tag(tag)
    if parts is None:
        raise DataError(f"{tag!r} is not a tag; tags look like O, B-PER, I-PER (or M-), E-PER, S-PER, or B, M, E, S")
    return parts


def _tolerant(parts: Sequence[Parts]) -> Iterator[Span]:
    start, before, label = 0, "O", ""
    for place, (prefix, now) in enumerate([*parts, _OUTSIDE]):
        # As seqeval and conlleval read tags: whatever cannot go on ends the span, and I begins one where none is open.
        if before != "O" and (before in "ES" or prefix in "OBS" or now != label):
            yield Span(start, place, label)
        if prefix != "O" and (prefix in "BS" or before in "OES" or now != label):
            start = place
        before, label = prefix, now


def _strict(parts: Sequence[Parts], scheme: str) -> Iterator[Span]:
    start: int | None = None
    label = ""
    for place, (prefix, now) in enumerate([*parts, _OUTSIDE]):
        if start is not None and not (prefix in "IME" and now == label):
            if scheme == "bio":
                yield Span(start, place, label)
            start = None
        if start is not None and prefix == "E":
            yield Span(start, place + 1, label)
            start = None
        if prefix == "S":
            yield Span(place, place + 1, now)
        elif prefix == "B":
            start, label = place, now
