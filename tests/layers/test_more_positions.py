"""Positions of every kind, and pooling, against the original's numbers."""

import keras
import numpy as np
import pytest
from keras import ops

from qingformer import layers
from qingformer.errors import ConfigError
from qingformer.ops.relative_distances import clipped_positions, relative_buckets, sinusoidal_table
from qingformer.ops.rotary import apply_rotary, rotary_table, turned
from tests.layers.bricks import check_comes_back, fixture, numpy, run, tensor
from tests.references.gated_attention import turn_all

MODES = ("add", "mul", "zero", "concat")


def random(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


# --- learned ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_learned_positions_merge_as_the_original(mode):
    arrays = fixture("position_embedding")
    layer = layers.PositionEmbedding(8, 6, merge_mode=mode, name="p")
    layer.build()
    layer.embeddings.assign(arrays["table"])
    found = run(layer, arrays["x"])
    assert found.shape == layer.compute_output_spec(keras.KerasTensor(arrays["x"].shape)).shape
    np.testing.assert_allclose(found, np.broadcast_to(arrays[mode], found.shape), atol=2e-5)


@pytest.mark.parametrize("name", ["custom", "hierarchical_default", "hierarchical_alpha"])
def test_learned_positions_equal_the_original(name):
    arrays = fixture("position_embedding")
    alpha = {"custom": None, "hierarchical_default": 0.4, "hierarchical_alpha": arrays["config"]["alpha"]}[name]
    layer = layers.PositionEmbedding(8, 6, hierarchical=alpha, name="p")
    layer.build()
    layer.embeddings.assign(arrays["table"])
    ids = arrays["position_ids"] if name == "custom" else None
    found = run(layer, arrays["x" if ids is not None else "x_long"], position_ids=ids)
    np.testing.assert_allclose(found, arrays[name], atol=2e-5)


# --- sinusoidal -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_sinusoidal_positions_merge_as_the_original(mode):
    arrays = fixture("sinusoidal_position_embedding")
    layer = layers.SinusoidalPositionEmbedding(12, mode)
    found = run(layer, arrays["x"])
    assert layer.weights == []
    assert found.shape == layer.compute_output_spec(keras.KerasTensor(arrays["x"].shape)).shape
    np.testing.assert_allclose(found, np.broadcast_to(arrays[mode], found.shape), atol=2e-5)


@pytest.mark.parametrize(
    ("name", "mode", "base", "ids"),
    [
        ("custom_zero", "zero", 10000.0, "position_ids"),
        ("custom_add_fractional", "add", 10000.0, "fractional_position_ids"),
        ("base_100", "zero", 100.0, "fractional_position_ids"),
    ],
)
def test_sinusoidal_positions_of_ones_own_equal_the_original(name, mode, base, ids):
    arrays = fixture("sinusoidal_position_embedding")
    layer = layers.SinusoidalPositionEmbedding(12, mode, base)
    np.testing.assert_allclose(run(layer, arrays["x"], position_ids=arrays[ids]), arrays[name], atol=2e-5)


def test_sinusoidal_table_equals_the_original():
    wanted = fixture("sinusoidal_position_embedding")["table_129"]
    np.testing.assert_allclose(numpy(sinusoidal_table(ops.arange(129), 12)), wanted, atol=2e-5)


@pytest.mark.parametrize("ids", [np.array([[300, 301, 302]]), np.array([[300.5, 301.5, 302.5]], "float32")])
def test_sinusoidal_angles_are_in_float32(ids):
    layer = layers.SinusoidalPositionEmbedding(4, "zero", dtype="mixed_bfloat16")
    exact = layers.SinusoidalPositionEmbedding(4, "zero")
    x = random(1, 3, 4)
    np.testing.assert_allclose(run(layer, x, position_ids=ids), run(exact, x, position_ids=ids), atol=5e-3)


@pytest.mark.parametrize("mode", MODES)
def test_positions_in_a_model_of_any_length(mode):
    inputs = keras.Input((None, 6))
    sums = [layers.PositionEmbedding(9, 6, merge_mode=mode), layers.SinusoidalPositionEmbedding(6, mode)]
    model = keras.Model(inputs, [layer(inputs) for layer in sums])
    size = 12 if mode == "concat" else 6
    for length in (4, 7):
        for output in model.predict(random(3, length, 6), verbose=0):
            assert output.shape == (3, length, size)
            assert np.isfinite(output).all()
    assert [output.shape for output in model.outputs] == [(None, None, size)] * 2


def test_positions_come_back_from_their_configuration():
    check_comes_back(layers.PositionEmbedding(9, 6, 0.3, merge_mode="mul"), random(2, 5, 6))
    check_comes_back(layers.SinusoidalPositionEmbedding(6, "concat", 100.0), random(2, 5, 6))
    old = {"name": "p", "input_dim": 9, "output_dim": 6, "hierarchical": None}  # as written before merge modes
    assert layers.PositionEmbedding.from_config(old).merge_mode == "add"


def test_positions_that_cannot_be_are_refused():
    with pytest.raises(ConfigError, match="unknown merge mode 'sum'; use one of add, mul, zero, concat"):
        layers.PositionEmbedding(8, 6, merge_mode="sum")
    with pytest.raises(ConfigError, match="unknown merge mode 'sum'"):
        layers.SinusoidalPositionEmbedding(6, "sum")
    with pytest.raises(ConfigError, match="output_dim 7 must be even"):
        layers.SinusoidalPositionEmbedding(7)


# --- rotary -----------------------------------------------------------------------------------------------------------


def test_rotary_equals_the_original():
    arrays = fixture("rotary")
    table, custom = rotary_table(ops.arange(9), 8)[None], rotary_table(tensor(arrays["position_ids"]), 8)
    for name in ("q", "k"):
        x = tensor(arrays[name])
        np.testing.assert_allclose(numpy(apply_rotary(x, table)), arrays[f"rotated_{name}"], atol=2e-5)
        np.testing.assert_allclose(numpy(turned(x, custom, True, "t")), arrays[f"custom_rotated_{name}"], atol=2e-5)
    alone = apply_rotary(tensor(arrays["x"][:, :, None]), table)[:, :, 0]
    np.testing.assert_allclose(numpy(alone), arrays["rotated_x"], atol=2e-5)
    np.testing.assert_allclose(turn_all(arrays["x"].astype("float64"), np.arange(9)), arrays["rotated_x"], atol=2e-5)


def test_rotary_halves_are_the_neighbours_reordered():
    x = random(1, 5, 2, 8)
    table = rotary_table(ops.arange(5), 8)[None]
    order = [0, 2, 4, 6, 1, 3, 5, 7]
    halves = numpy(apply_rotary(tensor(x[..., order]), table, interleaved=False))
    np.testing.assert_allclose(halves, numpy(apply_rotary(tensor(x), table))[..., order], atol=1e-6)


def test_rotary_products_know_only_the_distance_and_lengths_stay():
    query, key = random(1, 1, 1, 8), random(1, 1, 1, 8, seed=1)

    def at(x, position):
        return numpy(apply_rotary(tensor(x), rotary_table(ops.arange(1) + position, 8)[None]))

    products = [np.sum(at(query, m) * at(key, m - 3)) for m in (3, 10, 200)]
    np.testing.assert_allclose(products, products[0], atol=1e-4)
    assert abs(np.sum(at(query, 3) * at(key, 1)) - products[0]) > 1e-3
    np.testing.assert_allclose(np.linalg.norm(at(query, 77)), np.linalg.norm(query), rtol=1e-5)


def test_rotary_table_must_fit():
    x = tensor(random(1, 5, 2, 8))
    with pytest.raises(ConfigError, match="a turns 5 vectors of size 8, but the rotary table has 1 positions"):
        turned(x, rotary_table(ops.arange(1), 8)[None], True, "a")
    with pytest.raises(ConfigError, match="serves size 6"):
        turned(x, rotary_table(ops.arange(5), 6)[None], True, "a")


# --- relative ---------------------------------------------------------------------------------------------------------


def test_relative_positions_and_buckets_equal_the_original():
    arrays = fixture("relative_position_buckets")
    kinds = {"relative": 0, "t5": 0}
    for case in arrays["config"]:
        name = f"{case['kind']}_{kinds[case['kind']]}"
        kinds[case["kind"]] += 1
        if case["kind"] == "relative":
            found = clipped_positions(case["q"], case["v"], (case["input_dim"] - 1) // 2)
        else:
            found = relative_buckets(
                case["q"], case["v"], case["input_dim"], case["max_distance"], case["bidirectional"]
            )
        np.testing.assert_array_equal(numpy(found), arrays[name], err_msg=name)
    assert kinds == {"relative": 4, "t5": 6}


# --- pooling ----------------------------------------------------------------------------------------------------------

POOLINGS = {"average": layers.GlobalAveragePooling, "maximum": layers.GlobalMaxPooling}


@pytest.mark.parametrize("name", list(POOLINGS))
def test_pooling_equals_the_original(name):
    arrays, layer = fixture("pooling"), POOLINGS[name]()
    x, mask = arrays["x"], arrays["mask"]
    np.testing.assert_allclose(run(layer, x, padding_mask=mask), arrays[name], atol=2e-6)
    np.testing.assert_allclose(run(layer, x, padding_mask=mask.astype("int32")), arrays[name], atol=2e-6)
    np.testing.assert_allclose(run(layer, x), arrays[f"{name}_no_mask"], atol=2e-6)


@pytest.mark.parametrize("name", list(POOLINGS))
@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
def test_pooling_never_sees_padding(name, dtype):
    layer, x = POOLINGS[name](dtype=dtype), -1 - random(2, 4, 3) ** 2
    mask = np.array([[1, 1, 0, 0], [0, 0, 0, 0]], "int32")
    x[:, 2:] = [np.inf, -np.inf, np.nan]
    found = run(layer, x, padding_mask=mask)
    wanted = {"average": x[0, :2].mean(0), "maximum": x[0, :2].max(0)}[name]
    np.testing.assert_allclose(found[0], wanted, rtol=0.01)
    np.testing.assert_array_equal(found[1], 0)


@pytest.mark.parametrize("name", list(POOLINGS))
def test_pooling_in_a_model(name):
    x, mask = keras.Input((None, 3)), keras.Input((None,), dtype="int32")
    layer = POOLINGS[name]()
    model = keras.Model([x, mask], layer(x, mask))
    assert model.output.shape == (None, 3)
    assert model.predict([random(2, 5, 3), np.ones((2, 5), "int32")], verbose=0).shape == (2, 3)
    check_comes_back(layer, random(2, 5, 3))
