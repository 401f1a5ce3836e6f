"""What is minimised, as a pure function that a training trick can wrap.

    objective(trainable, state, batch) -> (loss, aux)
    objective.value_and_grad(trainable, state, batch) -> ((loss, aux), gradients)

A transform takes an objective and returns one. It redefines the value (a penalty: the gradient then follows by
differentiation), or the gradient (a mask, a clipping), or both (a perturbed point).
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import keras

from qingformer import backend
from qingformer.backend.keras_internals import random_seed_dtype
from qingformer.objectives.layer_outputs import perturbed_outputs
from qingformer.objectives.reduction import divisors
from qingformer.types import Config, Tensor


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
    `tasks`: a factor for each compiled loss beside its own weight, in Keras' order, or None for all 1; what weighs the
    tasks of a model against each other asks for one loss at a time by it.
    `perturbations`: what every forward pass adds to outputs of layers (see `layer_outputs.perturbed_outputs`), or None.
    """

    non_trainable: list[Tensor]
    metrics: list[Tensor]
    scale: Tensor
    step: Tensor = 0
    part: Tensor = 0
    tasks: tuple[Any, ...] | None = None
    perturbations: dict[int, list[Tensor]] | None = None

    def seed(self, salt: int) -> backend.FixedSeed:
        """A seed for `keras.random.*` that is a function of `salt` (of the transform), step and part alone.

        So a resumed training draws what it would have drawn, and no state is needed for it. Use it up in one place:
        it gives the same numbers every time.
        """
        dtype = random_seed_dtype()
        first = keras.ops.cast(self.part, dtype) * 7919 + keras.ops.cast(salt % 2**30, dtype)
        return backend.FixedSeed(keras.ops.stack([first, keras.ops.cast(self.step, dtype)]))


class Aux(NamedTuple):
    """What an objective gives besides the loss to minimise.

    `loss`: the loss before scaling, for the logs. `predictions`: the model's outputs. `state`: the state after it.
    `weights`: for each output with a loss, what its weighted sum was divided by, or None where that is the number of
    its elements (or where nothing is divided); see `GradientAccumulation`.
    """

    loss: Tensor
    predictions: Any
    state: State
    weights: tuple[Tensor | None, ...] = ()


class Objective:
    """A pure training objective; subclasses define the value, and may define the gradient."""

    model: keras.Model

    def __call__(self, trainable: list[Tensor], state: State, batch: Batch) -> tuple[Tensor, Aux]:
        """The loss to minimise (float scalar, scaled by `state.scale`) and what comes with it."""
        raise TypeError(f"{type(self).__name__} does not define its value")

    def value_and_grad(
        self, trainable: list[Tensor], state: State, batch: Batch
    ) -> tuple[tuple[Tensor, Aux], list[Tensor]]:
        """The value, and its gradient with respect to every entry of `trainable`."""
        return backend.value_and_grad(self, has_aux=True)(trainable, state, batch)

    def frozen_masks(self, state: State) -> dict[int, Tensor]:
        """Weights which this step must not move, whatever the optimizer does: index in `trainable` -> bool array.

        The array is broadcast against the weight; where it is True, the step puts the old values back.
        """
        return {}


class ModelObjective(Objective):
    """The loss a compiled model has in training: compiled losses with sample weights, added losses, regularisation.

    Example:
        >>> objective = ModelObjective(model)
        >>> state = State([v.value for v in model.non_trainable_variables], [], 1.0)
        >>> loss, aux = objective([v.value for v in model.trainable_variables], state, Batch(x, y))
    """

    def __init__(self, model: keras.Model, training: bool = True) -> None:
        self.model = model
        self.training = training

    def __call__(self, trainable: list[Tensor], state: State, batch: Batch) -> tuple[Tensor, Aux]:
        """Forward pass and loss, without touching any variable; `training` decides about dropout and the like."""
        model = self.model
        with perturbed_outputs(model, state.perturbations):
            predictions, non_trainable, losses = model.stateless_call(
                trainable, state.non_trainable, batch.x, return_losses=True, training=self.training
            )
        compute = partial(
            model.stateless_compute_loss,
            trainable,
            non_trainable,
            state.metrics,
            x=batch.x,
            y=batch.y,
            y_pred=predictions,
            training=self.training,
        )
        # compute_loss reads `model.losses`; outside of the forward pass those would come from the variables themselves.
        model._losses_override = list(losses)
        try:
            if state.tasks is not None and not model._compile_loss.built:
                compute(sample_weight=copied(batch.sample_weight))  # TensorFlow's `fit` has not built the losses yet
            with _weighed_tasks(model, state.tasks):
                loss, (_, non_trainable, metrics) = compute(sample_weight=copied(batch.sample_weight))
        finally:
            model._losses_override = []
        after = state._replace(non_trainable=non_trainable, metrics=metrics)
        # Scaled here, so that gradients in float16 do not underflow; what is logged is the plain loss.
        return loss * keras.ops.cast(state.scale, loss.dtype), Aux(loss, predictions, after, divisors(model))


def copied(weights: object) -> Any:
    """Sample weights that Keras may change: on torch it multiplies them by the mask of the outputs in place."""
    return keras.tree.map_structure(lambda weight: None if weight is None else keras.ops.copy(weight), weights)


@contextmanager
def _weighed_tasks(model: keras.Model, factors: tuple[Any, ...] | None) -> Iterator[None]:
    """Within the block the compiled losses, which are built, are multiplied by these factors."""
    if factors is None:
        yield
        return
    # Keras multiplies each loss by its weight: a factor of a task is one more such weight, for the time of this call.
    compiled = model._compile_loss
    before = compiled._flat_losses
    compiled._flat_losses = [
        loss._replace(loss_weights=factor if loss.loss_weights is None else loss.loss_weights * factor)
        for loss, factor in zip(before, factors)
    ]
    try:
        yield
    finally:
        compiled._flat_losses = before


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

    def get_config(self) -> Config:
        """The constructor's arguments."""
        return {}

    @classmethod
    def from_config(cls, config: Config) -> "Transform":
        """The inverse of `get_config`."""
        return cls(**config)


class TransformedObjective(Objective):
    """An objective made from another one: passes everything through; override what the trick changes."""

    def __init__(self, objective: Objective) -> None:
        self.objective = objective
        self.model = objective.model

    def __call__(self, trainable: list[Tensor], state: State, batch: Batch) -> tuple[Tensor, Aux]:
        """The inner value."""
        return self.objective(trainable, state, batch)

    def frozen_masks(self, state: State) -> dict[int, Tensor]:
        """What the inner objective holds."""
        return self.objective.frozen_masks(state)

    def value_of(self, variable: keras.Variable, state: State) -> Tensor:
        """The value that `state` holds for a variable of the transform."""
        return state.non_trainable[[id(v) for v in self.model.non_trainable_variables].index(id(variable))]


def apply_transforms(objective: Objective, transforms: Iterable[Transform]) -> Objective:
    """Wrap `objective` in `transforms`, the first one innermost."""
    for transform in transforms:
        objective = transform(objective)
    return objective
