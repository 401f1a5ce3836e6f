"""Values and gradients of transformed objectives, compiled, as arrays."""

import keras

from qingformer import backend
from qingformer.objectives import Batch, ModelObjective, State
from qingformer.objectives.objective import apply_transforms


def values(variables):
    return [keras.ops.convert_to_numpy(v) for v in variables]


def state_of(model):
    return State([v.value for v in model.non_trainable_variables], [v.value for v in model.metrics_variables], 1.0)


def batch_of(x, y=None, weights=None):
    convert = keras.ops.convert_to_tensor
    return Batch(*(None if a is None else keras.tree.map_structure(convert, a) for a in (x, y, weights)))


def point_of(model, x, y=None, weights=None):
    return [v.value for v in model.trainable_variables], state_of(model), batch_of(x, y, weights)


def evaluate(model, transforms, x, y, weights=None, through="gradient"):
    """Loss, gradients and aux at the model's weights; by the objective's gradient, or by differentiating its value."""
    objective = apply_transforms(ModelObjective(model), transforms)
    call = objective.value_and_grad if through == "gradient" else backend.value_and_grad(objective, has_aux=True)
    (loss, aux), gradients = backend.compile(lambda *point: call(*point))(*point_of(model, x, y, weights))
    return float(loss), values(gradients), aux


def loss_at(model, transforms):
    """A compiled function of `(trainable, state, batch)` that gives the loss."""
    objective = apply_transforms(ModelObjective(model), transforms)
    return backend.compile(lambda *point: objective(*point)[0])
