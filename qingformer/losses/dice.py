"""Losses made of the Dice coefficient, the soft form of F1."""

import keras
from keras import ops

from qingformer.errors import ConfigError
from qingformer.losses.loss import MEAN, BatchLoss, binary_targets, of_classes, of_labels
from qingformer.ops.classes import finite, is_distribution, log_softmax, one_for_all
from qingformer.types import Config, Tensor

_LEVELS = ("example", "batch")


@keras.saving.register_keras_serializable("qingformer")
class DiceLoss(BatchLoss):
    """One minus the Dice coefficient of probability and truth, in which easy examples count less.

        D = (2 q y + smooth) / (q + y + smooth),   q = (1 - p)^alpha p,   L = 1 - D

    for the true class (softmax) or, with `multi_label`, for every label (sigmoid; the mean over them). `alpha=0` is the
    plain smooth Dice coefficient, `squared` has squares of q and y in the denominator (V-Net). At the level "batch" the
    numerator and the denominator are sums over the batch, class by class, and L is the mean over the classes.

    Note that for alpha > 0 the q of the paper is largest at p = 1 / (1 + alpha): there, and not at 1, is the minimum of
    a positive example. With `detach_weight` the factor (1 - p)^alpha is held constant, and p is driven to 1.

    Args:
        alpha: how much easy examples are played down, >= 0.
        smooth: constant in numerator and denominator, > 0; it gives negative examples a gradient.
        squared: squares in the denominator.
        level: "example" or "batch".
        multi_label: labels (B, C) zeros and ones, decided one by one.
        detach_weight: no gradient through (1 - p)^alpha.
        reduction, name: as in Keras.

    Labels (B,) whole numbers or (B, C) float; logits (B, C); values (B,), or one number at the level "batch", in which
    rows weigh by their weight. Negative whole numbers cost nothing. Raises `ConfigError` for other arguments.

    Source: Li, Sun, Meng, Liang, Wu, Li 2019, arXiv 1911.02855; squares: Milletari et al. 2016, arXiv 1606.04797.

    Example:
        >>> loss = DiceLoss()
        >>> value = loss([1], [[0.5, 2.0, -1.0]])
    """

    def __init__(
        self,
        alpha: float = 1.0,
        smooth: float = 1.0,
        squared: bool = False,
        level: str = "example",
        multi_label: bool = False,
        detach_weight: bool = False,
        reduction: str | None = MEAN,
        name: str | None = "dice_loss",
    ) -> None:
        super().__init__(reduction, name)
        if not 0 <= alpha < float("inf") or not 0 < smooth < float("inf"):
            raise ConfigError(f"DiceLoss: alpha={alpha} must not be negative and smooth={smooth} must be positive")
        if level not in _LEVELS:
            raise ConfigError(f"DiceLoss: level is {level!r}; choose one of {', '.join(_LEVELS)}")
        self.alpha, self.smooth, self.squared, self.level = float(alpha), float(smooth), bool(squared), level
        self.multi_label, self.detach_weight = bool(multi_label), bool(detach_weight)

    @property
    def weighs_values(self) -> bool:  # type: ignore[override]
        """At the level of the batch the sums are weighted instead."""
        return self.level == "example"

    def call(self, y_true: tuple[Tensor, Tensor], y_pred: Tensor) -> Tensor:
        """(labels, weights) and logits (B, C) to values (B,) or a number."""
        labels, weights = y_true
        logits = finite(y_pred)
        if self.multi_label:
            targets = binary_targets(labels, logits)
            log_p, log_rest = ops.log_sigmoid(logits), ops.log_sigmoid(-logits)
        else:
            targets = self._one_hot(labels, logits)
            log_p = log_softmax(logits)
            # log(1 - p) from log p without cancellation; the floor is that of p so close to 1 that nothing is left.
            log_rest = ops.log(ops.maximum(-ops.expm1(log_p), 1e-30))
        factor = ops.exp(self.alpha * log_rest)
        q = (ops.stop_gradient(factor) if self.detach_weight else factor) * ops.exp(log_p)
        # One coefficient a class over the whole batch, as in segmentation: weights enter its sums, not the mean.
        if self.level == "batch":
            return ops.mean(1.0 - self._coefficient(q, targets, lambda x: ops.sum(weights[:, None] * x, 0)))
        costs = 1.0 - self._coefficient(q, targets, lambda x: x)
        return ops.mean(costs, -1) if self.multi_label else ops.sum(targets * costs, -1)

    def disagreement(self, y_true: Tensor, first: Tensor, second: Tensor) -> Tensor:
        """Between two predictions, of their classes or label by label."""
        return of_labels(first, second) if self.multi_label else of_classes(y_true, first, second)

    def _coefficient(self, q: Tensor, y: Tensor, total: Tensor) -> Tensor:
        parts = ops.square(q) + ops.square(y) if self.squared else q + y
        return (2.0 * total(q * y) + self.smooth) / (total(parts) + self.smooth)

    def _one_hot(self, labels: Tensor, logits: Tensor) -> Tensor:
        if is_distribution(labels, logits):
            return labels
        ids = one_for_all(labels, logits)
        return ops.cast(ids[:, None] == ops.arange(ops.shape(logits)[-1], dtype="int32"), "float32")

    def get_config(self) -> Config:
        names = ("alpha", "smooth", "squared", "level", "multi_label", "detach_weight")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}
