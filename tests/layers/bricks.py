"""What the tests of single layers share: weights by name, the original's arrays, gradients beside differences."""

import inspect
import json
from pathlib import Path

import keras
import numpy as np
from keras import ops

from qingformer import backend
from tests.references.gradients import central_difference

FIXTURES = Path(__file__).resolve().parent.parent / "fixtures" / "bert4keras" / "layers"


def fixture(name):
    """The arrays of one case of the original toolkit, its configuration decoded."""
    arrays = dict(np.load(FIXTURES / f"{name}.npz"))
    return arrays | {"config": json.loads(str(arrays["config"]))}


def numpy(x):
    """A NumPy array, float32 for half precision."""
    x = ops.convert_to_tensor(x)
    half = keras.backend.standardize_dtype(x.dtype) == "bfloat16"
    return ops.convert_to_numpy(ops.cast(x, "float32") if half else x)


def tensor(x):
    return None if x is None else ops.convert_to_tensor(x)


def variables(layer):
    """The layer's trainable variables by path, without its own name."""
    return {variable.path.split("/", 1)[1]: variable for variable in layer.trainable_variables}


def weights_of(layer):
    return {path: numpy(variable.value).astype("float64") for path, variable in variables(layer).items()}


def assign(layer, arrays):
    """Set all variables; the names must be exactly these."""
    own = variables(layer)
    assert set(own) == set(arrays)
    for path, array in arrays.items():
        own[path].assign(array)


def randomize(layer, seed=0, scale=0.5):
    """Random weights, gains around one."""
    generator = np.random.default_rng(seed)
    for path, variable in variables(layer).items():
        variable.assign(generator.normal(size=variable.shape) * scale + (1.0 if path.endswith("gamma") else 0.0))
    return layer


def run(layer, *inputs, **named):
    """The output of a built layer as NumPy, computed compiled: far fewer compilations than one an operation."""
    inputs, named = [tensor(x) for x in inputs], {k: tensor(x) for k, x in named.items() if x is not None}
    output = backend.compile(lambda inputs, named: layer(*inputs, **named))(inputs, named)
    assert keras.backend.standardize_dtype(output.dtype) == layer.compute_dtype
    return numpy(output)


def check(layer, x, call, reference, coordinates=3):
    """Value and gradient of a layer against the NumPy reference, the gradients against its differences.

    `call(x)` runs the layer, `reference(x, weights)` the reference, both to an array of one shape. The gradient is that
    of sum(probe * output), for `x` and every variable.
    """
    wanted = reference(x, weights_of(layer))
    generator = np.random.default_rng(9)
    probe = generator.normal(size=wanted.shape)
    own = variables(layer)

    def loss(values):
        with keras.StatelessScope(state_mapping=list(zip(own.values(), values[1:]))):
            output = call(values[0])
        return ops.sum(output * ops.cast(probe, "float32")), output

    (_, found), gradients = backend.compile(backend.value_and_grad(loss, has_aux=True))(
        [tensor(x)] + [tensor(v.value) for v in own.values()]
    )
    tolerance = 2e-5 * max(np.abs(wanted).max(), 1)
    np.testing.assert_allclose(numpy(found), wanted, atol=tolerance, rtol=1e-5)
    arrays = {"x": x, **weights_of(layer)}
    for name, gradient in zip(arrays, gradients):
        for _ in range(coordinates):
            index = tuple(int(generator.integers(size)) for size in arrays[name].shape)
            wanted = central_difference(
                lambda a: np.sum(probe * reference(a["x"], {k: v for k, v in a.items() if k != "x"})),
                arrays, name, index,
            )  # fmt: skip
            np.testing.assert_allclose(numpy(gradient)[index], wanted, rtol=2e-3, atol=2e-4, err_msg=f"{name}{index}")


def build(layer, *inputs, **named):
    """Make the variables for these inputs without computing anything."""
    layer.build(*(x.shape for x in inputs), **{f"{name}_shape": x.shape for name, x in named.items()})


def check_comes_back(layer, *inputs, **named):
    """The layer made again from its configuration, with the same weights, gives the same numbers."""
    build(layer, *inputs, **named)
    settings = set(inspect.signature(type(layer).__init__).parameters) - {"self", "kwargs"}
    assert settings <= set(layer.get_config())
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert type(again) is type(layer)
    assert again.get_config() == layer.get_config()
    if not again.built:
        build(again, *inputs, **named)
    again.set_weights(layer.get_weights())
    np.testing.assert_array_equal(run(again, *inputs, **named), run(layer, *inputs, **named))


def check_half_precision(make, *inputs, **named):
    """Under mixed_bfloat16 the output is bfloat16, finite and near the one in float32."""
    layer, half = make(), make(dtype="mixed_bfloat16")
    for made in (layer, half):
        build(made, *inputs, **named)
    half.set_weights(randomize(layer, scale=0.3).get_weights())
    wanted, found = run(layer, *inputs, **named), run(half, *inputs, **named)
    assert half.compute_output_spec(*inputs, **named).dtype == "bfloat16"
    assert np.isfinite(found).all()
    # Products of up to six factors, each rounded to 8 bits; TensorFlow fuses nothing and rounds after every operation.
    bound = 0.1 if backend.name() == "tensorflow" else 0.06
    assert np.sqrt(np.mean((found - wanted) ** 2) / np.mean(wanted**2)) < bound


def check_trains(layer, length=None, size=8):
    """Compiled by `fit` for sequences of any length, the layer learns to reproduce a shifted input a little."""
    inputs = keras.Input((length, size))
    model = keras.Model(inputs, layer(inputs))
    model.compile(keras.optimizers.Adam(0.02), "mse")
    x = np.random.default_rng(3).normal(size=(8, 7, size)).astype("float32")
    target = np.roll(x, 1, axis=1)
    before = model.evaluate(x, target, verbose=0)
    model.fit(x, target, epochs=15, verbose=0)
    assert model.evaluate(x, target, verbose=0) < 0.9 * before
    before = [np.array(weight) for weight in layer.get_weights()]
    assert all(np.isfinite(weight).all() for weight in before)
    assert model.predict(x[:, :5], verbose=0).shape == (8, 5, size)
