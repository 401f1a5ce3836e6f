"""Norms and gains against the original's numbers, NumPy, and Keras' own layer norm."""

import keras
import numpy as np
import pytest

from qingformer import layers
from qingformer.errors import ConfigError
from tests.layers.bricks import (
    FIXTURES,
    assign,
    check,
    check_comes_back,
    check_half_precision,
    fixture,
    randomize,
    run,
    tensor,
    variables,
)

CASES = sorted(path.stem for path in FIXTURES.glob("layer_norm_*.npz"))
PARTS = {"hidden_dense_kernel": "condition_hidden/kernel", "gamma_dense_kernel": "condition_gamma/kernel",
         "beta_dense_kernel": "condition_beta/kernel", "gamma": "gamma", "beta": "beta"}  # fmt: skip


def random(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def settings_of(config):
    """The original's arguments under our names."""
    names = {"hidden_units": "hidden_size", "hidden_activation": "hidden_act"}
    kept = ("zero_mean", "unit_variance", "scale", "offset", *names)
    settings = {names.get(name, name): config[name] for name in kept if name in config}
    return {"epsilon": config["epsilon_used"], **settings}


def loaded(layer, arrays):
    """The layer built for the arrays of a case and filled with its weights."""
    condition = arrays.get("condition")
    layer.build(arrays["x"].shape, None if condition is None else condition.shape)
    assign(layer, {PARTS[name]: array for name, array in arrays.items() if name in PARTS})
    return layer


def outputs_agree(layer, arrays):
    output = run(layer, arrays["x"], condition=arrays.get("condition"))
    np.testing.assert_allclose(output, arrays["output"], atol=2e-5)


# --- the original -----------------------------------------------------------------------------------------------------


def test_every_case_of_the_original_is_here():
    assert len(CASES) == 9


@pytest.mark.parametrize("name", CASES)
def test_norm_equals_the_original(name):
    arrays = fixture(name)
    outputs_agree(loaded(layers.LayerNormalization(**settings_of(arrays["config"]), name="n"), arrays), arrays)


@pytest.mark.parametrize("name", [case for case in CASES if "conditional" in case])
def test_conditional_norm_equals_the_original(name):
    arrays = fixture(name)
    layer = layers.ConditionalLayerNormalization(**settings_of(arrays["config"]), name="n")
    outputs_agree(loaded(layer, arrays), arrays)


@pytest.mark.parametrize("name", ["layer_norm_rms", "layer_norm_rms_bare", "layer_norm_conditional_rms"])
def test_rms_norm_equals_the_original(name):
    arrays = fixture(name)
    layer = layers.RMSNormalization(arrays["config"]["epsilon_used"], arrays["config"].get("scale", True), name="n")
    outputs_agree(loaded(layer, arrays), arrays)


def test_scale_and_offset_equal_the_original():
    arrays = fixture("scale_offset_conditional")
    outputs_agree(loaded(layers.ScaleOffset(name="n"), arrays), arrays)


def test_epsilon_of_the_original_is_visible():
    arrays = fixture("layer_norm_rms")
    other = loaded(layers.RMSNormalization(1e-7, name="n"), arrays)
    assert np.abs(run(other, arrays["x"]) - arrays["output"]).max() > 1e-3


# --- NumPy and Keras --------------------------------------------------------------------------------------------------


def normalized(x, weights, epsilon, zero_mean=True, unit_variance=True):
    """One vector after the other."""
    result = np.zeros_like(x, dtype="float64")
    for index in np.ndindex(x.shape[:-1]):
        row = x[index] - (x[index].mean() if zero_mean else 0)
        row = row / np.sqrt((row**2).mean() + epsilon) if unit_variance else row
        result[index] = row * weights.get("gamma", 1.0) + weights.get("beta", 0.0)
    return result


@pytest.mark.parametrize("zero_mean", [False, True])
@pytest.mark.parametrize("unit_variance", [False, True])
def test_norm_equals_numpy_in_value_and_gradient(zero_mean, unit_variance):
    x = random(2, 3, 6) + 0.5
    layer = layers.LayerNormalization(0.01, zero_mean=zero_mean, unit_variance=unit_variance, name="n")
    layer.build(x.shape)
    randomize(layer)
    check(layer, x, layer, lambda x, weights: normalized(x, weights, 0.01, zero_mean, unit_variance))


def test_conditional_rms_equals_numpy_in_value_and_gradient():
    x, condition = random(2, 3, 6), random(2, 4, seed=1)
    layer = layers.ConditionalLayerNormalization(0.01, 5, "tanh", zero_mean=False, offset=False, name="n")
    layer.build(x.shape, condition.shape)
    randomize(layer)

    def expected(x, weights):
        gain = np.tanh(condition @ weights["condition_hidden/kernel"]) @ weights["condition_gamma/kernel"]
        return normalized(x, {}, 0.01, zero_mean=False) * (weights["gamma"] + gain[:, None])

    check(layer, x, lambda x: layer(x, tensor(condition)), expected)


def test_norm_equals_that_of_keras():
    x = random(2, 5, 6) * 3 + 1
    ours, theirs = layers.LayerNormalization(1e-5), keras.layers.LayerNormalization(epsilon=1e-5)
    for layer in (ours, theirs):
        layer.build(x.shape)
        layer.set_weights([random(6, seed=1), random(6, seed=2)])
    np.testing.assert_allclose(run(ours, x), run(theirs, x), atol=1e-5)


def test_rms_norm_ignores_the_scale_and_gives_rms_one():
    x, layer = random(2, 5, 6), layers.RMSNormalization(1e-12, use_scale=False)
    layer.build(x.shape)
    assert layer.weights == []
    np.testing.assert_allclose(run(layer, 1000 * x), run(layer, x), atol=1e-5)
    np.testing.assert_allclose(np.sqrt(np.mean(run(layer, x) ** 2, axis=-1)), 1, atol=1e-5)
    assert np.isfinite(run(layer, 0 * x)).all()


# --- conditions -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layer", "names"),
    [
        (layers.ScaleOffset(), {"gamma", "beta", "condition_gamma/kernel", "condition_beta/kernel"}),
        (layers.ScaleOffset(offset=False), {"gamma", "condition_gamma/kernel"}),
        (layers.RMSNormalization(), {"gamma", "condition_gamma/kernel"}),
        (layers.RMSNormalization(use_scale=False), set()),
        (
            layers.ConditionalLayerNormalization(hidden_size=3),
            {"gamma", "beta", "condition_hidden/kernel", "condition_gamma/kernel", "condition_beta/kernel"},
        ),
    ],
    ids=["both", "scale", "rms", "bare", "hidden"],
)
def test_a_new_condition_changes_nothing(layer, names):
    x, condition = random(2, 5, 6), random(2, 4, seed=1)
    without = layers.LayerNormalization if isinstance(layer, layers.ConditionalLayerNormalization) else type(layer)
    without = without.from_config(layer.get_config())
    without.build(x.shape)
    layer.build(x.shape, condition.shape)
    assert set(variables(layer)) == names
    np.testing.assert_allclose(run(layer, x, condition=condition), run(without, x), atol=1e-6)


def test_a_condition_for_each_position():
    x, condition = random(2, 5, 6), random(2, 4, seed=1)
    layer = layers.ScaleOffset(name="s")
    layer.build(x.shape, condition.shape)
    randomize(layer)
    repeated = np.repeat(condition[:, None], 5, axis=1)
    wanted = run(layer, x, condition=condition)
    np.testing.assert_allclose(run(layer, x, condition=repeated), wanted, atol=1e-6)


def test_constants_are_not_learned_but_moved_by_a_condition():
    x, condition = random(2, 5, 6), random(2, 4, seed=1)
    layer = layers.ScaleOffset(scale=3.0, offset=0.5, name="s")
    layer.build(x.shape)
    assert layer.weights == []
    np.testing.assert_allclose(run(layer, x), 3 * x + 0.5, atol=1e-6)
    moved = layers.ScaleOffset(scale=3.0, offset=0.5, name="s")
    moved.build(x.shape, condition.shape)
    weights = variables(randomize(moved))
    gain, shift = (condition @ weights[f"condition_{name}/kernel"].numpy() for name in ("gamma", "beta"))
    wanted = x * (3 + gain[:, None]) + 0.5 + shift[:, None]
    np.testing.assert_allclose(run(moved, x, condition=condition), wanted, atol=1e-5)
    nothing = layers.ScaleOffset(scale=0.0, offset=0.5)  # a constant too, not the absence of one
    nothing.build(x.shape)
    np.testing.assert_array_equal(run(nothing, x), np.full_like(x, 0.5))
    plain = layers.ScaleOffset(scale=False, offset=False)
    plain.build(x.shape)
    np.testing.assert_array_equal(run(plain, x), x)


def test_a_condition_must_be_there_in_build_and_call():
    x, condition = tensor(random(2, 5, 6)), tensor(random(2, 4))
    with pytest.raises(ConfigError, match="norm needs a condition"):
        layers.ConditionalLayerNormalization(name="norm")(x)
    layer = layers.ScaleOffset(name="s")
    layer.build(x.shape)
    with pytest.raises(ConfigError, match="s was built without a condition"):
        layer(x, condition)
    layer = layers.ScaleOffset(name="s")
    layer.build(x.shape, condition.shape)
    with pytest.raises(ConfigError, match="s was built with a condition: give it one"):
        layer(x)


# --- as parts ---------------------------------------------------------------------------------------------------------


def test_norms_come_back_from_their_configuration():
    x, condition = random(2, 5, 6), random(2, 4, seed=1)
    check_comes_back(layers.LayerNormalization(0.1, zero_mean=False, unit_variance=False, offset=2.5), x)
    check_comes_back(layers.RMSNormalization(0.1, use_scale=False), x)
    check_comes_back(layers.RMSNormalization(0.1, hidden_size=3), x, condition=condition)
    check_comes_back(layers.ConditionalLayerNormalization(0.1, 3, "tanh", offset=False), x, condition=condition)
    check_comes_back(layers.ScaleOffset(2.0, False), x)
    old = {"name": "n", "epsilon": 1e-7, "hidden_size": 4, "hidden_act": "tanh"}  # as written before the other settings
    again = layers.ConditionalLayerNormalization.from_config(old).get_config()
    assert {name: again[name] for name in old} == old
    assert all(again[name] is True for name in ("zero_mean", "unit_variance", "scale", "offset"))


@pytest.mark.parametrize("make", [layers.LayerNormalization, layers.RMSNormalization, layers.ScaleOffset])
def test_norms_run_in_half_precision(make):
    check_half_precision(make, random(2, 5, 8))


def test_statistics_are_in_float32():
    x = np.random.default_rng(0).integers(1, 200, size=(4, 60)).astype("float32")  # exact in bfloat16
    for settings in ({"zero_mean": False}, {}):
        layer = layers.LayerNormalization(scale=False, offset=False, dtype="mixed_bfloat16", **settings)
        layer.build(x.shape)
        wanted = normalized(x, {}, 0, settings.get("zero_mean", True))
        # Rounded once, at the end: half a unit in the last of 8 bits.
        assert np.abs(run(layer, x) / wanted - 1).max() < 1.01 * 2**-8


def test_conditional_norm_learns_from_the_first_step():
    inputs, condition = keras.Input((5, 6)), keras.Input((4,))
    layer = layers.ConditionalLayerNormalization()
    model = keras.Model([inputs, condition], layer(inputs, condition))
    model.compile(keras.optimizers.SGD(0.1), "mse")
    model.fit([random(8, 5, 6), random(8, 4, seed=1)], random(8, 5, 6, seed=2), batch_size=8, epochs=1, verbose=0)
    for dense in (layer.condition_gamma, layer.condition_beta):
        assert np.abs(dense.get_weights()[0]).min() > 0
