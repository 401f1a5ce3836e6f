"""Cross-entropy with the class weights that a smooth F1 score asks for."""

import keras
from keras import ops

from qingformer.errors import ConfigError
from qingformer.losses.loss import MEAN, BatchLoss, binary_targets, of_labels
from qingformer.ops.classes import finite
from qingformer.types import Config, Tensor

_AVERAGES = ("micro", "macro")


@keras.saving.register_keras_serializable("qingformer")
class SmoothF1Crossentropy(BatchLoss):
    """Binary cross-entropy whose weights follow the F1 score that the batch has at this moment.

        L = -mean[(1 - F/2) y log p + (F/2) (1 - y) log(1 - p)],   F = 2 sum(y p) / sum(y + p) held constant

    with p = sigmoid(logit). The gradient of F is 2 sum[(y - F/2) dp] / sum(y + p); replacing dp by d log p for
    positives and by -d log(1 - p) for negatives, as takes accuracy to cross-entropy, gives L. While F is small it looks
    at the positives only; a batch without any positive has loss 0.

    Args:
        average: "micro" estimates one F over all entries of the batch, "macro" one for each label.
        reduction, name: as in Keras.

    Labels (B,) or (B, C) zeros and ones; logits (B, 1) or (B, C); values (B,) float32, means over the labels. Rows of
    weight 0 are not in F. Raises `ConfigError` for another average.

    Source: 科学空间 archives/7708.

    Example:
        >>> loss = SmoothF1Crossentropy()
        >>> value = loss([1.0, 0.0, 0.0], [[0.5], [-2.0], [0.1]])
    """

    def __init__(
        self, average: str = "micro", reduction: str | None = MEAN, name: str | None = "smooth_f1_crossentropy"
    ) -> None:
        super().__init__(reduction, name)
        if average not in _AVERAGES:
            raise ConfigError(f"SmoothF1Crossentropy: average is {average!r}; choose one of {', '.join(_AVERAGES)}")
        self.average = average

    def call(self, y_true: tuple[Tensor, Tensor], y_pred: Tensor) -> Tensor:
        """(labels, weights) and logits (B, C) to values (B,)."""
        logits = finite(y_pred)
        targets, weights = binary_targets(y_true[0], logits), y_true[1][:, None]
        half = ops.stop_gradient(smooth_f1(targets, ops.sigmoid(logits), weights, self.average)) / 2
        hit = (1.0 - half) * targets * ops.log_sigmoid(logits)
        return -ops.mean(hit + half * (1.0 - targets) * ops.log_sigmoid(-logits), -1)

    def disagreement(self, y_true: Tensor, first: Tensor, second: Tensor) -> Tensor:
        """Between two predictions, label by label."""
        return of_labels(first, second)

    def get_config(self) -> Config:
        return {**super().get_config(), "average": self.average}


def smooth_f1(targets: Tensor, probabilities: Tensor, weights: Tensor, average: str = "micro") -> Tensor:
    """2 sum(w y p) / sum(w (y + p)) of (B, C) targets and probabilities, weights (B, 1): a number, or (C,) for "macro".

    Example: `smooth_f1(ops.ones((2, 1)), ops.ones((2, 1)), ops.ones((2, 1)))` gives `1`
    """
    axis = 0 if average == "macro" else None
    both = ops.sum(weights * targets * probabilities, axis)
    return 2.0 * both / ops.maximum(ops.sum(weights * (targets + probabilities), axis), 1e-30)
