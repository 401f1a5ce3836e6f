"""Adversarial training on the embeddings (fast gradient method)."""

import keras
from keras import ops

from qingformer import backend
from qingformer.objectives.objective import Objective, Transform
from qingformer.objectives.perturbation import (
    ATTACKS,
    NORMS,
    RELATIVE,
    Length,
    MovedObjective,
    Point,
    ascent,
    embedding_place,
    sized,
)
from qingformer.objectives.transform_arguments import one_of, radius
from qingformer.types import Config


@keras.saving.register_keras_serializable("qingformer")
class FGM(Transform):
    """Train at the point where a small step along the gradient of the embeddings makes the loss larger.

        G = dL/dE,   delta = epsilon * G / (||G|| + 1e-8),   minimise L(E + delta) with delta held constant

    for the embedding matrix E `(V, H)`, or with `norm="sample"` for the embedded text E `(B, T, H)`, so that the same
    token is moved differently in every text. The weights are not changed by the perturbation, only by the update. A
    step costs two gradients. Logs and metrics are those of the perturbed pass.

    Both passes see the same dropout masks and the same moving statistics, so `epsilon=0` is plain training to the bit;
    with `fresh_dropout=True` the second pass draws new masks and updates the statistics once more, as two separate
    calls of a model would.

    Args:
        epsilon: length of the perturbation, in units of the weights, >= 0; with "linf" the size of its every entry. The
            article's 0.5 is meant for the embeddings of BERT, and drowns those of small models.
        relative: instead of epsilon, the length in units of a token's vector (the root mean square over the rows of the
            layer's weights; with "linf" over its entries): the same at every size of model. The default, 0.05, if
            neither is given, does a new model no measurable harm; a pre-trained one can gain from more (the article's
            0.5 is 0.36 of a vector of BERT). See docs/training.md.
        layer: name or path of the layer whose trainable weights are perturbed, or with "sample" whose output is.
        norm: what has length epsilon: "matrix" (the whole weight; several weights, or several layers of that name,
            share one norm), "row" (each vocabulary row by itself), or "sample" (what the layer puts out for one sample,
            all its calls together).
        fresh_dropout: draw new dropout masks for the second pass.
        attack: "l2" (the formula above) or "linf": delta = epsilon * sign(G), for which "matrix" and "row" are one.

    Raises:
        ConfigError: an argument that cannot be; in `compile`, a layer that is not there or has nothing to train; in the
            first step, with "sample", a layer that is not called or does not put out one float array.

    Under float16 the gradient is unscaled before it is normalised; where it overflowed, nothing is perturbed and the
    loss-scaling optimizer drops the step as usual. With "matrix" and "row" the direction is the gradient that the
    transforms listed before give, with "sample" the derivative of their value.

    Source: Miyato, Dai, Goodfellow 2016, arXiv 1605.07725 ("sample"); Goodfellow et al. 2014, arXiv 1412.6572 (the sign
    form); the embedding-matrix form: 科学空间, archives/7234.

    Example:
        >>> model.compile("adam", "sparse_categorical_crossentropy", transforms=[FGM()])
    """

    def __init__(
        self,
        epsilon: float | None = None,
        layer: str = "token_embedding",
        norm: str = "matrix",
        fresh_dropout: bool = False,
        attack: str = "l2",
        relative: float | None = None,
    ) -> None:
        self.epsilon, self.relative = radius("FGM", epsilon, relative, RELATIVE)
        self.layer = layer
        self.norm = one_of("FGM", "norm", norm, NORMS)
        self.fresh_dropout = fresh_dropout
        self.attack = one_of("FGM", "attack", attack, ATTACKS)

    def __call__(self, objective: Objective) -> Objective:
        """The objective at the perturbed point."""
        return _Adversarial(objective, self)

    def get_config(self) -> Config:
        """The constructor's arguments."""
        return {
            "epsilon": self.epsilon,
            "layer": self.layer,
            "norm": self.norm,
            "fresh_dropout": self.fresh_dropout,
            "attack": self.attack,
            "relative": self.relative,
        }


class _Adversarial(MovedObjective):
    def __init__(self, objective: Objective, settings: FGM) -> None:
        super().__init__(objective)
        self.settings = settings
        self.place = embedding_place(objective, settings.layer, settings.norm == "sample", "FGM")
        self.length = None
        if settings.relative is not None:
            self.length = Length(self.model, settings.layer, settings.attack, "FGM")

    def moved(self, point: Point) -> Point:
        settings, zeros = self.settings, self.place.zeros(point)
        if settings.fresh_dropout:
            aux, gradients = self.place.slope(point, zeros)
            point = point._replace(state=point.state._replace(non_trainable=aux.state.non_trainable))
        else:
            with backend.repeated_randomness():
                _, gradients = self.place.slope(point, zeros)
        size = sized(settings.epsilon, settings.relative, self.length, point)
        deltas = ascent(gradients, size, settings.attack, settings.norm)
        return self.place.add(point, [ops.stop_gradient(delta) for delta in deltas])
