"""Which example stands where: the order of batches as a pure function of lengths, seed and epoch."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Plan:
    """The batches of one epoch.

    `rows` (num_batches, batch_size) int64 holds example numbers, -1 where a batch is padded to full size;
    `lengths` (num_batches,) int64 holds the width of every batch.
    """

    rows: np.ndarray
    lengths: np.ndarray


def bucket_of(lengths: np.ndarray, buckets: Sequence[int]) -> np.ndarray:
    """Number of the narrowest bucket that holds each length, (n,) int64; `buckets` ascend and hold every length.

    >>> bucket_of(np.array([3, 16, 17]), (16, 32)).tolist()
    [0, 0, 1]
    """
    return np.searchsorted(np.asarray(buckets), lengths, side="left")


def promotions(counts: Sequence[int], batch_size: int) -> list[tuple[int, int, int]]:
    """Leftovers that ride for nothing: `(from bucket, to bucket, how many)`.

    A bucket of n examples leaves n mod batch_size of them in a batch of its own, mostly padding. Where a wider bucket
    has as many empty places in its last batch, they go there and that batch disappears. The numbers of batches depend
    on `counts` alone, so that every epoch has the same number of steps.

    >>> promotions([5, 3], batch_size=4)
    [(0, 1, 1)]
    """
    counts, moves = list(counts), []
    for narrow in range(len(counts)):
        # The rows of the last, half-empty batch of this width go where they fill a hole of a wider one: a batch less.
        left = counts[narrow] % batch_size
        for wide in range(narrow + 1, len(counts)):
            if left and left <= -counts[wide] % batch_size:
                counts[narrow] -= left
                counts[wide] += left
                moves.append((narrow, wide, left))
                break
    return moves


def make_plan(bucket: np.ndarray, buckets: Sequence[int], batch_size: int, key: tuple[int, int] | None) -> Plan:
    """Batches of one epoch: every bucket shuffled and cut, then the batches shuffled; `key` None keeps input order.

    `bucket` (n,) is each example's bucket number and `key` is `(seed, epoch)`. The random numbers are raw PCG64 words,
    whose stream NumPy guarantees, so that the order does not change with the NumPy version.
    The first two batches differ in width where they can: Keras on TensorFlow derives its input signature from them.
    """
    # The bit stream of PCG64 is fixed for good; that of `Generator.permutation` may change between versions of NumPy.
    words = None if key is None else np.random.PCG64(np.random.SeedSequence(key))
    groups = [_shuffled(np.flatnonzero(bucket == number), words) for number in range(len(buckets))]
    for narrow, wide, count in promotions([len(group) for group in groups], batch_size):
        groups[wide] = _shuffled(np.concatenate([groups[wide], groups[narrow][-count:]]), words)
        groups[narrow] = groups[narrow][:-count]
    rows, lengths = [], []
    for group, length in zip(groups, buckets):
        # Rounded up to whole batches.
        padded = np.full(-(-len(group) // batch_size) * batch_size, -1, np.int64)
        padded[: len(group)] = group
        rows.append(padded.reshape(-1, batch_size))
        lengths.append(np.full(len(rows[-1]), length, np.int64))
    all_rows, all_lengths = np.concatenate(rows), np.concatenate(lengths)
    order = _shuffled(np.arange(len(all_rows)), words)
    # The second batch gets another width than the first where there is one: TensorFlow fixes shapes by these two.
    other = np.flatnonzero(all_lengths[order] != all_lengths[order[0]])
    if len(other):
        order[[1, other[0]]] = order[[other[0], 1]]
    return Plan(all_rows[order], all_lengths[order])


def _shuffled(values: np.ndarray, words: np.random.PCG64 | None) -> np.ndarray:
    if words is None:
        return values
    # A stable sort by 64 random bits: a shuffle that every version and platform gives alike.
    return values[np.argsort(words.random_raw(len(values)), kind="stable")]
