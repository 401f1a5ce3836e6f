"""Cross-entropy that turns its attention to what is still hard."""

from collections.abc import Sequence

import keras
from keras import ops

from qingformer.errors import ConfigError
from qingformer.losses.loss import MEAN, ClassLoss, binary_targets, of_labels
from qingformer.ops.classes import finite, log_softmax
from qingformer.types import Config, Tensor


@keras.saving.register_keras_serializable("qingformer")
class FocalLoss(ClassLoss):
    """Cross-entropy, weighted by how wrong the model still is about the true class.

        L = -alpha_y (1 - p_y)^gamma log p_y,   p = softmax(logits), or a sigmoid for each label with `multi_label`

    Args:
        gamma: how fast the weight falls, >= 0; 0 is cross-entropy.
        alpha: None, or a weight for each class. With `multi_label`: the weight of the positive entries, one number or
            one for each label; negative entries weigh 1 - alpha.
        multi_label: labels (..., C) zeros and ones, decided one by one; the value is the mean over them.
        reduction, name: as in Keras.

    Labels whole numbers (...) - negative ones cost nothing - or (..., C) float; logits (..., C); values (...) float32.
    Raises `ConfigError` for a negative gamma or an alpha that is no weight.

    Source: Lin, Goyal, Girshick, He, Dollar 2017, arXiv 1708.02002 (there gamma 2, alpha 0.25).

    Example:
        >>> loss = FocalLoss()
        >>> value = loss([1], [[0.5, 2.0, -1.0]])
    """

    def __init__(
        self,
        gamma: float = 2.0,
        alpha: float | Sequence[float] | None = None,
        multi_label: bool = False,
        reduction: str | None = MEAN,
        name: str | None = "focal_loss",
    ) -> None:
        super().__init__(reduction, name)
        if not 0 <= gamma < float("inf"):
            raise ConfigError(f"FocalLoss: gamma is {gamma}; it must be a finite number that is not negative")
        self.gamma, self.multi_label = float(gamma), bool(multi_label)
        self.alpha = _checked(alpha, self.multi_label)

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        """Labels and logits (..., C) to values (...)."""
        if not self.multi_label:
            return super().call(y_true, y_pred)
        logits = finite(y_pred)
        targets = binary_targets(y_true, logits)
        # log(1 - sigmoid(x)) is log sigmoid(-x), to the last digit.
        positive, negative = self._cost(ops.log_sigmoid(logits)), self._cost(ops.log_sigmoid(-logits))
        share = 1.0 if self.alpha is None else ops.convert_to_tensor(self.alpha, dtype="float32")
        rest = 1.0 if self.alpha is None else 1.0 - share
        return ops.mean(targets * share * positive + (1.0 - targets) * rest * negative, -1)

    def disagreement(self, y_true: Tensor, first: Tensor, second: Tensor) -> Tensor:
        """Between two predictions, of their classes or label by label."""
        return of_labels(first, second) if self.multi_label else super().disagreement(y_true, first, second)

    def costs(self, logits: Tensor) -> Tensor:
        """Focal cross-entropy for each possible class, (..., C)."""
        costs = self._cost(log_softmax(logits))
        return costs if self.alpha is None else costs * ops.convert_to_tensor(self.alpha, dtype="float32")

    def _cost(self, log_p: Tensor) -> Tensor:
        # (1 - p)^gamma through its logarithm: a power has no finite slope at 0 for gamma below 1.
        rest = ops.log(ops.maximum(-ops.expm1(log_p), 1e-30))
        return -ops.exp(self.gamma * rest) * log_p

    def get_config(self) -> Config:
        settings = {"gamma": self.gamma, "alpha": self.alpha, "multi_label": self.multi_label}
        return {**super().get_config(), **settings}


def _checked(alpha: float | Sequence[float] | None, multi_label: bool) -> float | list[float] | None:
    if alpha is None:
        return None
    single = isinstance(alpha, int | float)
    if single and not multi_label:
        raise ConfigError(
            f"FocalLoss: alpha is {alpha}, but with one label among several it has one weight for each class"
        )
    values = [float(a) for a in ([alpha] if isinstance(alpha, int | float) else alpha)]
    top = 1.0 if multi_label else float("inf")
    if not all(0 <= a <= top for a in values) or (not multi_label and float("inf") in values):
        allowed = "between 0 and 1" if multi_label else "finite and not negative"
        raise ConfigError(f"FocalLoss: alpha is {alpha}; its values must be {allowed}")
    return values[0] if single else values
