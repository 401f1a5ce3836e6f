"""Binary cross-entropy of a power of the sigmoid, for labels that are nearly all 0."""

import math

import keras
from keras import ops

from qingformer.errors import ConfigError
from qingformer.losses.loss import MEAN, Loss
from qingformer.ops.classes import finite, visible
from qingformer.ops.divergence import bernoulli_divergence
from qingformer.types import Config, Tensor

_TINY = 1e-20  # far above what float32 rounds to 0, and far below its precision beside 1


@keras.saving.register_keras_serializable("qingformer")
class PowerBinaryCrossentropy(Loss):
    """Binary cross-entropy with p = sigmoid(s)^n: at the start p is small, as most labels are 0.

        L = sum over the entries of -y log p - (1 - y) log(1 - p),   log p = n log sigmoid(s)

    A class is predicted where p is above its threshold: sigmoid(s)^n, not sigmoid(s). At n = 1 it is the usual binary
    cross-entropy. All is computed in logarithms, so scores of +-1e4 keep value and gradient. A score that a mask hid
    (-inf, or below -1e11) costs nothing.

    Args:
        power: n, at least 1.
        class_axes: how many last axes one value is the sum of; 3 for the scores (B, T, heads, 2) of
            `qingformer.layers.StartEndPointers`, which gives a value for each text.
        reduction, name: as in Keras.

    Labels (zeros and ones, or anything between) and scores (..., C) float; values (...) float32. Weights (B,) or one
    for each value. Raises `ConfigError` for a power below 1, `class_axes` below 1 and shapes that do not fit.

    Source: 科学空间 archives/7161 (the square, as a cure for the imbalance of pointers).

    Example:
        >>> loss = PowerBinaryCrossentropy(power=2)
        >>> value = loss([[1.0, 0.0, 0.0]], [[4.0, -3.0, 0.0]])
    """

    def __init__(
        self,
        power: float = 2.0,
        class_axes: int = 1,
        reduction: str | None = MEAN,
        name: str | None = "power_binary_crossentropy",
    ) -> None:
        super().__init__(reduction, name)
        if not 1 <= power < float("inf"):
            raise ConfigError(f"PowerBinaryCrossentropy: power is {power}; expected a number of at least 1")
        if class_axes < 1:
            raise ConfigError(
                f"PowerBinaryCrossentropy: class_axes is {class_axes}; at least one axis holds the classes"
            )
        self.power, self.class_axes = float(power), int(class_axes)

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        """Labels and scores (..., C) to values (...)."""
        labels, scores = tuple(y_true.shape), tuple(y_pred.shape)
        fits = len(labels) == len(scores) and all(None in pair or pair[0] == pair[1] for pair in zip(labels, scores))
        if not fits or len(scores) <= self.class_axes:
            raise ConfigError(
                f"{self.name}: labels of shape {labels} and scores of shape {scores}; expected one shape of "
                f"rows and {self.class_axes} more axes"
            )
        keep = visible(y_pred)
        on, off = log_power_sigmoid(ops.where(keep, finite(y_pred), 0.0), self.power)
        costs = ops.where(keep, -y_true * on - (1.0 - y_true) * off, 0.0)
        return ops.sum(costs, axis=tuple(range(-self.class_axes, 0)))

    def disagreement(self, y_true: Tensor, first: Tensor, second: Tensor) -> Tensor:
        """Between two predictions sigmoid(s)^power, entry by entry."""
        shape = (*ops.shape(first)[: len(first.shape) - self.class_axes], -1)
        p, q = (ops.exp(self.power * ops.log_sigmoid(ops.reshape(finite(s), shape))) for s in (first, second))
        return bernoulli_divergence(p, q)

    def get_config(self) -> Config:
        return {**super().get_config(), "power": self.power, "class_axes": self.class_axes}


def log_power_sigmoid(scores: Tensor, power: float) -> tuple[Tensor, Tensor]:
    """log p and log(1 - p) of p = sigmoid(s)^power: finite float32 `scores` (...), to two arrays (...) float32.

    Example: `log_power_sigmoid(ops.zeros((1,)), 2.0)` gives `[log 0.25]` and `[log 0.75]`
    """
    on = power * ops.log_sigmoid(scores)
    small, sure = on < -math.log(2), on > -_TINY
    # Each branch sees only what is its own, so that no infinity comes near a gradient.
    of_small = ops.log1p(-ops.exp(ops.where(small, on, -1.0)))
    of_large = ops.log(-ops.expm1(ops.where(ops.logical_or(small, sure), -0.5, on)))
    # 1 - (1 - q)^n is n q where q = 1 - sigmoid(s) is tiny.
    of_sure = math.log(power) + ops.log_sigmoid(-scores)
    return on, ops.where(small, of_small, ops.where(sure, of_sure, of_large))
