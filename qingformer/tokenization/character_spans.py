"""Which characters a token stands for, where the Rust library counts spaces or leaves out marks."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from qingformer.tokenization.characters import SPACE

Span = tuple[int, int]
# Marks, and the vowels and final consonants of Hangul: composition has made them one with what is before them.
_MARKS = re.compile(r"[\u0300-\u036f\u1160-\u11ff\u3099\u309a\uff9e\uff9f]+")
# What normalisation takes for a space: with the characters of no width.
_SPACES = " \t\n\r\x0b\x0c\x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u200b\u200c"
_SPACES += "\u200d\u200e\u200f\u2028\u2029\u202f\u205f\u2581\u3000\ufeff"
_STARTS = (SPACE, "\u0120")  # a space, as SentencePiece and as GPT-2 write it
_BYTE = re.compile(r"<0x([0-9A-F]{2})>")


@dataclass(frozen=True)
class Reading:
    """What encodings need to be read: the tokens by id, and the ids of added tokens that take spaces beside them.

    With `exact` the library's own offsets are right but for those spaces, as in BERT's algorithm.
    """

    vocabulary: Sequence[str]
    greedy: frozenset[int] = frozenset()
    exact: bool = False

    def spans(self, token_ids: Sequence[int], offsets: Sequence[Span], texts: Sequence[str | None]) -> list[Span]:
        """The spans without the spaces that a token begins with; `texts` names each token's text, None for added ones.

        A space before a word belongs to no token; only a token of nothing but spaces has them. The mark of a space that
        the text does not have has an empty span. The bytes of an unknown character have the span of that character.
        """
        offsets = [
            _stripped(text, span) if index in self.greedy and text is not None else span
            for index, span, text in zip(token_ids, offsets, texts)
        ]
        if self.exact:
            return offsets
        tokens = [self.vocabulary[index] for index in token_ids]
        following = [start for start, _ in offsets[1:]] + [-1]
        spans = [_trimmed(*row) for row in zip(tokens, offsets, texts, following)]
        for place, (span, text) in enumerate(zip(spans, texts)):
            if text is not None and span[0] < span[1] < len(text):
                after = offsets[place + 1] if place + 1 < len(spans) and texts[place + 1] is text else None
                spans[place] = _with_marks(text, span, after)
        return _split_bytes(tokens, spans, texts)


def _trimmed(token: str, span: Span, text: str | None, following: int) -> Span:
    start, end = span
    if text is None or not token.startswith(_STARTS):
        return span
    word = text[start:end].lstrip(_SPACES)
    if token == SPACE and (word or following == start):  # a mark of its own in front of the next token
        return start, start
    return (end - len(word), end) if word else span


def _stripped(text: str, span: Span) -> Span:
    start, end = span
    word = text[start:end].strip()
    start = text.index(word, start)
    return start, start + len(word)


def _with_marks(text: str, span: Span, following: Span | None) -> Span:
    marks = _MARKS.match(text, span[1])
    if marks is None:
        return span
    end = marks.end() if following is None else min(marks.end(), max(following[0], span[1]))
    return span[0], end


def _split_bytes(tokens: Sequence[str], spans: list[Span], texts: Sequence[str | None]) -> list[Span]:
    """A run of bytes with one span over several characters: each byte gets its own character, if they are as many."""
    place = 0
    while place < len(tokens):
        start, end = spans[place]
        last = place
        if end - start > 1 and _BYTE.fullmatch(tokens[place]):
            while last < len(tokens) and spans[last] == (start, end) and _BYTE.fullmatch(tokens[last]):
                last += 1
            raw = bytes(int(token[3:5], 16) for token in tokens[place:last])
            lengths = [len(character.encode()) for character in raw.decode(errors="ignore")]
            if len(lengths) == end - start and sum(lengths) == len(raw):
                own = [(start + k, start + k + 1) for k, length in enumerate(lengths) for _ in range(length)]
                spans[place:last] = own
        place = max(last, place + 1)
    return spans
