"""Variables with paths, gradients, and a few steps."""

import keras
import numpy as np

from qingformer.optimizers import LAMB, AdaFactor, Adam, AdamW, AdaX, LazyAdam, Lion, Tiger

ALL = {
    "AdaFactor": lambda **o: AdaFactor(min_dim_size_to_factor=8, **o),
    "AdaFactor, relative": lambda **o: AdaFactor(None, beta_1=0.9, min_dim_size_to_factor=8, **o),
    "Adam": lambda **o: Adam(0.01, **o),
    "AdamW": lambda **o: AdamW(0.01, weight_decay=0.1, bias_correction=False, **o),
    "AdaX": lambda **o: AdaX(0.01, weight_decay=0.1, **o),
    "LAMB": lambda **o: LAMB(0.01, **o),
    "LazyAdam": lambda **o: LazyAdam(0.01, **o),
    "Lion": lambda **o: Lion(0.01, weight_decay=0.1, **o),
    "Tiger": lambda **o: Tiger(0.01, **o),
}
# The shapes of the recorded traces: what is compiled for one file of tests serves the other.
SHAPES = {"embeddings": (12, 10), "kernel": (12, 10), "bias": (10,)}


def make_variables(dtype="float32", shapes=SHAPES, seed=0, values=None):
    """One variable for each name, in a layer of that name."""
    random = np.random.default_rng(seed)
    found = []
    for name, shape in shapes.items():
        value = random.normal(size=shape) if values is None else values[name]
        with keras.src.backend.name_scope(f"layer_of_{name}"):
            found.append(keras.Variable(value, dtype=dtype, name=name))
    return found


def make_gradients(steps, shapes=SHAPES, seed=1):
    """For each step one float32 array a variable; half of the first one's rows are zero, and all of the third step."""
    random = np.random.default_rng(seed)
    found = [[random.normal(size=shape).astype("float32") for shape in shapes.values()] for _ in range(steps)]
    for number, step in enumerate(found):
        step[0][number % 2 :: 2] = 0
        step[0][:2] = 0  # two rows are never used
    if steps > 2:
        found[2] = [0 * gradient for gradient in found[2]]
    return found


def numbers(variables):
    """Values as float64 arrays."""
    return [np.array(keras.ops.convert_to_numpy(keras.ops.cast(v, "float32")), "float64") for v in variables]


def train(optimizer, variables, gradients):
    """Apply one step after another; returns the values at the end."""
    if not optimizer.built:
        optimizer.build(variables)
    for step in gradients:
        optimizer.apply([keras.ops.convert_to_tensor(gradient) for gradient in step])
    return numbers(variables)
