"""Softmax over cosines that asks the true class to win by a margin: AM-Softmax, A-Softmax, ArcFace."""

import math

import keras
from keras import ops

from qingformer.errors import ConfigError
from qingformer.losses.loss import MEAN, Loss, of_classes
from qingformer.ops.classes import finite, is_distribution, log_sum_exp, one_for_all
from qingformer.types import Config, Tensor


class MarginSoftmax(Loss):
    """Cross-entropy of scaled cosines, in which the true class is judged by a smaller number than its cosine.

        L = -log e^(s psi_y) / (e^(s psi_y) + sum over the other classes of e^(s cos_c)),   psi_y = psi(cos_y) <= cos_y

    Subclasses define psi. Cosines come from `qingformer.layers.CosineClassifier`; without margin this is cross-entropy
    of s cos. Labels whole numbers (...) - a negative one costs nothing - or one-hot (..., C); cosines (..., C) in
    [-1, 1]; values (...) float32.

    `from_all_classes` sums as the sparse form of the source does, without telling the classes apart: Z = log sum over
    all classes of e^(s cos) and of e^(s psi_y), then Z + log(1 - e^(s cos_y - Z)), where the difference is kept above
    1e-7. It saves the comparison of every class with the label; where the true class leads by far it is less exact.
    """

    def __init__(
        self, scale: float, from_all_classes: bool = False, reduction: str | None = MEAN, name: str | None = None
    ) -> None:
        super().__init__(reduction, name)
        if not 0 < scale < float("inf"):
            raise ConfigError(f"{type(self).__name__}: scale is {scale}; it must be a positive number")
        self.scale, self.from_all_classes = float(scale), bool(from_all_classes)

    def margin_cosine(self, cosine: Tensor) -> Tensor:
        """psi, at most the cosine: any shape, to the same shape."""
        raise TypeError(f"{type(self).__name__} does not define its margin")

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        """Labels and cosines (..., C) to values (...)."""
        cosines = finite(y_pred)
        if is_distribution(y_true, y_pred):
            known = ops.any(y_true > 0, -1)
            ids = ops.cast(ops.argmax(y_true, -1), "int32")
        else:
            ids = one_for_all(y_true, y_pred)
            known, ids = ids >= 0, ops.maximum(ids, 0)
        # (n, 1), to stand beside the classes.
        ids = ops.expand_dims(ids, -1)
        own = ops.take_along_axis(cosines, ids, -1)
        psi = self.scale * self.margin_cosine(own)
        if self.from_all_classes:
            total = self._without_own(cosines, own, psi)
        else:
            others = ids != ops.arange(ops.shape(cosines)[-1], dtype="int32")
            # The true class's own entry is replaced, not subtracted: exact however far it leads.
            total = log_sum_exp(ops.where(others, self.scale * cosines, psi))
        return ops.where(known, total - psi[..., 0], 0.0)

    def _without_own(self, cosines: Tensor, own: Tensor, psi: Tensor) -> Tensor:
        everything = log_sum_exp(ops.concatenate([self.scale * cosines, psi], -1))
        share = ops.exp(self.scale * own[..., 0] - everything)
        return everything + ops.log(ops.clip(1.0 - share, 1e-7, 1.0))

    def disagreement(self, y_true: Tensor, first: Tensor, second: Tensor) -> Tensor:
        """Between the softmaxes of two predictions scaled, without margin, as they are used to predict."""
        return of_classes(y_true, self.scale * finite(first), self.scale * finite(second))

    def get_config(self) -> Config:
        return {**super().get_config(), "scale": self.scale, "from_all_classes": self.from_all_classes}


@keras.saving.register_keras_serializable("qingformer")
class AMSoftmax(MarginSoftmax):
    """`MarginSoftmax` with psi = cos - margin.

    Args:
        scale, margin: s and m; 30 and 0.35 in the paper.
        from_all_classes, reduction, name: see `MarginSoftmax`.

    Raises `ConfigError` for a scale that is not positive or a negative margin.

    Source: Wang, Liu, Liu, Cheng 2018, arXiv 1801.05599; for sentences: 科学空间 archives/5743.

    Example:
        >>> loss = AMSoftmax()
        >>> value = loss([1], [[0.1, 0.9, -0.3]])
    """

    def __init__(
        self,
        scale: float = 30.0,
        margin: float = 0.35,
        from_all_classes: bool = False,
        reduction: str | None = MEAN,
        name: str | None = "am_softmax",
    ) -> None:
        super().__init__(scale, from_all_classes, reduction, name)
        self.margin = _checked(self, margin, float("inf"))

    def margin_cosine(self, cosine: Tensor) -> Tensor:
        """cos - margin."""
        return cosine - self.margin

    def get_config(self) -> Config:
        return {**super().get_config(), "margin": self.margin}


@keras.saving.register_keras_serializable("qingformer")
class ASoftmax(MarginSoftmax):
    """`MarginSoftmax` that multiplies the angle: psi = (-1)^k cos(m theta) - 2k for theta in [k pi/m, (k+1) pi/m].

    `simple` takes psi = min(cos(m theta), cos(theta)) instead, which is cheaper and no longer falls all the way.
    cos(m theta) is a polynomial of the cosine (Chebyshev; m = 4: 8 c^4 - 8 c^2 + 1), so no angle is computed.

    Args:
        scale: s. multiple: m, a whole number of at least 1. simple: the simpler psi.
        from_all_classes, reduction, name: see `MarginSoftmax`.

    Raises `ConfigError` for a scale or a multiple that cannot be.

    Source: Liu et al. 2017 (SphereFace), arXiv 1704.08063; the simpler form: 科学空间 archives/5743.

    Example:
        >>> loss = ASoftmax(simple=True)
        >>> value = loss([1], [[0.1, 0.9, -0.3]])
    """

    def __init__(
        self,
        scale: float = 30.0,
        multiple: int = 4,
        simple: bool = False,
        from_all_classes: bool = False,
        reduction: str | None = MEAN,
        name: str | None = "a_softmax",
    ) -> None:
        super().__init__(scale, from_all_classes, reduction, name)
        if multiple < 1 or int(multiple) != multiple:
            raise ConfigError(f"ASoftmax: multiple is {multiple}; it must be a whole number of at least 1")
        self.multiple, self.simple = int(multiple), bool(simple)

    def margin_cosine(self, cosine: Tensor) -> Tensor:
        """cos(m theta), made smaller than cos(theta)."""
        before, power = ops.ones_like(cosine), cosine
        for _ in range(self.multiple - 1):
            # Chebyshev: cos(m t) = 2 cos t cos((m - 1) t) - cos((m - 2) t), without an arccosine and its infinite
            # slope.
            before, power = power, 2.0 * cosine * power - before
        if self.simple:
            return ops.minimum(power, cosine)
        k = sum(ops.cast(cosine < math.cos(j * math.pi / self.multiple), "float32") for j in range(1, self.multiple))
        return (1.0 - 2.0 * ops.mod(k, 2.0)) * power - 2.0 * k if self.multiple > 1 else power

    def get_config(self) -> Config:
        return {**super().get_config(), "multiple": self.multiple, "simple": self.simple}


@keras.saving.register_keras_serializable("qingformer")
class ArcFace(MarginSoftmax):
    """`MarginSoftmax` that adds to the angle: psi = cos(theta + m), and cos(theta) - m sin(m) where theta + m > pi.

    Args:
        scale: s. margin: m in radians, in [0, pi).
        from_all_classes, reduction, name: see `MarginSoftmax`.

    Raises `ConfigError` for a scale or a margin that cannot be.

    Source: Deng, Guo, Xue, Zafeiriou 2018, arXiv 1801.07698 (s = 64, m = 0.5 for faces).

    Example:
        >>> loss = ArcFace()
        >>> value = loss([1], [[0.1, 0.9, -0.3]])
    """

    def __init__(
        self,
        scale: float = 30.0,
        margin: float = 0.5,
        from_all_classes: bool = False,
        reduction: str | None = MEAN,
        name: str | None = "arc_face",
    ) -> None:
        super().__init__(scale, from_all_classes, reduction, name)
        self.margin = _checked(self, margin, math.pi)

    def margin_cosine(self, cosine: Tensor) -> Tensor:
        """cos(theta + margin), continued by a straight line."""
        # The floor keeps the slope of the root finite where cos is +-1.
        sine = ops.sqrt(ops.maximum(1.0 - ops.square(cosine), 1e-7))
        moved = cosine * math.cos(self.margin) - sine * math.sin(self.margin)
        # Beyond pi - m the cosine would rise again; a line goes on falling (InsightFace does the same).
        return ops.where(cosine > -math.cos(self.margin), moved, cosine - self.margin * math.sin(self.margin))

    def get_config(self) -> Config:
        return {**super().get_config(), "margin": self.margin}


def _checked(loss: MarginSoftmax, margin: float, top: float) -> float:
    if not 0 <= margin < top:
        raise ConfigError(f"{type(loss).__name__}: margin is {margin}; it must be in [0, {top:.4g})")
    return float(margin)
