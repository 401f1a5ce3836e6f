"""Batches that hold labelled and unlabelled rows, for training on both at once."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from qingformer.data.batches import PaddedBatches
from qingformer.data.packed import PackedFeatures
from qingformer.data.plan import bucket_of
from qingformer.errors import DataError


class MixedBatches(PaddedBatches):
    """`PaddedBatches` of the labelled examples, each followed by `unlabelled_rows` unlabelled ones of weight 0.

    Item i is `(inputs, labels, sample_weights)` with `batch_size + unlabelled_rows` rows: first the labelled ones (and
    their rows of padding), then the unlabelled ones with label 0 and weight 0. An epoch is a pass over the labelled
    examples; the unlabelled ones of each width go by in an order of their own, each once before any comes again. Those
    of the width of the batch are taken; where that width has none, shorter ones, and otherwise longer ones, cut.

    Models of ours take the loss over the rows that have a weight, so it is what it is without the others; a plain
    `keras.Model` divides by all rows, unless its loss has the reduction "mean_with_sample_weight".

    Args:
        features, labels, sample_weights, batch_size: the labelled examples, and how many of them are in a batch.
        unlabelled: the others, as `features`.
        unlabelled_rows: how many of those are in a batch, >= 1.
        options: the other arguments of `PaddedBatches`. What batch i of an epoch holds depends on `seed` and `shuffle`
            alone, so a run can be resumed.

    Raises `DataError` as `PaddedBatches`, and for fewer rows than one.

    >>> labelled, others = [([2, 7, 3], [0, 0, 0])] * 2, [([2, 9, 9, 3], [0] * 4)] * 5
    >>> batches = MixedBatches(labelled, [0, 1], unlabelled=others, batch_size=2, unlabelled_rows=3, buckets=(8,))
    >>> inputs, labels, weights = batches[0]
    >>> inputs["token_ids"].shape, weights.tolist()
    ((5, 8), [1.0, 1.0, 0.0, 0.0, 0.0])
    """

    def __init__(
        self,
        features: Iterable[Any],
        labels: Any,
        sample_weights: Any = None,
        *,
        unlabelled: Iterable[Any],
        unlabelled_rows: int,
        **options: Any,
    ) -> None:
        if unlabelled_rows < 1:
            raise DataError(f"unlabelled_rows={unlabelled_rows}: a mixed batch has at least one unlabelled row")
        self.unlabelled_rows = unlabelled_rows
        super().__init__(features, labels, sample_weights, **options)
        self._others = PackedFeatures(unlabelled, max_length=self.buckets[-1], token_types=self.token_types)
        self.truncated += self._others.truncated
        width = bucket_of(self._others.lengths, self.buckets)
        every = [np.flatnonzero(width == number) for number in range(len(self.buckets))]
        filled = [number for number, rows in enumerate(every) if len(rows)]
        # What a batch of each width takes from: its own width, else the next narrower, else the next wider.
        self._pools = [
            every[max((n for n in filled if n <= number), default=filled[0])] for number in range(len(self.buckets))
        ]

    def _item(self, index: int) -> tuple[Any, ...]:
        inputs, labels, weights = super()._item(index)
        plan, batch = self._plan_of(self.epoch), self._first + index
        length = int(plan.lengths[batch])
        # Every epoch has the same number of batches of a width, so this counts those of the whole run before this one.
        before = self.epoch * int((plan.lengths == length).sum()) + int((plan.lengths[:batch] == length).sum())
        # By the position in the run alone, so that a run that is resumed meets the texts that it would have met.
        rows = self._rows(self.buckets.index(length), before)
        found = self._others.gather(rows, length, self.pad_token_id)
        mixed = {name: np.concatenate([array, found[name]]) for name, array in inputs.items()}
        # Labels of the right shape without meaning: their weight of 0 keeps them out of the loss.
        blank = np.zeros((self.unlabelled_rows, *labels.shape[1:]), labels.dtype)
        nothing = np.zeros(self.unlabelled_rows, np.float32)
        return mixed, np.concatenate([labels, blank]), np.concatenate([weights, nothing])

    def _rows(self, bucket: int, before: int) -> np.ndarray:
        """The unlabelled examples of the batch that comes after `before` batches of its width."""
        pool = self._pools[bucket]
        places = before * self.unlabelled_rows + np.arange(self.unlabelled_rows)
        rounds = places // len(pool)
        orders = {int(r): self._order_of(len(pool), bucket, int(r)) for r in np.unique(rounds)}
        return np.array([pool[orders[int(r)][place % len(pool)]] for r, place in zip(rounds, places)])

    def _order_of(self, count: int, bucket: int, turn: int) -> np.ndarray:
        if not self.shuffle:
            return np.arange(count)
        words = np.random.PCG64(np.random.SeedSequence((self.seed, bucket, turn, 1))).random_raw(count)
        return np.argsort(words, kind="stable")
