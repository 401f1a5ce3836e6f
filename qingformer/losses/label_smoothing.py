"""Label smoothing for labels that are whole numbers."""

import keras
from keras import ops

from qingformer.errors import ConfigError
from qingformer.losses.loss import MEAN, ClassLoss
from qingformer.ops.classes import finite, log_softmax, visible
from qingformer.types import Config, Tensor


@keras.saving.register_keras_serializable("qingformer")
class LabelSmoothedCrossentropy(ClassLoss):
    """Cross-entropy with a label that keeps a share for all classes alike; Keras has it for one-hot labels only.

        L = -(1 - epsilon) log p_y - epsilon / C sum_c log p_c

    A class that a mask hid (logit -inf, or below -1e11) has no part in the mean over the classes.

    Args:
        label_smoothing: epsilon in [0, 1).
        reduction, name: as in Keras.

    Labels whole numbers (...) - negative ones cost nothing - or (..., C) float; logits (..., C); values (...) float32.
    Raises `ConfigError` for another epsilon.

    Source: Szegedy, Vanhoucke, Ioffe, Shlens, Wojna 2015, arXiv 1512.00567, section 7.

    Example:
        >>> loss = LabelSmoothedCrossentropy(0.1)
        >>> value = loss([1], [[0.5, 2.0, -1.0]])
    """

    def __init__(
        self,
        label_smoothing: float = 0.1,
        reduction: str | None = MEAN,
        name: str | None = "label_smoothed_crossentropy",
    ) -> None:
        super().__init__(reduction, name)
        self.label_smoothing = checked_smoothing(type(self).__name__, label_smoothing)

    def costs(self, logits: Tensor) -> Tensor:
        """Smoothed cross-entropy for each possible class, (..., C)."""
        return smoothed_costs(logits, self.label_smoothing)

    def get_config(self) -> Config:
        return {**super().get_config(), "label_smoothing": self.label_smoothing}


def smoothed_costs(logits: Tensor, epsilon: float) -> Tensor:
    """-(1 - epsilon) log p_c - epsilon mean(log p) for every class c: (..., C) to (..., C) float32."""
    logits = finite(logits)
    log_p = log_softmax(logits)
    if not epsilon:
        return -log_p
    # A class that a mask hides has no part in the smoothing: its log-probability would be -1e12.
    seen = visible(logits)
    count = ops.maximum(ops.sum(ops.cast(seen, "float32"), -1, keepdims=True), 1.0)
    mean = ops.sum(ops.where(seen, log_p, 0.0), -1, keepdims=True) / count
    return -(1.0 - epsilon) * log_p - epsilon * mean


def checked_smoothing(owner: str, epsilon: float) -> float:
    """`epsilon` as a float in [0, 1), or a `ConfigError` that names the `owner`."""
    if not 0 <= epsilon < 1:
        raise ConfigError(f"{owner}: label_smoothing is {epsilon}; it must be in [0, 1)")
    return float(epsilon)
