"""Anchor closer to positive than to negative, by a margin."""

import keras
from keras import ops

from qingformer.errors import ConfigError
from qingformer.losses.loss import WEIGHTED_MEAN, BatchLoss
from qingformer.losses.pairs import check_layout
from qingformer.ops.classes import LARGEST, class_ids
from qingformer.ops.vectors import cosine, unit
from qingformer.types import Config, Tensor

_DISTANCES = ("cosine", "euclidean")


@keras.saving.register_keras_serializable("qingformer")
class TripletLoss(BatchLoss):
    """The distance to something alike shall be smaller than to something different, by a margin.

        L = max(0, d(anchor, positive) - d(anchor, negative) + margin)

    With the layout "classes" (batch-hard) every row is an anchor; its positive is the farthest row of the same class,
    its negative the nearest row of another one. An anchor that lacks either has no part in the mean.

    Args:
        margin: in the units of the distance; None for the soft margin log(1 + e^(d_p - d_n)).
        distance: "cosine", 1 - cos, or "euclidean".
        layout: "classes": vectors (B, d) and labels (B,) whole numbers; "triplets": vectors (B, 3, d), anchor, positive
            and negative, and labels that are not read (give zeros).
        reduction: "mean_with_sample_weight" by default, the mean over the anchors that count.
        name: as in Keras.

    Values (B,) float32. Rows of weight 0 are neither anchors nor positives nor negatives; nor are rows with a negative
    label. Raises `ConfigError` for arguments that are not known or do not fit the predictions.

    Source: Schroff et al. 2015, arXiv 1503.03832; batch-hard and soft margin: Hermans et al. 2017, arXiv 1703.07737.

    Example:
        >>> loss = TripletLoss(distance="euclidean", margin=1.0)
        >>> value = loss([0, 0, 1], [[0.0, 1.0], [0.1, 1.0], [1.0, 0.0]])
    """

    def __init__(
        self,
        margin: float | None = 0.2,
        distance: str = "cosine",
        layout: str = "classes",
        reduction: str | None = WEIGHTED_MEAN,
        name: str | None = "triplet_loss",
    ) -> None:
        super().__init__(reduction, name)
        if margin is not None and not 0 <= margin < float("inf"):
            raise ConfigError(f"TripletLoss: margin is {margin}; it must not be negative, or None for the soft margin")
        if distance not in _DISTANCES:
            raise ConfigError(f"TripletLoss: distance is {distance!r}; choose one of {', '.join(_DISTANCES)}")
        self.margin, self.distance = None if margin is None else float(margin), distance
        self.layout = check_layout("TripletLoss", layout, ("classes", "triplets"))

    def value_weights(self, labels: Tensor, weights: Tensor) -> Tensor:
        """The weights of the rows, 0 for anchors without a positive or a negative."""
        if self.layout == "triplets":
            return weights
        positive, negative = _relations(labels, weights)
        return weights * ops.cast(ops.logical_and(ops.any(positive, -1), ops.any(negative, -1)), "float32")

    def call(self, y_true: tuple[Tensor, Tensor], y_pred: Tensor) -> Tensor:
        """(labels, weights) and vectors to values (B,)."""
        rank = 2 if self.layout == "classes" else 3
        if len(y_pred.shape) != rank or (rank == 3 and y_pred.shape[1] != 3):
            wanted = "(B, d)" if rank == 2 else "(B, 3, d)"
            raise ConfigError(
                f"TripletLoss: with layout={self.layout!r} it expects vectors {wanted}, "
                f"not an array of shape {tuple(y_pred.shape)}"
            )
        gap = self._explicit(y_pred) if rank == 3 else self._hardest(y_pred, *_relations(*y_true))
        return ops.softplus(gap) if self.margin is None else ops.relu(gap + self.margin)

    def _explicit(self, triplets: Tensor) -> Tensor:
        anchor, positive, negative = (triplets[:, place] for place in range(3))
        if self.distance == "cosine":
            return cosine(anchor, negative) - cosine(anchor, positive)
        return _euclidean(anchor, positive) - _euclidean(anchor, negative)

    def _hardest(self, vectors: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
        if self.distance == "cosine":
            directions = unit(vectors)
            distances = 1.0 - ops.matmul(directions, ops.transpose(directions))
        else:
            distances = _euclidean(vectors[:, None], vectors[None])
        farthest = ops.max(ops.where(positive, distances, -LARGEST), -1)
        nearest = ops.min(ops.where(negative, distances, LARGEST), -1)
        counts = ops.logical_and(ops.any(positive, -1), ops.any(negative, -1))
        return ops.where(counts, farthest - nearest, 0.0)

    def get_config(self) -> Config:
        return {**super().get_config(), "margin": self.margin, "distance": self.distance, "layout": self.layout}


def _euclidean(left: Tensor, right: Tensor) -> Tensor:
    # The floor keeps the slope of the root finite where two vectors are equal.
    return ops.sqrt(ops.maximum(ops.sum(ops.square(left - right), -1), 1e-12))


def _relations(labels: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Which rows may be a positive, and which a negative, of each row: (B, B) bool twice."""
    ids = class_ids(ops.reshape(labels, (-1,)))
    taken = ops.logical_and(weights > 0, ids >= 0)
    both = ops.logical_and(taken[:, None], taken[None, :])
    alike = ids[:, None] == ids[None, :]
    others = ops.logical_not(ops.cast(ops.eye(ops.shape(ids)[0]), "bool"))
    positive = ops.logical_and(both, ops.logical_and(alike, others))
    return positive, ops.logical_and(both, ops.logical_not(alike))
