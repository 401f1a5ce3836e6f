"""What the losses of this room have in common."""

import keras
from keras import ops

from qingformer.ops.classes import finite, is_distribution, one_for_all, take_class, visible
from qingformer.ops.divergence import softmax_divergence
from qingformer.types import Nest, Tensor

MEAN = "sum_over_batch_size"
WEIGHTED_MEAN = "mean_with_sample_weight"


class Loss(keras.losses.Loss):
    """A Keras loss computed in float32, to which a weight per row may be given where it has a value per position.

    A loss that makes weights of its labels says which in `entry_weights(y_true, y_pred, sample_weight)`, and one whose
    predictions can be compared (`RDrop`) has `disagreement(y_true, first, second)`: KL(p || q) + KL(q || p) of two
    predictions, in the shape of the values.

    `reduction` is Keras': "sum_over_batch_size" divides by the number of values, "mean_with_sample_weight" by the sum
    of the weights, "sum" sums, "none" leaves the weighted values.
    """

    class_axes = 1  # how many of the last axes of the predictions one value of the loss is made of

    def __init__(self, reduction: str | None = MEAN, name: str | None = None) -> None:
        super().__init__(name=name, reduction=reduction, dtype="float32")

    def __call__(self, y_true: Tensor, y_pred: Tensor, sample_weight: Nest = None) -> Tensor:
        """The reduced loss; `sample_weight` (B,), or with one weight for each value."""
        y_true, y_pred = as_array(y_true), as_array(y_pred)
        if sample_weight is not None:
            sample_weight = ops.convert_to_tensor(sample_weight, dtype="float32")
            while 0 < len(sample_weight.shape) < len(y_pred.shape) - self.class_axes:
                sample_weight = ops.expand_dims(sample_weight, -1)
        return super().__call__(y_true, y_pred, sample_weight)


class ClassLoss(Loss):
    """A loss of one class for each row, defined by what each class would cost.

    Labels are whole numbers (...) or (..., 1) - a negative one belongs to no class and costs nothing -, or a
    distribution (..., C), whose cost is the mean over it.
    """

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        """Value for each row: labels and logits (..., C), to (...)."""
        costs = self.costs(finite(y_pred))
        if is_distribution(y_true, y_pred):
            return ops.sum(y_true * costs, -1)
        ids = one_for_all(y_true, y_pred)
        return ops.where(ids < 0, 0.0, take_class(costs, ops.maximum(ids, 0)))

    def disagreement(self, y_true: Tensor, first: Tensor, second: Tensor) -> Tensor:
        """Between two predictions (..., C), of the rows that have a class: (...)."""
        return of_classes(y_true, first, second)

    def costs(self, logits: Tensor) -> Tensor:
        """The loss of each row for each label that it could have: (..., C) to (..., C)."""
        raise TypeError(f"{type(self).__name__} does not define what the classes cost")


class BatchLoss(keras.losses.Loss):
    """A loss in which the rows of a batch meet, so that a row of weight 0 must not take part in the others' either.

    `call` gets `(labels, weights (B,))` in the place of the labels. Its values are weighted in the reduction if
    `weighs_values`; otherwise it has weighted them itself.
    """

    weighs_values = True

    def __init__(self, reduction: str | None = MEAN, name: str | None = None) -> None:
        super().__init__(name=name, reduction=reduction, dtype="float32")

    def __call__(self, y_true: Tensor, y_pred: Tensor, sample_weight: Nest = None) -> Tensor:
        """The reduced loss; `sample_weight` has one weight for each row, `(B,)` or `(B, 1)`."""
        y_pred = tuple(as_array(part) for part in y_pred) if isinstance(y_pred, tuple) else as_array(y_pred)
        rows = ops.shape(keras.tree.flatten(y_pred)[0])[0]
        weights = ops.ones((rows,)) if sample_weight is None else ops.convert_to_tensor(sample_weight, dtype="float32")
        weights = ops.reshape(weights, (-1,))
        labels = ops.convert_to_tensor(y_true, dtype="float32")
        return super().__call__(
            (labels, weights), y_pred, self.value_weights(labels, weights) if self.weighs_values else None
        )

    def entry_weights(self, y_true: Tensor, y_pred: Tensor, sample_weight: Nest = None) -> Tensor:
        """The weights of the values in the reduction."""
        rows = ops.shape(keras.tree.flatten(y_pred)[0])[0]
        weights = ops.ones((rows,)) if sample_weight is None else ops.cast(sample_weight, "float32")
        return self.value_weights(ops.cast(y_true, "float32"), ops.reshape(weights, (-1,)))

    def value_weights(self, labels: Tensor, weights: Tensor) -> Tensor:
        """Weights of the values that `call` gives, from the labels and the weights (B,) of the rows."""
        return weights


def of_classes(labels: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """KL(p || q) + KL(q || p) of two softmaxes (..., C), to (...); 0 where a whole-number label is negative."""
    values = softmax_divergence(finite(first), finite(second))
    if is_distribution(labels, first):
        return values
    return ops.where(one_for_all(labels, first) < 0, 0.0, values)


def of_labels(first: Tensor, second: Tensor, class_axes: int = 1) -> Tensor:
    """The same of labels decided one by one, the mean over those that no mask hid: (..., C) to (...)."""
    axes = tuple(range(-class_axes, 0))
    seen, a, b = visible(first), finite(first), finite(second)
    values = ops.where(seen, (ops.sigmoid(a) - ops.sigmoid(b)) * (a - b), 0.0)
    return ops.sum(values, axes) / ops.maximum(ops.sum(ops.cast(seen, "float32"), axes), 1.0)


def binary_targets(y_true: Tensor, logits: Tensor) -> Tensor:
    """Targets of zeros and ones in the shape of the logits: (...) becomes (..., 1) where there is one logit."""
    return ops.expand_dims(y_true, -1) if len(y_true.shape) == len(logits.shape) - 1 else y_true


def as_array(x: Tensor) -> Tensor:
    """`x` itself if it is an array, else (a list) an array of it, float32."""
    return x if hasattr(x, "shape") else ops.convert_to_tensor(x, dtype="float32")
