"""Bounds on the gradient."""

import keras
from keras import ops

from qingformer.errors import ConfigError
from qingformer.objectives.objective import Aux, Batch, Objective, State, Transform, TransformedObjective
from qingformer.types import Config, Tensor


@keras.saving.register_keras_serializable("qingformer")
class ClipGradients(Transform):
    """Bound the gradient, in one of three ways.

        global_norm = c:  g <- g * min(1, c / ||g||),  ||g|| over all weights together
        norm = c:         the same for each weight by itself
        value = c:        each element into [-c, c]

    Norms are taken in float32; a zero gradient stays zero. Under float16 the bound is multiplied by the loss scale, so
    it means the same; what overflowed stays not finite, and the loss-scaling optimizer drops the step as usual.

    Unlike `global_clipnorm` of a Keras optimizer this acts where it stands in the list: before `GradientAccumulation`
    it bounds each part, behind `ChildTuningF` only what the mask kept. The value of the objective is not changed.

    Args:
        global_norm, norm, value: exactly one of them, above 0, in units of the gradient.

    Raises:
        ConfigError: none or several bounds, or one that is not a positive finite number.

    Source: Pascanu, Mikolov, Bengio 2012, arXiv 1211.5063.

    Example:
        >>> model.compile("adam", loss, transforms=[ClipGradients(1.0)])
    """

    def __init__(self, global_norm: float | None = None, norm: float | None = None, value: float | None = None) -> None:
        bounds = {"global_norm": global_norm, "norm": norm, "value": value}
        given = {name: bound for name, bound in bounds.items() if bound is not None}
        if len(given) != 1:
            raise ConfigError(f"ClipGradients: got {given or 'no bound'}; give one of global_norm, norm and value")
        ((self.kind, bound),) = given.items()
        if not 0 < bound < float("inf"):
            raise ConfigError(f"ClipGradients: {self.kind} is {bound}; it must be a positive finite number")
        self.bound = float(bound)

    def __call__(self, objective: Objective) -> Objective:
        """The same value with a bounded gradient."""
        return _Clipped(objective, self)

    def get_config(self) -> Config:
        """The constructor's arguments."""
        return {self.kind: self.bound}


class _Clipped(TransformedObjective):
    def __init__(self, objective: Objective, settings: ClipGradients) -> None:
        super().__init__(objective)
        self.settings = settings

    def value_and_grad(
        self, trainable: list[Tensor], state: State, batch: Batch
    ) -> tuple[tuple[Tensor, Aux], list[Tensor]]:
        result, gradients = self.objective.value_and_grad(trainable, state, batch)
        bound = self.settings.bound * ops.cast(state.scale, "float32")
        precise = [ops.cast(g, "float32") for g in gradients]
        if self.settings.kind == "value":
            # An infinite element must stay so: the loss-scaling optimizer looks for it.
            clipped = [ops.where(ops.isfinite(g), ops.minimum(ops.maximum(g, -bound), bound), g) for g in precise]
        else:
            squares = [ops.sum(g**2) for g in precise]
            if self.settings.kind == "global_norm":
                squares = [sum(squares)] * len(squares)
            clipped = [g * (bound / ops.maximum(bound, ops.sqrt(square))) for g, square in zip(precise, squares)]
        return result, [ops.cast(c, g.dtype) for c, g in zip(clipped, gradients)]
