"""The special tokens around one text or two, as the tokenizer puts them."""

from collections.abc import Sequence
from dataclasses import dataclass

from qingformer.tokenization import Tokenizer


@dataclass(frozen=True)
class SpecialTokenTemplate:
    """The special tokens that a tokenizer puts around one text."""

    before: list[int]
    after: list[int]

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> "SpecialTokenTemplate":
        """Read off from what the tokenizer makes of one letter."""
        encoding = tokenizer.encode("a")
        inner = [place for place, special in enumerate(encoding.special_tokens_mask) if not special]
        return cls(encoding.token_ids[: inner[0]], encoding.token_ids[inner[-1] + 1 :])

    def __len__(self) -> int:
        return len(self.before) + len(self.after)


@dataclass(frozen=True)
class PairTemplate:
    """The special tokens before, between and after two texts, and the segments of the two sides."""

    before: list[int]
    between: list[int]
    after: list[int]
    segments: tuple[int, int]

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> "PairTemplate":
        """Read off from what the tokenizer makes of two letters."""
        encoding = tokenizer.encode("a", "a")
        ids, which = encoding.token_ids, encoding.sequence_ids
        left = [place for place, side in enumerate(which) if side == 0]
        right = [place for place, side in enumerate(which) if side == 1]
        segments = encoding.segment_ids
        return cls(
            ids[: left[0]], ids[left[-1] + 1 : right[0]], ids[right[-1] + 1 :],
            (segments[left[0]], segments[right[0]]),
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self.before) + len(self.between) + len(self.after)

    def joined(self, left: Sequence[int], right: Sequence[int]) -> tuple[list[int], list[int]]:
        """Token and segment ids of two sides."""
        head, tail = [*self.before, *left, *self.between], [*right, *self.after]
        return [*head, *tail], [self.segments[0]] * len(head) + [self.segments[1]] * len(tail)
