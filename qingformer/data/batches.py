"""Length-bucketed batches of full, static shape, in an order that can be resumed anywhere."""

import warnings
from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import cached_property
from typing import Any

import keras
import numpy as np

from qingformer.data.fingerprint import fingerprint
from qingformer.data.packed import PackedFeatures
from qingformer.data.padded_labels import RowLabels
from qingformer.data.plan import Plan, bucket_of, make_plan
from qingformer.errors import DataError
from qingformer.types import Nest, Values

Inputs = dict[str, np.ndarray]
_POSITION = {"epoch", "_first", "_begun", "_read", "_plan", "_last"}  # where a run stands, not what it reads


class PaddedBatches(keras.utils.PyDataset):
    """Batches for `Model.fit`, `evaluate` and `predict`, padded to few lengths so that nothing recompiles.

    Item i is `(inputs, labels, sample_weights)`, or `(inputs,)` without labels. `inputs` holds `token_ids`,
    `segment_ids` and `padding_mask` (1 = keep), each (batch_size, T) int32 with T one of `buckets`; `sample_weights` is
    (batch_size,) float32. An example goes to the narrowest bucket that holds it; longer ones are cut to the widest
    bucket and counted in `truncated`. The last batch of a bucket is padded to full size with rows of weight 0.
    The order of batches is a pure function of `(seed, epoch)`; without `shuffle` it is the same in every epoch.

    Args:
        features: objects with `token_ids` and `segment_ids`, or pairs of the two (see `PackedFeatures`).
        labels: (n, ...) array; or an object with a length and `gather(rows, length)`, the labels of a batch, blank for
            rows of -1 (see `qingformer.data.padded_labels`); or None for prediction.
        sample_weights: (n,) array, or None for 1.0 each.
        start: `(epoch, batch)` to begin with. The first epoch then has `batch` items less.
        inputs: which of the three inputs the model has; Keras would take a superfluous one for another.
        token_types: how many segments the encoder tells apart, if any: with 1 all segment ids are 0.
        more_inputs: further inputs by name, (n, ...) arrays or objects with `gather`.

    With Keras pass `shuffle=False` to `fit`: otherwise it draws an order of its own, which nobody can resume (a warning
    says so). Exact resume: `fit` reads the number of batches once, and may look at a batch before the first epoch. So
    finish a half-done epoch e in a `fit` of its own (`initial_epoch=e, epochs=e + 1`), go on with a second `fit`, and
    call `start_at(epoch, batch)` from a callback's `on_epoch_begin`, which comes after any such look.

    Raises `DataError` for no examples, or labels or weights that are not one for each example.

    >>> batches = PaddedBatches([([2, 7, 3], [0, 0, 0])] * 5, np.arange(5), batch_size=4, buckets=(8,), shuffle=False)
    >>> inputs, labels, weights = batches[1]
    >>> inputs["token_ids"].shape, weights.tolist()
    ((4, 8), [1.0, 0.0, 0.0, 0.0])
    """

    pads_rows = True  # models of ours then take means over the rows whose weight is not 0

    def __init__(
        self,
        features: Iterable[object],
        labels: object = None,
        sample_weights: Nest = None,
        *,
        batch_size: int = 32,
        buckets: Sequence[int] = (16, 32, 64, 128, 256, 512),
        shuffle: bool = True,
        seed: int = 0,
        pad_token_id: int = 0,
        start: tuple[int, int] = (0, 0),
        inputs: Collection[str] = ("token_ids", "segment_ids", "padding_mask"),
        more_inputs: Values | None = None,
        token_types: int | None = None,
    ) -> None:
        super().__init__(workers=1)  # with more, Keras gives batches of one epoch in the next
        # Sorted, so that the narrowest bucket that holds an example is found by binary search.
        self.buckets = tuple(sorted({int(length) for length in buckets}))
        if batch_size < 1 or not self.buckets or self.buckets[0] < 2:
            raise DataError(
                f"batch_size={batch_size}, buckets={tuple(buckets)}: the batch size must be 1 or more, and "
                "there must be at least one bucket, none shorter than 2 tokens"
            )
        self.batch_size, self.shuffle, self.seed, self.pad_token_id = batch_size, shuffle, seed, pad_token_id
        self.inputs, self.token_types = frozenset(inputs), token_types
        self._features = PackedFeatures(features, max_length=self.buckets[-1], token_types=token_types)
        self.truncated = self._features.truncated
        self._labels = None if labels is None else self._gathering("labels", labels)
        self._more = {name: self._gathering(name, values) for name, values in (more_inputs or {}).items()}
        # Weights are always given: rows that only fill the last batch need a weight of 0, and all batches one
        # structure.
        weights = np.ones(self.num_examples) if sample_weights is None else np.asarray(sample_weights)
        self._weights = _column("sample_weights", weights.astype(np.float32), self.num_examples)
        self._bucket = bucket_of(self._features.lengths, self.buckets)
        self._plan: tuple[int, Plan] | None = None
        self._last = -1
        self.start_at(*start)

    @property
    def num_examples(self) -> int:
        """Number of examples, n."""
        return len(self._features)

    @property
    def batches_per_epoch(self) -> int:
        """Number of batches of a whole epoch; the same for every epoch."""
        return len(self._plan_of(self.epoch).rows)

    @cached_property
    def fingerprint(self) -> str:
        """A hash of all that the batches are made of: another text, label or weight makes another one."""
        own = {key: value for key, value in self.__dict__.items() if key not in _POSITION}
        return fingerprint({key: value for key, value in own.items() if key not in vars(keras.utils.PyDataset())})

    @property
    def padding_fraction(self) -> float:
        """Share of all positions of an epoch that hold no token, between 0 and 1."""
        positions = self._plan_of(self.epoch).lengths.sum() * self.batch_size
        return float(1 - self._features.offsets[-1] / positions)

    def examples_before(self, epoch: int) -> np.ndarray:
        """How many examples there are before each batch of an epoch, and in all of it, (batches_per_epoch + 1,)."""
        # Rows of -1 fill up the last batch of a bucket and are no examples.
        counts = (self._plan_of(epoch).rows >= 0).sum(axis=1)
        return np.concatenate([[0], np.cumsum(counts)])

    def index_ranges(self) -> dict[str, tuple[int, int]]:
        """The least and the largest id of the token and segment ids that the model is given."""
        return {
            name: (min(0, int(values.min())), int(values.max()))
            for name, values in (("token_ids", self._features.token_ids), ("segment_ids", self._features.segment_ids))
            if name in self.inputs
        }

    def start_at(self, epoch: int, batch: int = 0) -> None:
        """Make item 0 the batch number `batch` of epoch number `epoch`; raises `DataError` where there is none."""
        self.epoch, self._first, self._begun = int(epoch), int(batch), False
        self._read: set[int] = set()
        if epoch < 0 or not 0 <= batch < self.batches_per_epoch:
            raise DataError(f"start=({epoch}, {batch}): an epoch has batches 0 to {self.batches_per_epoch - 1}")

    def order(self, epoch: int | None = None) -> np.ndarray:
        """Example numbers of a whole epoch, (batches_per_epoch, batch_size) int64, -1 for rows of padding."""
        return self._plan_of(self.epoch if epoch is None else epoch).rows.copy()

    def restore_order(self, outputs: object, epoch: int = 0) -> np.ndarray:
        """Put `predict`'s (batches_per_epoch * batch_size, ...) outputs in input order, (n, ...), padding dropped.

        >>> features = [([2] * n, [0] * n) for n in (9, 3, 12)]
        >>> batches = PaddedBatches(features, batch_size=2, buckets=(4, 16), shuffle=False)
        >>> widths = np.concatenate([inputs["padding_mask"].sum(1) for inputs, in batches])
        >>> batches.restore_order(widths).tolist()
        [9, 3, 12]
        """
        outputs, rows = np.asarray(outputs), self.order(epoch).reshape(-1)
        if len(outputs) != len(rows):
            raise DataError(f"{len(outputs)} outputs for {len(rows)} rows: pass what predict gave for one whole epoch")
        # Every example stands in exactly one row, so nothing of this stays as it is made.
        restored = np.empty((self.num_examples, *outputs.shape[1:]), outputs.dtype)
        restored[rows[rows >= 0]] = outputs[rows >= 0]
        return restored

    def __len__(self) -> int:
        return self.batches_per_epoch - self._first

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        # TensorFlow fixes the shapes of a data set by its first two batches: two of one width would fix the width as
        # well.
        if index == 1 and self._probed_by_tensorflow():
            index = self._other_width()
        if self._begun and self.shuffle and index not in (0, self._last + 1):
            warnings.warn(
                "Keras reads the batches in an order of its own; pass shuffle=False to fit, or this run "
                "cannot be resumed exactly",
                stacklevel=2,
            )
        self._last = index
        return self._item(index)

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        for index in range(len(self)):
            yield self._item(index)

    def on_epoch_begin(self) -> None:
        """Called by Keras before the first batch of an epoch."""
        self._begun = True

    def on_epoch_end(self) -> None:
        """Go to the next epoch if all batches of this one have been read (Keras also calls this before the first)."""
        self._begun = False
        # Keras also ends an epoch early (steps_per_epoch): only one that was read whole is followed by the next.
        if len(self._read) == len(self):
            self.start_at(self.epoch + 1)

    def _item(self, index: int) -> tuple[Any, ...]:
        if not 0 <= index < len(self):
            raise IndexError(f"batch {index} of {len(self)}")
        plan = self._plan_of(self.epoch)
        rows, length = plan.rows[self._first + index], int(plan.lengths[self._first + index])
        self._read.add(index)
        found = self._features.gather(rows, length, self.pad_token_id)
        inputs: Inputs = {name: array for name, array in found.items() if name in self.inputs}
        inputs |= {name: values.gather(rows, length) for name, values in self._more.items()}
        if self._labels is None:
            return (inputs,)
        weights = np.where(rows >= 0, self._weights[rows], 0).astype(np.float32)
        return inputs, self._labels.gather(rows, length), weights

    def _gathering(self, name: str, values: Any) -> Any:
        """`values` as an object that gives the rows of a batch."""
        if hasattr(values, "gather"):
            if len(values) != self.num_examples:
                raise DataError(f"{name}: {len(values)} for {self.num_examples} examples; there must be one for each")
            return values
        return RowLabels(_column(name, _as_labels(values), self.num_examples))

    def _plan_of(self, epoch: int) -> Plan:
        # Without shuffling all epochs have the one plan.
        epoch = epoch if self.shuffle else 0
        cached = self._plan
        if cached is None or cached[0] != epoch:
            key = (self.seed, epoch) if self.shuffle else None
            cached = (epoch, make_plan(self._bucket, self.buckets, self.batch_size, key))
            self._plan = cached  # one assignment: worker threads see the old pair or the new one
        return cached[1]

    def _probed_by_tensorflow(self) -> bool:
        """Whether Keras on TensorFlow is looking at items 0 and 1 to learn which dimensions vary.

        A whole epoch begins with two widths (see `make_plan`), the rest of one may not, and a width the signature does
        not allow would stop training.
        """
        return self._first > 0 and not self._begun and keras.backend.backend() == "tensorflow"

    def _other_width(self) -> int:
        lengths = self._plan_of(self.epoch).lengths[self._first :]
        other = np.flatnonzero(lengths != lengths[0])
        return int(other[0]) if len(other) else 1


def _as_labels(labels: object) -> np.ndarray:
    array = np.asarray(labels)
    if array.dtype.kind not in "biuf":
        raise DataError(f"labels of type {array.dtype}: turn names into numbers first")
    # The widths that all three libraries compute with by default; int64 would be cut on JAX with a warning a batch.
    return array.astype(np.float32 if array.dtype.kind == "f" else np.int32)


def _column(name: str, values: np.ndarray, count: int) -> np.ndarray:
    if values.ndim == 0 or len(values) != count:
        found = "a single value" if values.ndim == 0 else f"{len(values)}"
        raise DataError(f"{name}: {found} for {count} examples; there must be one for each")
    return values


# Powers of two: padding is below half of a row, and there are few programs to compile.
_WIDTHS = (16, 32, 64, 128, 256, 512, 1024, 2048)


def buckets_up_to(max_length: int) -> tuple[int, ...]:
    """Batch widths: powers of two below `max_length`, and itself.

    >>> buckets_up_to(100)
    (16, 32, 64, 100)
    """
    return (*(width for width in _WIDTHS if width < max_length), max_length)
