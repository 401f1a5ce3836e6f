"""What the tests of the gradient transforms share: an objective evaluated once, and one training."""

import keras

from qingformer import backend
from qingformer.objectives import Batch, ModelObjective, State
from qingformer.objectives.objective import apply_transforms
from tests.objectives.conftest import build, cross_entropy


def values(variables):
    return [keras.ops.convert_to_numpy(v) for v in variables]


def tensors(nest):
    return keras.tree.map_structure(lambda a: None if a is None else keras.ops.convert_to_tensor(a), nest)


def state_of(model, step=0, scale=1.0):
    return State(
        [v.value for v in model.non_trainable_variables], [v.value for v in model.metrics_variables], scale, step
    )


def evaluate(model, transforms, x, y, weights=None, through="gradient", **state):
    """Loss (float), gradients (NumPy) and aux of the transformed objective of a compiled model."""
    objective = apply_transforms(ModelObjective(model), transforms)
    call = objective.value_and_grad if through == "gradient" else backend.value_and_grad(objective, has_aux=True)
    batch = Batch(tensors(x), tensors(y), tensors(weights))
    # One program on JAX; operation by operation each of them would be compiled.
    call = backend.compile(call) if backend.name() == "jax" else call
    (loss, aux), gradients = call([v.value for v in model.trainable_variables], state_of(model, **state), batch)
    return float(loss), values(gradients), aux


def train(transforms, x, y, optimizer, dropout=0.0, epochs=2, batch_size=8, loss=None, **options):
    """Losses per epoch, all variables, and the model, after `fit`."""
    model = build(dropout)
    model.compile(optimizer, loss or cross_entropy(), metrics=["accuracy"], transforms=transforms)
    history = model.fit(x, y, batch_size=batch_size, epochs=epochs, shuffle=False, verbose=0, **options).history
    return history, values(model.trainable_variables), model
