"""One training step with a transformed objective, in the three forms that Keras' backends ask for.

The order of things is that of Keras' own steps (`train_step` of its JAX, torch and TensorFlow trainers); what differs
is only where the gradients come from. Attributes with an underscore are Keras'; the loss tracker has no public name.
"""

from typing import Any

import keras
from keras import ops

from qingformer import backend
from qingformer.backend.keras_internals import unscale_loss_for_distribution
from qingformer.objectives.objective import Aux, Batch, Objective, State
from qingformer.objectives.transform import weigh_batch
from qingformer.types import Nest


def train_step(model: keras.Model, objective: Objective, *arguments: Any) -> Any:
    """Do what `keras.Model.train_step` does on this backend, with the gradients of `objective`."""
    if backend.name() == "jax":
        return _stateless_step(model, objective, *arguments)
    return _stateful_step(model, objective, *arguments)


def _stateless_step(model: keras.Model, objective: Objective, values: tuple[Any, ...], data: Nest) -> tuple[Any, Any]:
    trainable, non_trainable, optimizer_variables, metrics = values
    batch = Batch(*keras.utils.unpack_x_y_sample_weight(data))
    with keras.StatelessScope(list(zip(model.optimizer.variables, optimizer_variables))):
        scale, step = model.optimizer.scale_loss(ops.ones(())), _steps_made(model.optimizer)
    state = State(non_trainable, metrics, scale, step)
    (_, aux), gradients = objective.value_and_grad(trainable, state, batch)
    before, optimizer_variables = list(trainable), list(optimizer_variables)
    for variable, weight in _weighed(model, batch, aux):
        optimizer_variables[[id(v) for v in model.optimizer.variables].index(id(variable))] = weight
    trainable, optimizer_variables = model.optimizer.stateless_apply(optimizer_variables, gradients, trainable)
    trainable = list(trainable)
    for index, held in objective.held(state).items():
        trainable[index] = ops.where(held, before[index], trainable[index])
    logs, metrics = model._update_metrics_variables(
        aux.state.metrics, aux.loss, batch.x, batch.y, aux.predictions, batch.sample_weight
    )
    return logs, (trainable, aux.state.non_trainable, optimizer_variables, metrics)


def _stateful_step(model: keras.Model, objective: Objective, data: Nest) -> Any:
    batch = Batch(*keras.utils.unpack_x_y_sample_weight(data))
    variables = list(model.trainable_variables)
    state = State(
        [v.value for v in model.non_trainable_variables],
        [v.value for v in model.metrics_variables],
        model.optimizer.scale_loss(ops.ones(())),
        _steps_made(model.optimizer),
    )
    (_, aux), gradients = objective.value_and_grad([v.value for v in variables], state, batch)
    with backend.without_gradients():
        _assign_state(model, aux)
        # Copies, made before the optimizer changes the weights in place; no transform holds any in most trainings.
        held = [(variables[i], mask, ops.copy(variables[i].value)) for i, mask in objective.held(state).items()]
        for variable, weight in _weighed(model, batch, aux):
            variable.assign(weight)
        model.optimizer.apply(gradients, variables)
        for variable, mask, before in held:
            variable.assign(ops.where(mask, before, variable.value))
        size = ops.shape(next(leaf for leaf in keras.tree.flatten(batch.x) if leaf is not None))[0]
        loss = unscale_loss_for_distribution(aux.loss)
        model._loss_tracker.update_state(loss, sample_weight=size)
        return model.compute_metrics(batch.x, batch.y, aux.predictions, sample_weight=batch.sample_weight)


def _weighed(model: keras.Model, batch: Batch, aux: Aux) -> list[tuple[keras.Variable, Any]]:
    """What an optimizer that puts batches together is to know of this one."""
    if not model._only_weighted or not weigh_batch(model.optimizer, 1.0):
        return []
    weight = model.batch_weight(batch.y, aux.predictions, batch.sample_weight)
    return [] if weight is None else weigh_batch(model.optimizer, weight)


def _steps_made(optimizer: keras.optimizers.Optimizer) -> Any:
    """The count of the innermost optimizer; with gradient accumulation, by it or around it, the count of batches."""
    while hasattr(optimizer, "inner_optimizer"):
        if hasattr(optimizer, "batches_seen"):
            return ops.convert_to_tensor(optimizer.batches_seen)
        optimizer = optimizer.inner_optimizer
    return ops.convert_to_tensor(optimizer._iterations)


def _assign_state(model: keras.Model, aux: Aux) -> None:
    values = list(zip(model.non_trainable_variables, aux.state.non_trainable))
    values += zip(model.metrics_variables, aux.state.metrics)
    for variable, value in values:
        if value is not variable.value:
            variable.assign(value)
