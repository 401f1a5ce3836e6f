"""Penalty of the squared gradient: of the embeddings, the inputs, or the parameters."""

import re

import keras
from keras import ops

from qingformer import backend
from qingformer.errors import ConfigError
from qingformer.objectives.objective import Aux, Batch, Objective, State, Transform, TransformedObjective
from qingformer.objectives.perturbation import (
    Inputs,
    Place,
    Point,
    Weights,
    embedding_place,
    unshifted,
)
from qingformer.objectives.transform_arguments import not_negative, one_of
from qingformer.types import Config, Tensor

_PLACES = ("embedding", "inputs", "parameters")
_UNITS = ("row", "occurrence")


@keras.saving.register_keras_serializable("qingformer")
class GradientPenalty(Transform):
    """Add half the squared gradient of the loss, which prefers points where the loss is flat.

        L + epsilon / 2 * sum ||dL/dz||^2

    where z is the embedding matrix E `(V, H)`, the float inputs, or the trainable parameters, and L is the loss of the
    whole batch (where that is a mean, multiply epsilon by the batch size for the mean penalty of single rows). To first
    order, `FGM` without the division by the norm minimises the same. A step costs about three gradients; the masks of
    dropout are the same in all of them. The logged loss contains the penalty.

    Args:
        epsilon: weight of the penalty, >= 0.
        on: "embedding", "inputs" or "parameters".
        layer: with "embedding", name or path of the layer.
        per: with "embedding", "row" squares the gradient of every row of the matrix, in which all places of a token
            are added up first; "occurrence" squares the gradient of every place in the text, as the original script
            did and the published results were reached.
        pattern: with "parameters" and "inputs" a regular expression, found in the variable's path or the input's name
            (its key in a dictionary, its number in a list); None for all.

    Raises:
        ConfigError: an argument that cannot be; in `compile`, a layer or variable that is not there; in the first step,
            no input that fits.

    Losses and layers must be twice differentiable; those of Keras are, on all backends. On torch the plain form of the
    attention kernel is used, as the fused ones have no second derivative.

    Source: 科学空间, archives/7234 (embedding, epsilon 1), archives/7259 (generation), archives/8796 (inputs and
    parameters compared); Drucker, Le Cun 1992 (inputs); Barrett, Dherin 2020, arXiv 2009.11162 (parameters).

    Example:
        >>> model.compile("adam", "sparse_categorical_crossentropy", transforms=[GradientPenalty(1.0)])
    """

    def __init__(
        self,
        epsilon: float = 1.0,
        on: str = "embedding",
        layer: str = "token_embedding",
        per: str = "row",
        pattern: str | None = None,
    ) -> None:
        self.epsilon = not_negative("GradientPenalty", "epsilon", epsilon)
        self.on = one_of("GradientPenalty", "on", on, _PLACES)
        self.per = one_of("GradientPenalty", "per", per, _UNITS)
        if pattern is not None and on == "embedding":
            raise ConfigError("GradientPenalty: pattern is for inputs and parameters; name the embedding with layer=")
        self.layer = layer
        self.pattern = pattern

    def __call__(self, objective: Objective) -> Objective:
        """The objective with the penalty."""
        return _Penalised(objective, self.epsilon, self._place(objective))

    def _place(self, objective: Objective) -> Place:
        if self.on == "embedding":
            return embedding_place(objective, self.layer, self.per == "occurrence", "GradientPenalty")
        if self.on == "inputs":
            return Inputs(objective, self.pattern, "GradientPenalty")
        paths = [variable.path for variable in objective.model.trainable_variables]
        chosen = [i for i, path in enumerate(paths) if self.pattern is None or re.search(self.pattern, path)]
        if not chosen:
            raise ConfigError(
                f"GradientPenalty: no trainable variable fits {self.pattern!r}; they are: {', '.join(paths)}"
            )
        return Weights(objective, chosen)

    def get_config(self) -> Config:
        """The constructor's arguments."""
        return {
            "epsilon": self.epsilon,
            "on": self.on,
            "layer": self.layer,
            "per": self.per,
            "pattern": self.pattern,
        }


class _Penalised(TransformedObjective):
    def __init__(self, objective: Objective, epsilon: float, place: Place) -> None:
        super().__init__(objective)
        self.epsilon = epsilon
        self.place = place

    def __call__(self, trainable: list[Tensor], state: State, batch: Batch) -> tuple[Tensor, Aux]:
        point = Point(trainable, state, batch)
        with backend.twice_differentiable():
            (loss, aux), gradients = self.place.value_and_slope(point, self.place.zeros(point))
        penalty = self.epsilon / 2 * sum(ops.sum(ops.square(gradient)) for gradient in gradients)
        # Where the gradient overflowed under loss scaling the step is dropped; its log should not be lost with it.
        shown = ops.where(ops.isfinite(penalty), penalty, 0.0)
        total = loss + ops.cast(penalty * ops.cast(state.scale, penalty.dtype), loss.dtype)
        return unshifted((total, aux._replace(loss=aux.loss + ops.cast(shown, aux.loss.dtype))), state)
