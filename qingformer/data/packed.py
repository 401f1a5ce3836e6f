"""Many token sequences in two flat arrays: eight times smaller than Python lists, and a batch is one gather."""

from array import array
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from qingformer.errors import DataError


class PackedFeatures:
    """Token and segment ids of n examples, stored end to end.

    `features` is an iterable of objects with `token_ids` and `segment_ids` (such as `Encoding`), or of pairs
    `(token_ids, segment_ids)`; a *tuple* of exactly two is read as `(all token ids, all segment ids)`. It is read once,
    so a generator will do. Sequences longer than `max_length` keep their first `max_length - 1` ids and their last one
    (the closing separator) and are counted in `truncated`.

    `token_types` is how many segments the encoder tells apart: with 1 all segment ids become 0.

    Attributes: `token_ids` (N,) int32 and `segment_ids` (N,) int8 with N the total length, `offsets` (n + 1,) int64.
    Raises `DataError` for no examples, an empty sequence, or ids and segments of unequal length.

    >>> packed = PackedFeatures([([2, 7, 3], [0, 0, 0]), ([2, 3], [0, 0])])
    >>> packed.lengths.tolist()
    [3, 2]
    """

    def __init__(
        self, features: Iterable[object], *, max_length: int | None = None, token_types: int | None = None
    ) -> None:
        # Flat arrays: a list of Python's numbers would take 28 bytes a token where these take 5.
        tokens, segments, ends = array("i"), array("b"), array("q", [0])
        self.truncated = 0
        for index, (ids, types) in enumerate(_pairs(features)):
            if len(ids) == 0 or len(ids) != len(types):
                raise DataError(
                    f"example {index}: {len(ids)} token ids and {len(types)} segment ids; both must hold "
                    "the same number, one or more: encode the text with a tokenizer first"
                )
            if max_length is not None and len(ids) > max_length:
                ids, types = _cut(ids, max_length), _cut(types, max_length)
                self.truncated += 1
            tokens.extend(map(int, ids))
            segments.extend(map(int, types))
            ends.append(len(tokens))
        if len(ends) == 1:
            raise DataError("no examples: there is nothing to make batches of")
        # The memory of the array itself, not a copy of it.
        self.token_ids = np.frombuffer(tokens, np.int32)
        self.segment_ids = np.frombuffer(segments, np.int8)
        if token_types == 1:
            self.segment_ids = np.zeros_like(self.segment_ids)
        elif token_types and int(self.segment_ids.max()) >= token_types:
            raise DataError(
                f"segment id {self.segment_ids.max()}, but the encoder has {token_types} (type_vocab_size); give "
                f"segment ids below {token_types}"
            )
        self.offsets = np.frombuffer(ends, np.int64)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> np.ndarray:
        """Length of every example, (n,) int64."""
        return np.diff(self.offsets)

    def gather(self, rows: np.ndarray, length: int, pad_token_id: int = 0) -> dict[str, np.ndarray]:
        """Model inputs of the examples `rows` (B,), each (B, length) int32; a row number of -1 gives a row of padding.

        Position 0 of a padding row stays unmasked, so that attention over it is finite.
        """
        filled = rows >= 0
        starts = np.where(filled, self.offsets[rows], 0)
        counts = np.where(filled, self.offsets[rows + 1] - self.offsets[rows], 0)
        steps = np.arange(length)
        keep = steps < counts[:, None]
        # (rows, length): one gather from the flat arrays fills the batch; what is beyond a text reads token 0 and is
        # masked.
        where = np.where(keep, starts[:, None] + steps, 0)
        mask = keep.astype(np.int32)
        # A row that only fills the batch keeps one key: attention over none has no meaning in some kernels.
        mask[~filled, 0] = 1
        return {
            "token_ids": np.where(keep, self.token_ids[where], np.int32(pad_token_id)).astype(np.int32),
            "segment_ids": np.where(keep, self.segment_ids[where], 0).astype(np.int32),
            "padding_mask": mask,
        }


def _pairs(features: Iterable[Any]) -> Iterable[tuple[Sequence[int], Sequence[int]]]:
    if isinstance(features, tuple) and len(features) == 2 and not hasattr(features[0], "token_ids"):
        if len(features[0]) != len(features[1]):
            raise DataError(f"{len(features[0])} rows of token ids but {len(features[1])} rows of segment ids")
        yield from zip(features[0], features[1])
        return
    for feature in features:
        if hasattr(feature, "token_ids"):
            yield feature.token_ids, feature.segment_ids
        else:
            token_ids, segment_ids = feature
            yield token_ids, segment_ids


def _cut(values: Sequence[int], length: int) -> list[int]:
    # The last special token stays: the model has seen no text without it.
    return [*values[: length - 1], values[-1]]
