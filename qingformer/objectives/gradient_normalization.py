"""Several tasks in one model: every task's gradient has length 1 before they are added."""

import re
from typing import Any, NamedTuple

import keras
from keras import ops

from qingformer import backend
from qingformer.errors import ConfigError
from qingformer.objectives.objective import Aux, Batch, Objective, State, Transform, TransformedObjective
from qingformer.types import Config, Tensor


@keras.saving.register_keras_serializable("qingformer")
class GradientNormalization(Transform):
    """Add the gradients g_i of several losses at equal length, so that no task drowns another.

        u = sum_i a_i g_i / ||g_i||

    with the weights a_i given to `compile` as `loss_weights` (1 by default), which here say how much a task counts
    whatever the size of its loss. The direction does not change when a loss is multiplied by a positive number or
    shifted. With two tasks of equal weight u never points against one of them (<g_i, u> >= 0); with more it can. A
    task whose gradient is zero contributes nothing. Losses that the model adds (regularisation) are no task: their
    gradient is added as it is. Since the length of u is at most the sum of the weights, a plain SGD needs another
    learning rate; Adam does not mind.

    A step costs one forward and backward pass for each task and one for the added losses, all with the same dropout
    masks. The logged loss is the plain sum. Listed first, it normalises the losses of the model; a transform before it
    (FGM) acts for each task by itself.

    Args:
        shared: regular expression searched in the paths of the trainable variables; the norms are taken over those
            alone (the trunk that the tasks share). By default over all.

    Raises:
        ConfigError: in `compile`, fewer than two losses, or an expression that fits no trainable variable.

    Source: 科学空间, archives/8896; used for the multi-task training of RoFormerV2, archives/8998. A relative that
    learns the weights: Chen et al. 2017, arXiv 1711.02257.

    Example:
        >>> losses = {"kind": "sparse_categorical_crossentropy", "size": "mse"}
        >>> model.compile("adam", losses, transforms=[GradientNormalization()])
    """

    def __init__(self, shared: str | None = None) -> None:
        try:
            re.compile(shared or "")
        except (re.error, TypeError) as error:
            raise ConfigError(
                f"GradientNormalization: shared={shared!r} is not a regular expression: {error}"
            ) from None
        self.shared = shared

    def __call__(self, objective: Objective) -> Objective:
        """The objective whose gradient is the sum of unit gradients."""
        return _Normalized(objective, self.shared)

    def get_config(self) -> Config:
        """The constructor's arguments."""
        return {"shared": self.shared}


class _Task(NamedTuple):
    """Loss (scaled), its logged value, and gradients of one task without the added losses; what to multiply it by."""

    loss: Tensor
    logged: Tensor
    gradients: list[Tensor]
    factor: Tensor


class _Normalized(TransformedObjective):
    def __init__(self, objective: Objective, shared: str | None) -> None:
        super().__init__(objective)
        compiled = self.model._compile_loss
        given = compiled._user_loss if compiled is not None else None
        flat = keras.tree.flatten(given) if keras.tree.is_nested(given) else [given] * len(self.model.outputs)
        self.count = sum(loss is not None for loss in flat)
        if self.count < 2 or len(self.model.outputs) < 2:
            raise ConfigError(
                "GradientNormalization: needs at least two outputs with a loss, one for each task; the model has the "
                f"outputs {', '.join(self.model.output_names)} and losses on {min(self.count, len(self.model.outputs))}"
            )
        paths = [variable.path for variable in self.model.trainable_variables]
        self.indices = [index for index, path in enumerate(paths) if re.search(shared or "", path)]
        if not self.indices:
            raise ConfigError(
                f"GradientNormalization: shared={shared!r} fits no trainable variable; there are: {', '.join(paths)}"
            )

    def __call__(self, trainable: list[Tensor], state: State, batch: Batch) -> tuple[Tensor, Aux]:
        # The factors are constants: without this the loss would be differentiated a second time.
        here = [ops.stop_gradient(value) for value in trainable]
        with backend.repeated_randomness():
            tasks, ((_, aux), _) = self._tasks(here, state, batch)
        logged = ops.stop_gradient(sum((task.logged for task in tasks), aux.loss))
        factors = tuple(ops.stop_gradient(task.factor) for task in tasks)
        loss, aux = self.objective(trainable, state._replace(tasks=factors), batch)
        return loss, aux._replace(loss=logged, state=aux.state._replace(tasks=state.tasks))

    def value_and_grad(
        self, trainable: list[Tensor], state: State, batch: Batch
    ) -> tuple[tuple[Tensor, Aux], list[Tensor]]:
        tasks, ((loss, aux), gradients) = self._tasks(trainable, state, batch)
        logged = aux.loss
        for task in tasks:
            logged = logged + task.logged
            loss = loss + ops.cast(task.factor, loss.dtype) * task.loss
            gradients = [total + ops.cast(task.factor, g.dtype) * g for total, g in zip(gradients, task.gradients)]
        return (loss, aux._replace(loss=logged, state=aux.state._replace(tasks=state.tasks))), gradients

    def _tasks(self, trainable: list[Tensor], state: State, batch: Batch) -> tuple[list[_Task], Any]:
        """Every task by itself, and value and gradient of what is added to all of them."""
        choices = [tuple(float(i == task) for i in range(self.count)) for task in range(self.count)]
        alone = []
        for choice in choices:
            with backend.repeated_randomness():
                alone.append(self.objective.value_and_grad(trainable, state._replace(tasks=choice), batch))
        # All tasks switched off: what is left is regularisation, which belongs to no task.
        nothing = state._replace(tasks=(0.0,) * self.count)
        rest = self.objective.value_and_grad(trainable, nothing, batch)
        (added, added_aux), added_gradients = rest
        tasks = []
        for ((loss, aux), gradients), compiled in zip(alone, self.model._compile_loss._flat_losses):
            own = [g - a for g, a in zip(gradients, added_gradients)]
            # The sign is in the gradient already.
            weight = 1.0 if compiled.loss_weights is None else abs(compiled.loss_weights)
            factor = self._factor(own, weight, state)
            tasks.append(_Task(loss - added, aux.loss - added_aux.loss, own, factor))
        return tasks, rest

    def _factor(self, gradients: list[Tensor], weight: float, state: State) -> Tensor:
        squares = sum(ops.sum(ops.cast(gradients[index], "float32") ** 2) for index in self.indices)
        length = ops.sqrt(squares) / ops.cast(state.scale, "float32")
        there = length > 0
        # The inner `where` keeps the division by zero out of the gradient of the branch that is not taken.
        return ops.where(there, weight / ops.where(there, length, 1.0), 0.0)
