"""Ranking loss on the similarities of sentence pairs."""

import keras
from keras import ops

from qingformer.errors import ConfigError
from qingformer.losses.loss import MEAN, BatchLoss
from qingformer.losses.pairs import LAYOUTS, check_layout, grouped, one_each
from qingformer.ops.classes import finite, log_sum_exp
from qingformer.ops.vectors import cosine
from qingformer.types import Config, Tensor


@keras.saving.register_keras_serializable("qingformer")
class CoSENT(BatchLoss):
    """Every pair with a higher label shall be more similar than every pair with a lower one, by cosine.

        L = log(1 + sum over pairs a, b of the batch with y_a < y_b of w_a w_b e^(scale (cos_a - cos_b)))

    Only the order of the labels matters: binary, graded, or entailment > neutral > contradiction. Equal labels are not
    compared, so a batch of equal labels has loss 0. w are the sample weights; pairs of weight 0 take no part.

    Args:
        scale: lambda.
        layout: "rows": vectors (2M, d), rows 2m and 2m + 1 are the m-th pair, labels (2M,) - the label of a pair is
            that of its first row - or (M,). "pairs": vectors (M, 2, d) or a tuple (u, v), labels (M,). "scores":
            similarities (M,) or (M, 1) made by the model itself (a cross-encoder; then scale 1 is usual).
        reduction, name: as in Keras; the value is one number, so reductions do not change it.

    Raises `ConfigError` for a layout that is not known or does not fit the predictions.

    Source: 科学空间 archives/8847; scores of a cross-encoder: archives/8860.

    Example:
        >>> loss = CoSENT(layout="pairs")
        >>> value = loss([1.0, 0.0], ([[1.0, 0.0], [1.0, 0.0]], [[0.9, 0.1], [0.0, 1.0]]))
    """

    weighs_values = False

    def __init__(
        self, scale: float = 20.0, layout: str = "rows", reduction: str | None = MEAN, name: str | None = "cosent"
    ) -> None:
        super().__init__(reduction, name)
        if not 0 < scale < float("inf"):
            raise ConfigError(f"CoSENT: scale is {scale}; it must be a positive number")
        self.scale = float(scale)
        self.layout = check_layout("CoSENT", layout, (*LAYOUTS, "scores"))

    def call(self, y_true: tuple[Tensor, Tensor], y_pred: Tensor) -> Tensor:
        """(labels, weights) and vectors or scores to one number."""
        if self.layout == "scores":
            similarity = finite(ops.reshape(y_pred, (-1,)))
        else:
            pairs = grouped("CoSENT", self.layout, y_pred)
            similarity = cosine(pairs[:, 0], pairs[:, 1])
        labels, weights = (one_each(values, self.layout, similarity) for values in y_true)
        taken = weights > 0
        # log w + s: a weight multiplies its exponential. The inner `where` keeps log 0 out of the gradient.
        above = ops.log(ops.where(taken, weights, 1.0)) + self.scale * similarity
        below = ops.log(ops.where(taken, weights, 1.0)) - self.scale * similarity
        # (n, n): entry i, j where pair i should be less alike than pair j, and both count.
        ordered = ops.logical_and(labels[:, None] < labels[None, :], ops.logical_and(taken[:, None], taken[None, :]))
        return log_sum_exp(
            ops.reshape(above[:, None] + below[None, :], (-1,)), ops.reshape(ordered, (-1,)), with_zero=True
        )

    def get_config(self) -> Config:
        return {**super().get_config(), "scale": self.scale, "layout": self.layout}
