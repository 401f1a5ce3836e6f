"""The original's Adam as a Keras optimizer, and its recorded runs."""

import json
from contextlib import ExitStack
from pathlib import Path

import keras
import numpy as np
from keras import ops

from qingformer import backend

FOLDER = Path(__file__).resolve().parent.parent / "fixtures" / "bert4keras" / "optimizers"


class PlainAdam(keras.optimizers.Optimizer):
    """Adam with epsilon beside the corrected root, and the correction optional (Keras' own has another epsilon)."""

    linear_in_learning_rate = True

    def __init__(self, learning_rate=0.01, epsilon=1e-6, bias_correction=True, name="plain_adam", **options):
        super().__init__(learning_rate=learning_rate, name=name, **options)
        self.epsilon, self.bias_correction = epsilon, bias_correction

    def build(self, variables):
        if not self.built:
            super().build(variables)
            self.m, self.v = self.add_optimizer_variables(variables, ["m", "v"])

    def update_step(self, gradient, variable, learning_rate):
        index = self._get_variable_index(variable)
        m, v = self.m[index], self.v[index]
        gradient, rate = ops.convert_to_tensor(gradient), ops.cast(learning_rate, variable.dtype)
        t = ops.cast(self.iterations + 1, variable.dtype)
        self.assign(m, 0.9 * m + 0.1 * gradient)
        self.assign(v, 0.999 * v + 0.001 * gradient**2)
        first, second = (1 - 0.9**t, 1 - 0.999**t) if self.bias_correction else (1.0, 1.0)
        self.assign_sub(variable, rate * (m / first) / (ops.sqrt(v / second) + self.epsilon))

    def get_config(self):
        return super().get_config() | {"epsilon": self.epsilon, "bias_correction": self.bias_correction}


class Adam2(PlainAdam):
    """The same, around which the difference of old and new is taken."""

    linear_in_learning_rate = False


class Recorded:
    """One recorded run: names, initial values, gradients and values after each step, and the original's settings."""

    def __init__(self, name):
        with np.load(FOLDER / f"{name}.npz") as arrays:
            self.arrays = {key: arrays[key] for key in arrays.files}
        self.config = json.loads(str(self.arrays["config"]))
        self.names = self.config["variables"]

    def __getitem__(self, key):
        return self.arrays[key]

    def variables(self):
        return make_variables({name: self[f"initial/{name}"] for name in self.names})

    def gradients(self, step):
        return [ops.convert_to_tensor(self[f"gradient/{name}"][step]) for name in self.names]

    def traces(self):
        return [self[f"trace/{name}"] for name in self.names]


def make_variables(values):
    """Variables by path, such as "block/kernel"."""
    made = []
    for path, value in values.items():
        *scopes, name = path.split("/")
        with ExitStack() as stack:
            for scope in scopes:
                stack.enter_context(keras.name_scope(scope))
            made.append(keras.Variable(np.asarray(value, "float32"), name=name))
    return made


def numbers(value):
    return np.array(keras.ops.convert_to_numpy(value))


def run(optimizer, variables, gradients, compiled=True):
    """The values of all variables after each step; `gradients` is a list (steps) of lists (variables)."""
    optimizer.build(variables)
    step = compiled_step(optimizer, variables) if compiled else lambda g: optimizer.apply(g, variables)
    traces = [[] for _ in variables]
    for each in gradients:
        step([ops.convert_to_tensor(g) for g in each])
        for trace, variable in zip(traces, variables):
            trace.append(numbers(variable))
    return [np.stack(trace) for trace in traces]


def compiled_step(optimizer, variables):
    """The step as `fit` makes it."""
    if backend.name() != "jax":
        return backend.compile(lambda gradients: optimizer.apply(gradients, variables))
    function = backend.compile(lambda *values: optimizer.stateless_apply(*values))

    def step(gradients):
        state = [v.value for v in optimizer.variables]
        new, state = function(state, gradients, [v.value for v in variables])
        for variable, value in zip([*variables, *optimizer.variables], [*new, *state]):
            variable.assign(value)

    return step
