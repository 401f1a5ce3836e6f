"""What a loss is the mean of: its divisor, and means in which rows of padding do not count."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras
from keras import ops

from qingformer.backend.keras_internals import CompileLoss, get_keras_mask
from qingformer.losses.loss import WEIGHTED_MEAN
from qingformer.types import Nest, Tensor

PLAIN, SUM = ("sum_over_batch_size", "mean"), "sum"


class CompiledLosses(CompileLoss):
    """The losses of a compiled model; with `only_weighted`, plain means are over the entries of weight other than 0.

        Keras:          sum(w l) / number of entries
        only_weighted:  sum(w l) / number of entries with w != 0

    So a batch that is filled up with rows of weight 0 has the loss and the gradient of the rows that it holds, and
    weights of classes keep their meaning, to scale the losses of their rows. Means with another divisor, sums, and
    losses of a whole batch are as Keras has them.
    """

    _flat_losses: Any

    def __init__(self, compiled: CompileLoss) -> None:
        super().__init__(compiled._user_loss, compiled._user_loss_weights, output_names=compiled.output_names)
        self.only_weighted = False

    def build(self, y_true: Tensor, y_pred: Tensor) -> None:
        """Make the losses of the outputs and, where they are several, the metrics that show each."""
        super().build(y_true, y_pred)
        # In place of Keras' own, whose mean over a padded batch counts the rows of padding.
        means = [WeightedMean(each.loss, self) for each in self._flat_losses]
        self._flat_losses = [each._replace(loss=mean) for each, mean in zip(self._flat_losses, means)]
        self._metrics[:] = [OutputLoss(mean, metric.name) for mean, metric in zip(means, self._metrics)]


class WeightedMean:
    """A compiled loss, divided as `CompiledLosses` says; afterwards `divisor` holds what this batch was divided by."""

    def __init__(self, loss: Any, settings: CompiledLosses) -> None:
        self.loss, self.settings = loss, settings
        self.divisor: Tensor | None = None

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Tensor:
        """The value of the batch."""
        only_weighted = self.settings.only_weighted
        factor = padding_factor(self.loss, y_true, y_pred, sample_weight) if only_weighted else None
        self.divisor = divisor(self.loss, y_true, y_pred, sample_weight, only_weighted)
        value = self.loss(y_true, y_pred, sample_weight)
        return value if factor is None else value * ops.cast(factor, value.dtype)


class OutputLoss(keras.metrics.Mean):
    """The mean of the loss of one output, in which batches weigh by what they were divided by."""

    def __init__(self, source: WeightedMean, name: str) -> None:
        super().__init__(name=name)
        self.source = source

    def update_state(self, values: Any, sample_weight: Nest = None) -> None:
        """Add a batch; Keras gives its number of rows as the weight."""
        if self.source.settings.only_weighted and self.source.divisor is not None:
            sample_weight = self.source.divisor
        super().update_state(values, sample_weight=sample_weight)


class LossMean(keras.metrics.Mean):
    """The mean of the loss of a model; a batch waits until `settle` says what it weighs, which Keras does not know."""

    def __init__(self, name: str = "loss") -> None:
        super().__init__(name=name)
        self._waiting: list[Any] = []

    def update_state(self, values: Any, sample_weight: Nest = None) -> None:
        """Keep the loss of a batch, and its number of rows."""
        self._waiting = [values, sample_weight]

    def settle(self, weight: Tensor = None) -> None:
        """Add what waits, with its number of rows as the weight if there is no other."""
        if self._waiting:
            values, rows = self._waiting
            self._waiting = []
            super().update_state(values, sample_weight=rows if weight is None else weight)


@contextmanager
def over_all_rows(model: keras.Model) -> Iterator[None]:
    """Within the block the plain means of a compiled model are Keras': for what counts rows of weight 0 itself."""
    compiled = model._compile_loss
    before = getattr(compiled, "only_weighted", False)
    if before:
        compiled.only_weighted = False
    try:
        yield
    finally:
        if before:
            compiled.only_weighted = True


def padding_factor(loss: Any, y_true: Tensor, y_pred: Tensor, sample_weight: Nest) -> Tensor | None:
    """By what a plain mean is multiplied so that entries of weight 0 do not count in its divisor; None for nothing."""
    plain = getattr(loss, "reduction", None) in PLAIN and getattr(loss, "weighs_values", True)
    if not plain or sample_weight is None:
        return None
    given, counted = _counted(loss, y_true, y_pred, sample_weight)
    return given / ops.maximum(counted, 1.0)


def divisor(
    loss: Any, y_true: Tensor, y_pred: Tensor, sample_weight: Nest, only_weighted: bool = False
) -> Tensor | None:
    """What a loss divides the weighted sum of a batch by, float32 scalar; None for the number of entries, or of sums.

        plain mean:              sum(w l) / number of l
        plain mean, masked:      sum(w l m) / sum(m)
        only weighted:           sum(w l m) / sum(m [w != 0])
        mean_with_sample_weight: sum(w l m) / sum(w m)
        sum:                     sum(w l m)

    with sample weights `w`, or those that the loss makes of its labels (`entry_weights`), and the mask `m` that Keras
    has attached to the output, or that the ignored class of the loss makes.
    """
    kind = getattr(loss, "reduction", None)
    if kind in PLAIN:
        if only_weighted and sample_weight is not None and getattr(loss, "weighs_values", True):
            return _counted(loss, y_true, y_pred, sample_weight)[1]
        # float32, 1 where an entry counts; Keras keeps it on the predictions.
        mask = _mask(loss, y_true, y_pred)
        return None if mask is None else ops.sum(mask)
    if kind != WEIGHTED_MEAN:
        return None
    if hasattr(loss, "entry_weights"):
        sample_weight = loss.entry_weights(y_true, y_pred, sample_weight)
    mask = _mask(loss, y_true, y_pred)
    if sample_weight is None:
        return None if mask is None else ops.sum(mask)
    weight = ops.cast(sample_weight, "float32")
    return ops.sum(weight if mask is None else _widened(weight, mask) * mask)


def rows_with_weight(sample_weight: Nest) -> Tensor | None:
    """How many rows have any weight that is not 0, float32 scalar; None without weights."""
    leaves = [leaf for leaf in keras.tree.flatten(sample_weight) if leaf is not None]
    if not leaves:
        return None
    used = [ops.any(ops.reshape(ops.not_equal(leaf, 0), (ops.shape(leaf)[0], -1)), -1) for leaf in leaves]
    return ops.sum(ops.cast(ops.any(ops.stack(used), 0), "float32"))


def _counted(loss: Any, y_true: Tensor, y_pred: Tensor, sample_weight: Nest) -> tuple[Tensor, Tensor]:
    """How many entries Keras divides by, in the unit of the weights or of the mask, and how many have a weight."""
    used = ops.cast(ops.not_equal(sample_weight, 0), "float32")
    mask = _mask(loss, y_true, y_pred)
    if mask is None:
        return ops.sum(ops.ones_like(used)), ops.sum(used)
    return ops.sum(mask), ops.sum(_widened(used, mask) * mask)


def _mask(loss: Any, y_true: Tensor, y_pred: Tensor) -> Tensor | None:
    """What Keras counts, float32: by the mask of an output, and by the ignored class."""
    if keras.tree.is_nested(y_pred):
        return None
    mask = get_keras_mask(y_pred)
    mask = None if mask is None else ops.cast(mask, "float32")
    ignored = getattr(loss, "_fn_kwargs", {}).get("ignore_class")
    if ignored is None:
        return mask
    named = ops.cast(ops.not_equal(ops.reshape(y_true, ops.shape(y_pred)[:-1]), ignored), "float32")
    return named if mask is None else _widened(mask, named) * named


def _widened(weight: Tensor, mask: Tensor) -> Tensor:
    while len(weight.shape) < len(mask.shape):
        weight = ops.expand_dims(weight, -1)
    return weight
