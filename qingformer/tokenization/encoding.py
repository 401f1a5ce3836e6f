"""One encoded text: a view over what the Rust library computed, read out only when asked for."""

from collections.abc import Iterator, Sequence
from typing import overload

from tokenizers import Encoding as RustEncoding

from qingformer.tokenization.character_spans import Reading


class Encoding:
    """The tokens of one text or text pair; every property is computed when it is read, as a fresh list of length T.

    Offsets count characters (code points) of the original string: `text[start:end]` is what the token was made from,
    whatever lower-casing, stripping of accents or removal of control characters did in between. In a pair, each token's
    offsets refer to its own text; `sequence_ids` tells which. Spaces between words belong to no token, in any family.

    Example:
        >>> tokenizer = Tokenizer.from_vocabulary(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "天", "好"])
        >>> encoding = tokenizer.encode("天 好")
        >>> encoding.tokens, encoding.offsets
        (['[CLS]', '天', '好', '[SEP]'], [(0, 0), (0, 1), (2, 3), (0, 0)])
    """

    __slots__ = ("_reading", "_rust", "_texts")

    def __init__(
        self, rust: RustEncoding, reading: Reading | None = None, texts: tuple[str, str | None] = ("", None)
    ) -> None:
        self._rust = rust
        self._reading = reading
        self._texts = texts

    @property
    def token_ids(self) -> list[int]:
        """The id of each token, (T,)."""
        ids: list[int] = self._rust.ids
        return ids

    @property
    def segment_ids(self) -> list[int]:
        """0 for the first text and its special tokens, 1 for the second and its end token, (T,)."""
        ids: list[int] = self._rust.type_ids
        return ids

    @property
    def tokens(self) -> list[str]:
        """The vocabulary entry of each token, (T,); a word without entry is the unknown token."""
        if self._reading is not None:
            return [self._reading.vocabulary[index] for index in self._rust.ids]
        tokens: list[str] = self._rust.tokens
        return tokens

    @property
    def offsets(self) -> list[tuple[int, int]]:
        """The half-open span of characters of each token in its text, (T,); (0, 0) for added special tokens."""
        offsets: list[tuple[int, int]] = self._rust.offsets
        if self._reading is None:
            return offsets
        texts = [None if which is None else self._texts[which] for which in self.sequence_ids]
        return self._reading.spans(self._rust.ids, offsets, texts)

    @property
    def special_tokens_mask(self) -> list[int]:
        """1 where a special token was added around the text, 0 where the token comes from the text, (T,)."""
        mask: list[int] = self._rust.special_tokens_mask
        return mask

    @property
    def sequence_ids(self) -> list[int | None]:
        """0 for tokens of the first text, 1 for those of the second, None for added special tokens, (T,)."""
        ids: list[int | None] = self._rust.sequence_ids
        return ids

    def char_to_token(self, index: int, sequence: int = 0) -> int | None:
        """The position of the token that covers a character of text 0 or 1; None if none does (a space, cut off)."""
        if self._reading is None:
            position: int | None = self._rust.char_to_token(index, sequence)
            return position
        return next(iter(self._covering(index, index + 1, sequence)), None)

    def span_to_tokens(self, start: int, end: int, sequence: int = 0) -> tuple[int, int] | None:
        """The half-open range of tokens that cover the characters [start, end); None if no token does."""
        if self._reading is not None:
            positions = self._covering(start, end, sequence)
        else:
            covered = [self.char_to_token(index, sequence) for index in range(start, end)]
            positions = [position for position in covered if position is not None]
        return (min(positions), max(positions) + 1) if positions else None

    def _covering(self, start: int, end: int, sequence: int) -> list[int]:
        rows = enumerate(zip(self.offsets, self.sequence_ids))
        return [place for place, ((first, last), which) in rows if which == sequence and first < end and last > start]

    def __len__(self) -> int:
        return len(self._rust)

    def __repr__(self) -> str:
        return f"Encoding(tokens={self.tokens})"


class Encodings(Sequence[Encoding]):
    """The encodings of a batch: a list to the eye, whose views are made when one is asked for.

    Keeping the views would double the objects of a large data set that Python's garbage collector has to visit.
    """

    __slots__ = ("_pairs", "_reading", "_rust", "_texts")

    def __init__(
        self,
        rust: list[RustEncoding],
        reading: Reading | None = None,
        texts: Sequence[str] = (),
        pairs: Sequence[str] | None = None,
    ) -> None:
        """`texts` and `pairs` are read only where there is a `reading`."""
        self._rust = rust
        self._reading = reading
        self._texts = texts if reading is not None else ()
        self._pairs = pairs if reading is not None else None

    @overload
    def __getitem__(self, index: int) -> Encoding: ...

    @overload
    def __getitem__(self, index: slice) -> "Encodings": ...

    def __getitem__(self, index: int | slice) -> "Encoding | Encodings":
        if isinstance(index, slice):
            pairs = None if self._pairs is None else self._pairs[index]
            return Encodings(self._rust[index], self._reading, self._texts[index], pairs)
        if self._reading is None:
            return Encoding(self._rust[index])
        pair = None if self._pairs is None else self._pairs[index]
        return Encoding(self._rust[index], self._reading, (self._texts[index], pair))

    def __iter__(self) -> Iterator[Encoding]:
        return map(Encoding, self._rust) if self._reading is None else map(self.__getitem__, range(len(self)))

    def __len__(self) -> int:
        return len(self._rust)

    def __repr__(self) -> str:
        return f"Encodings({len(self)} texts)"
