"""Any number of labels among many: the multi-label generalisation of softmax cross-entropy."""

import keras
from keras import ops

from qingformer.errors import ConfigError
from qingformer.losses.loss import MEAN, Loss, of_labels
from qingformer.ops.classes import OUT_OF_REACH, class_ids, finite, log_sum_exp, visible
from qingformer.types import Config, Tensor


@keras.saving.register_keras_serializable("qingformer")
class MultilabelCategoricalCrossentropy(Loss):
    """Push the scores of all positive classes above 0 and of all negative ones below ("zlpr").

        L = log(1 + sum_pos e^(-s)) + log(1 + sum_neg e^s);   soft labels y in [0, 1]:
        L = log(1 + sum y e^(-s)) + log(1 + sum (1 - y) e^s)

    No sigmoid or softmax before it; a class is predicted where s > 0. Positives and negatives need no balance: each sum
    weighs its worst entries. A score that a mask hid (-inf, or below -1e11) is in neither sum.

    Args:
        class_axes: how many last axes hold the classes; 2 for span scores (B, heads, T, T), which gives (B, heads).
        reduction, name: as in Keras.

    Labels and scores (..., C) float; values (...) float32. Raises `ConfigError` for `class_axes` below 1.

    Source: Su, Zhu, Murtadha, Pan, Wen, Liu 2022, arXiv 2208.02955; its use for spans: 科学空间 archives/8373.

    Example:
        >>> loss = MultilabelCategoricalCrossentropy()
        >>> value = loss([[1.0, 0.0, 1.0]], [[4.0, -3.0, 2.0]])
    """

    def __init__(
        self, class_axes: int = 1, reduction: str | None = MEAN, name: str | None = "multilabel_crossentropy"
    ) -> None:
        if class_axes < 1:
            raise ConfigError(f"{type(self).__name__}: class_axes is {class_axes}; at least one axis holds the classes")
        super().__init__(reduction, name)
        self.class_axes = int(class_axes)

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        """Labels and scores (..., C) to values (...)."""
        scores = _join(finite(y_pred), self.class_axes)
        return zlpr(_join(y_true, self.class_axes), scores, visible(scores))

    def disagreement(self, y_true: Tensor, first: Tensor, second: Tensor) -> Tensor:
        """Between two predictions, class by class."""
        return of_labels(first, second, self.class_axes)

    def get_config(self) -> Config:
        return {**super().get_config(), "class_axes": self.class_axes}


@keras.saving.register_keras_serializable("qingformer")
class SparseMultilabelCategoricalCrossentropy(MultilabelCategoricalCrossentropy):
    """`MultilabelCategoricalCrossentropy` that is given the positive classes by number, in any order.

    The positives are taken out of the sum over the negatives before it is formed, so it is exact at any scores (the
    usual form, log(e^a - e^b), cancels there); a class named twice counts once. No labels of the size of the scores are
    made, so that the many pairs of `GlobalPointer` stay cheap.

    Args:
        mask_zero: 0 fills up the list of positives, and class 0 is in neither sum. Negative numbers fill up always.
        class_axes: with 2, labels are pairs (..., P, 2) of row and column in scores (..., T, T), and so on.
        reduction, name: as in Keras.

    Labels (..., P) whole numbers, scores (..., C) float; values (...) float32.

    Source: 科学空间 archives/8888 (its loss for few positives among many); Su et al. 2022, arXiv 2208.02955.

    Example:
        >>> loss = SparseMultilabelCategoricalCrossentropy(mask_zero=True)
        >>> value = loss([[3, 1, 0]], [[0.0, 4.0, -3.0, 2.0]])
    """

    def __init__(
        self,
        mask_zero: bool = False,
        class_axes: int = 1,
        reduction: str | None = MEAN,
        name: str | None = "sparse_multilabel_crossentropy",
    ) -> None:
        super().__init__(class_axes, reduction, name)
        self.mask_zero = bool(mask_zero)

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        """Positive classes (..., P) and scores (..., C) to values (...)."""
        ids = class_ids(y_true)
        if self.class_axes > 1:
            flat = ids[..., 0]
            for axis in range(1, self.class_axes):
                # (type, start, end) to one number, as in a flattened (types, T, T).
                flat = flat * ops.shape(y_pred)[axis - self.class_axes] + ids[..., axis]
            ids = ops.where(ops.any(ids < 0, -1), -1, flat)
        scores = _join(finite(y_pred), self.class_axes)
        ids, named = _once(ids, ops.shape(scores)[-1])
        positive = ops.take_along_axis(scores, ids, -1)
        counts = ops.logical_and(named, visible(positive))
        if self.mask_zero:
            counts = ops.logical_and(counts, ids > 0)
            named = ops.logical_or(named, ids == 0)  # the place that is always there, too: 0 is out of the other sum
        # What a mask hid needs no mask here: beside e^0 = 1 its exponential is nothing.
        down = log_sum_exp(_without(scores, ids, named), with_zero=True)
        return log_sum_exp(-positive, counts, with_zero=True) + down

    def get_config(self) -> Config:
        return {**super().get_config(), "mask_zero": self.mask_zero}


def zlpr(labels: Tensor, scores: Tensor, keep: Tensor) -> Tensor:
    """The formula, for soft or hard labels (..., C), finite scores and a mask of what takes part, to (...)."""
    # A hard label has log 0 on one side: the entry is left out there, and no infinity comes near a gradient.
    positive, negative = ops.logical_and(keep, labels > 0), ops.logical_and(keep, labels < 1)
    up = ops.log(ops.where(positive, labels, 1.0)) - scores
    down = ops.log(ops.where(negative, 1.0 - labels, 1.0)) + scores
    return log_sum_exp(up, positive, with_zero=True) + log_sum_exp(down, negative, with_zero=True)


def _join(x: Tensor, axes: int) -> Tensor:
    return x if axes == 1 else ops.reshape(x, (*ops.shape(x)[:-axes], -1))


def _once(ids: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
    """Places (..., P + 1) of scores, 0 where there is no id, and which of them name a class for the first time."""
    filled = ops.pad(ids, [(0, 0)] * (len(ids.shape) - 1) + [(1, 0)], constant_values=-1)  # there may be no id at all
    # Sorted, equal ids stand side by side, and all but the first of them can be dropped.
    ids = ops.sort(filled, -1)
    new = ops.not_equal(ids, ops.roll(ids, 1, -1))
    named = ops.logical_and(new, ops.logical_and(ids >= 0, ids < classes))
    return ops.where(named, ids, 0), named


def _without(scores: Tensor, ids: Tensor, named: Tensor) -> Tensor:
    """The scores (..., C), far below all others where a class is named: no copy of labels of that size is made."""
    rows = ops.reshape(scores, (-1, ops.shape(scores)[-1]))
    count, indices = ops.shape(rows)[0], ops.shape(ids)[-1]
    lines = ops.repeat(ops.arange(count, dtype="int32"), indices)
    where = ops.stack([lines, ops.reshape(ids, (-1,))], -1)
    lowered = ops.scatter_update(rows, where, ops.reshape(ops.where(named, OUT_OF_REACH, 0.0), (-1,)), reduction="add")
    return ops.reshape(lowered, ops.shape(scores))
