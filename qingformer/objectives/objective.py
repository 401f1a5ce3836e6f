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
from qingformer.objectives.outputs import shifted_outputs

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
    `step`: whole-number scalar, how many steps the optimizer has made. `part`: which part of a divided step this is.
    `shifts`: what every forward pass adds to outputs of layers (see `outputs.shifted_outputs`), or None.
    """

    non_trainable: list[Array]
    metrics: list[Array]
    scale: Array
    step: Array = 0
    part: Array = 0
    shifts: dict[int, list[Array]] | None = None

    def seed(self, salt: int) -> backend.FixedSeed:
        """A seed for `keras.random.*` that is a function of `salt` (of the transform), step and part alone.

        So a resumed training draws what it would have drawn, and no state is needed for it. Use it up in one place:
        it gives the same numbers every time.
        """
        dtype = keras.src.backend.random_seed_dtype()
        first = keras.ops.cast(self.part, dtype) * 7919 + keras.ops.cast(salt % 2**30, dtype)
        return backend.FixedSeed(keras.ops.stack([first, keras.ops.cast(self.step, dtype)]))


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
        with shifted_outputs(model, state.shifts):
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
        after = state._replace(non_trainable=non_trainable, metrics=metrics)
        return loss * keras.ops.cast(state.scale, loss.dtype), Aux(loss, predictions, after)


class Transform:
    """A training trick: called with an objective it returns another; subclasses are registered for serialisation.

    One that keeps arrays (a fixed mask) makes them in `build` as non-trainable `keras.Variable`s and gives them in
    `variables`: the model carries them in its state, and a resumed training gets them back.
    """

    @property
    def variables(self) -> list[keras.Variable]:
        """What this transform keeps, after `build`."""
        return []

    def build(self, model: keras.Model) -> None:
        """Make the variables for `model`; called by `compile`, before the objective is made."""

    def prepare(self, model: keras.Model, data: tuple[Any, ...]) -> None:
        """Measure what must be known before the first step; `data` is `fit`'s (x, y, sample_weight, batch_size).

        Called at every `fit`; a transform that has measured already keeps what it has (in its variables, so that a
        resumed training knows too).
        """

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

    def value_of(self, variable: keras.Variable, state: State) -> Array:
        """The value that `state` holds for a variable of the transform."""
        return state.non_trainable[[id(v) for v in self.model.non_trainable_variables].index(id(variable))]


def apply_transforms(objective: Objective, transforms: Iterable[Transform]) -> Objective:
    """Wrap `objective` in `transforms`, the first one innermost."""
    for transform in transforms:
        objective = transform(objective)
    return objective
