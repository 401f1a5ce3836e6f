"""Contrastive loss with the rest of the batch as negatives."""

import keras
from keras import ops

from qingformer.errors import ConfigError
from qingformer.losses.loss import WEIGHTED_MEAN, BatchLoss
from qingformer.losses.pairs import check_layout, grouped, one_each
from qingformer.ops.classes import log_sum_exp
from qingformer.ops.vectors import unit
from qingformer.types import Config, Tensor

_NEGATIVES = ("across", "all")


@keras.saving.register_keras_serializable("qingformer")
class InfoNCE(BatchLoss):
    """Each vector shall find its partner among all partners of the batch, by cosine.

        L_i = -log e^(cos(u_i, v_i)/t) / sum_j e^(cos(u_i, v_j)/t)

    With `symmetric` the mean of that and of the same from v to u (CLIP). `negatives="all"` also counts the vectors of
    the own side, except the vector itself, in both directions (SimCLR). SimCSE without labels: the pair is one sentence
    under two dropout masks; with hard negatives: (anchor, positive, contradiction), layout "pairs".

    Args:
        temperature: t.
        layout: "rows": vectors (2M, d), rows 2m and 2m + 1 are the m-th pair. "pairs": (M, K, d) or a tuple of K
            arrays: anchor, positive, and K - 2 hard negatives, which are negatives for all anchors.
        symmetric: see above; hard negatives count in the direction from the anchors only.
        negatives: "across" or "all".
        reduction: "mean_with_sample_weight" by default, the mean over the pairs whose weight is not 0.
        name: as in Keras.

    The labels are not read (give zeros); values (M,) float32. Pairs of weight 0 are nobody's negatives.
    Raises `ConfigError` for arguments that are not known or do not fit the predictions.

    Source: van den Oord et al. 2018, arXiv 1807.03748; Gao, Yao, Chen 2021 (SimCSE), arXiv 2104.08821; "all": Chen et
    al. 2020 (SimCLR), arXiv 2002.05709; "symmetric": Radford et al. 2021 (CLIP), arXiv 2103.00020.

    Example:
        >>> loss = InfoNCE(layout="pairs")
        >>> value = loss([0.0, 0.0], ([[1.0, 0.0], [0.0, 1.0]], [[0.9, 0.1], [0.1, 1.0]]))
    """

    def __init__(
        self,
        temperature: float = 0.05,
        layout: str = "rows",
        symmetric: bool = False,
        negatives: str = "across",
        reduction: str | None = WEIGHTED_MEAN,
        name: str | None = "info_nce",
    ) -> None:
        super().__init__(reduction, name)
        if not 0 < temperature < float("inf"):
            raise ConfigError(f"InfoNCE: temperature is {temperature}; it must be a positive number")
        if negatives not in _NEGATIVES:
            raise ConfigError(f"InfoNCE: negatives is {negatives!r}; choose one of {', '.join(_NEGATIVES)}")
        self.temperature, self.symmetric, self.negatives = float(temperature), bool(symmetric), negatives
        self.layout = check_layout("InfoNCE", layout)

    def value_weights(self, labels: Tensor, weights: Tensor) -> Tensor:
        """Weights of the pairs."""
        # Two rows make a pair, which has the weight of its first.
        return ops.reshape(weights, (-1, 2))[:, 0] if self.layout == "rows" else weights

    def call(self, y_true: tuple[Tensor, Tensor], y_pred: Tensor) -> Tensor:
        """(anything, weights) and vectors to values (M,)."""
        vectors = unit(grouped("InfoNCE", self.layout, y_pred))
        taken = one_each(y_true[1], self.layout, vectors) > 0
        u, v, hard = vectors[:, 0], vectors[:, 1], vectors[:, 2:]
        forward = self._direction(u, v, taken, hard)
        if self.symmetric or self.negatives == "all":
            return (forward + self._direction(v, u, taken, hard[:, :0])) / 2
        return forward

    def _direction(self, anchors: Tensor, partners: Tensor, taken: Tensor, hard: Tensor) -> Tensor:
        """Cross-entropy of finding one's own partner: (M, d) twice, hard negatives (M, K, d), to (M,)."""
        count, own = ops.shape(anchors)[0], ops.sum(anchors * partners, -1)
        # (n, n): each anchor's own partner, which stays in its sum also where its row has no weight.
        itself = ops.cast(ops.eye(count), "bool")
        columns = ops.broadcast_to(taken[None, :], (count, count))
        parts = [(partners, ops.logical_or(columns, itself))]
        if self.negatives == "all":
            parts.append((anchors, ops.logical_and(columns, ops.logical_not(itself))))
        for index in range(hard.shape[1]):
            parts.append((hard[:, index], columns))
        similarity = ops.concatenate([ops.matmul(anchors, ops.transpose(side)) for side, _ in parts], -1)
        keep = ops.concatenate([mask for _, mask in parts], -1)
        return log_sum_exp(similarity / self.temperature, keep) - own / self.temperature

    def get_config(self) -> Config:
        names = ("temperature", "layout", "symmetric", "negatives")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}
