"""What is minimised, as a pure function that a training trick can wrap.

    objective(trainable, state, batch) -> (loss, aux)
    objective.value_and_grad(trainable, state, batch) -> ((loss, aux), gradients)

A transform takes an objective and returns one. It redefines the value (a penalty: the gradient then follows by
differentiation), or the gradient (a mask, a clipping), or both (a perturbed point).
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

import keras

from qingformer import backend

Array = Any  # a backend tensor


class Batch(NamedTuple):
    """One step's data: the nests `x` and `y` (batch first) and the weights `(B,)` or None."""

    x: Any
    y: Any = None
    sample_weight: Any = None


class State(NamedTuple):
    """What an objective reads besides the trainable weights; nothing is differentiated with respect to it.

    `non_trainable`: values of `model.non_trainable_variables` (dropout seeds, moving statistics).
    `metrics`: values of `model.metrics_variables` (losses of several outputs keep their means there).
    `scale`: float scalar by which the loss is multiplied (loss scaling under float16; otherwise 1).
    """

    non_trainable: list[Array]
    metrics: list[Array]
    scale: Array


class Aux(NamedTuple):
    """What an objective gives besides the loss to minimise.

    `loss`: the loss before scaling, for the logs. `predictions`: the model's outputs. `state`: the state after it.
    """

    loss: Array
    predictions: Any
    state: State


class Objective:
    """A pure training objective; subclasses define the value, and may define the gradient."""

    model: keras.Model

    def __call__(self, trainable: list[Array], state: State, batch: Batch) -> tuple[Array, Aux]:
        """The loss to minimise (float scalar, scaled by `state.scale`) and what comes with it."""
        raise TypeError(f"{type(self).__name__} does not define its value")

    def value_and_grad(
        self, trainable: list[Array], state: State, batch: Batch
    ) -> tuple[tuple[Array, Aux], list[Array]]:
        """The value, and its gradient with respect to every entry of `trainable`."""
        return backend.value_and_grad(self, has_aux=True)(trainable, state, batch)


class ModelObjective(Objective):
    """The loss a compiled model has in training: compiled losses with sample weights, added losses, regularisation.

    Example:
        >>> objective = ModelObjective(model)
        >>> state = State([v.value for v in model.non_trainable_variables], [], 1.0)
        >>> loss, aux = objective([v.value for v in model.trainable_variables], state, Batch(x, y))
    """

    def __init__(self, model: keras.Model) -> None:
        self.model = model

    def __call__(self, trainable: list[Array], state: State, batch: Batch) -> tuple[Array, Aux]:
        """Forward pass in training mode and loss, without touching any variable."""
        model = self.model
        predictions, non_trainable, losses = model.stateless_call(
            trainable, state.non_trainable, batch.x, return_losses=True, training=True
        )
        # compute_loss reads `model.losses`; outside of the forward pass those would come from the variables themselves.
        model._losses_override = list(losses)
        try:
            loss, (_, non_trainable, metrics) = model.stateless_compute_loss(
                trainable,
                non_trainable,
                state.metrics,
                x=batch.x,
                y=batch.y,
                y_pred=predictions,
                sample_weight=batch.sample_weight,
                training=True,
            )
        finally:
            model._losses_override = []
        return loss * keras.ops.cast(state.scale, loss.dtype), Aux(
            loss, predictions, State(non_trainable, metrics, state.scale)
        )


class Transform:
    """A training trick: called with an objective it returns another; subclasses are registered for serialisation."""

    def __call__(self, objective: Objective) -> Objective:
        """The transformed objective."""
        raise TypeError(f"{type(self).__name__} does not define what it makes of an objective")

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Transform":
        """The inverse of `get_config`."""
        return cls(**config)


class TransformedObjective(Objective):
    """An objective made from another one: passes everything through; override what the trick changes."""

    def __init__(self, objective: Objective) -> None:
        self.objective = objective
        self.model = objective.model

    def __call__(self, trainable: list[Array], state: State, batch: Batch) -> tuple[Array, Aux]:
        """The inner value."""
        return self.objective(trainable, state, batch)


def apply_transforms(objective: Objective, transforms: Iterable[Transform]) -> Objective:
    """Wrap `objective` in `transforms`, the first one innermost."""
    for transform in transforms:
        objective = transform(objective)
    return objective
