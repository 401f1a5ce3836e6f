"""The gated attention unit against the original's numbers, NumPy written out, and what its authors say of it."""

import json
import math

import keras
import numpy as np
import pytest
from keras import ops

from qingformer import layers
from qingformer.errors import ConfigError
from qingformer.ops.attention_weights import attention_weights
from qingformer.ops.rotary import rotary_table
from tests.conftest import slow_on_jax
from tests.layers.bricks import (
    FIXTURES,
    assign,
    check,
    check_comes_back,
    check_half_precision,
    check_trains,
    fixture,
    numpy,
    randomize,
    run,
    tensor,
    weights_of,
)
from tests.references import gated_attention as reference

CASES = sorted(path.stem for path in FIXTURES.glob("gau_*.npz"))
PLACES = {"i": "input", "uq": "input", "k": "key", "v": "value", "o": "output"}
NORMALIZATIONS = ["squared_relu", "softmax", "softmax_plus"]


def table_for(length, size):
    return rotary_table(ops.arange(length), size)[None]


def random(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def causal(length):
    return np.tril(np.ones((1, length, length), bool))


# --- the original -----------------------------------------------------------------------------------------------------


def from_original(arrays, config):
    layer = layers.GatedAttentionUnit(
        config["units"], config["key_size"], config["activation"], config["use_bias"], config["normalization"],
        config["attention_scale"], name="g",
    )  # fmt: skip
    layer.build(arrays["x"].shape, arrays["key_value"].shape if "key_value" in arrays else None)
    weights = {}
    for name, array in arrays.items():
        index, _, part = name.rpartition("_")
        if part in ("gamma", "beta"):
            weights[f"{'query' if index == 'q' else 'key'}_scale/{part}"] = array
        elif part in ("kernel", "bias") and index in PLACES:
            weights[f"{PLACES[index]}/{part}"] = array
    assign(layer, weights)
    return layer


def test_every_case_of_the_original_is_here():
    assert len(CASES) == 12


@pytest.mark.parametrize("name", CASES)
def test_unit_equals_the_original(name):
    arrays = fixture(name)
    layer = from_original(arrays, arrays["config"])
    mask = arrays["mask"][:, None, None, :] if "mask" in arrays else None
    bias = arrays.get("a_bias")
    if bias is not None and bias.dtype == bool:
        mask, bias = mask & bias[:, None], None
    rotary = table_for(arrays["x"].shape[1], layer.key_size) if "rotary_sinusoidal" in arrays else None
    bias = None if bias is None else bias[:, None]
    context = arrays.get("key_value")
    output = run(layer, arrays["x"], context=context, attention_mask=mask, bias=bias, rotary=rotary)
    np.testing.assert_allclose(output, arrays["output"], atol=2e-5, rtol=1e-5)


# --- NumPy ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("normalization", "rotary", "use_bias"),
    [
        ("squared_relu", False, True),
        ("squared_relu", True, True),
        ("softmax", False, True),
        ("softmax_plus", True, False),
    ],
)
def test_unit_equals_numpy_in_value_and_gradient(normalization, rotary, use_bias):
    x = random(2, 5, 6)
    layer = layers.GatedAttentionUnit(7, 4, normalization=normalization, use_bias=use_bias, name="g")
    layer.build(x.shape)
    randomize(layer)
    seen = np.random.default_rng(1).random((2, 5, 5)) < 0.6
    seen[:, :, 0] = True
    bias = random(2, 5, 5, seed=2)
    table = table_for(5, 4) if rotary else None

    def call(x):
        return layer(x, attention_mask=tensor(seen[:, None]), bias=tensor(bias[:, None]), rotary=table)

    def expected(x, weights):
        return reference.gated_attention(x, weights, seen, rotary=rotary, normalization=normalization, bias=bias)

    check(layer, x, call, expected)


def test_cross_unit_equals_numpy_in_value_and_gradient():
    x, context = random(2, 4, 6), random(2, 7, 5, seed=1)
    layer = layers.GatedAttentionUnit(7, 4, normalization="softmax", name="g")
    layer.build(x.shape, context.shape)
    randomize(layer)
    seen = np.random.default_rng(1).random((2, 4, 7)) < 0.7
    seen[:, :, 0] = True

    def call(x):
        return layer(x, context=tensor(context), attention_mask=tensor(seen[:, None]))

    def expected(x, weights):
        return reference.gated_attention(x, weights, seen, context, normalization="softmax")

    check(layer, x, call, expected)
    assert layer.compute_output_spec(keras.KerasTensor(x.shape)).shape == x.shape


def test_cross_unit_turns_both_sequences():
    x, context = random(1, 5, 6), random(1, 5, 6, seed=1)
    layer = layers.GatedAttentionUnit(7, 4, name="g")
    layer.build(x.shape, context.shape)
    randomize(layer)
    found = run(layer, x, context=context, rotary=table_for(5, 4))
    wanted = reference.gated_attention(x, weights_of(layer), context=context, rotary=True)
    np.testing.assert_allclose(found, wanted, atol=2e-5)


# --- what is said of it -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_appended_padding_changes_nothing(normalization):
    x = random(1, 6, 8)
    layer = layers.GatedAttentionUnit(16, 4, normalization=normalization)
    layer.build(x.shape)
    randomize(layer)
    longer = np.concatenate([x, 10 * random(1, 14, 8, seed=1)], axis=1)
    mask = (np.arange(20) < 6)[None, None, None]
    short = run(layer, x, rotary=table_for(6, 4))
    long = run(layer, longer, attention_mask=mask, rotary=table_for(20, 4))
    np.testing.assert_allclose(long[:, :6], short, atol=2e-5)


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_a_row_without_keys_is_finite(normalization):
    layer = layers.GatedAttentionUnit(16, 4, normalization=normalization)
    layer.build((2, 3, 8))
    assert np.isfinite(run(layer, random(2, 3, 8), attention_mask=np.zeros((2, 1, 1, 3), bool))).all()


@pytest.mark.parametrize("use_bias", [False, True])
def test_parameters_are_3de_plus_ds_and_the_gains(use_bias):
    d, e, s = 12, 24, 5
    layer = layers.GatedAttentionUnit(e, s, use_bias=use_bias)
    layer.build((None, None, d))
    assert layer.count_params() == 3 * d * e + d * s + (4 * s + 2 * e + s + d if use_bias else 2 * s)


def test_two_units_are_an_attention_and_a_feed_forward():
    d, s = 24, 6
    unit = layers.GatedAttentionUnit(2 * d, s, use_bias=False)
    others = [layers.MultiHeadAttention(4, 6, use_bias=False), layers.FeedForward(4 * d, use_bias=False)]
    for layer in (unit, *others):
        layer.build((None, None, d))
    assert 2 * unit.count_params() - sum(layer.count_params() for layer in others) == 2 * d * s + 4 * s


def test_softmax_plus_is_softmax_at_512_valid_keys():
    scores = tensor(random(1, 1, 3, 700) * 3)
    mask = tensor((np.arange(700) < 512)[None, None, None])
    plus, plain = (numpy(attention_weights(scores, mask, name)) for name in ("softmax_plus", "softmax"))
    np.testing.assert_allclose(plus, plain, atol=1e-6)
    fewer = tensor((np.arange(700) < 500)[None, None, None])
    plus, plain = (numpy(attention_weights(scores, fewer, name)) for name in ("softmax_plus", "softmax"))
    assert np.abs(plus - plain).max() > 1e-5


def test_softmax_plus_counts_at_least_16_keys():
    scores = random(1, 1, 3, 9)
    wanted = numpy(attention_weights(tensor(scores * math.log(16) / math.log(512)), None, "softmax"))
    np.testing.assert_allclose(numpy(attention_weights(tensor(scores), None, "softmax_plus")), wanted, atol=1e-6)


# Mean entropies observed with queries and keys of norm sqrt(64), uniform in direction.
@pytest.mark.parametrize(("keys", "plain", "scaled"), [(64, 3.68, 3.94), (512, 5.75, 5.75), (4096, 7.83, 7.47)])
def test_softmax_plus_damps_the_growth_of_the_entropy(keys, plain, scaled):
    generator = np.random.default_rng(keys)

    def directions(count):
        x = generator.normal(size=(count, 64))
        return 8 * x / np.linalg.norm(x, axis=-1, keepdims=True)

    scores = tensor((directions(400) @ directions(keys).T / 8).astype("float32")[None, None])
    for name, wanted in {"softmax": plain, "softmax_plus": scaled}.items():
        weights = numpy(attention_weights(scores, None, name)).astype("float64")
        assert -np.sum(weights * np.log(weights + 1e-30), axis=-1).mean() == pytest.approx(wanted, abs=0.03)


def test_rotary_unit_knows_only_distances():
    x = random(1, 6, 8)
    layer = layers.GatedAttentionUnit(16, 4)
    layer.build(x.shape)
    randomize(layer)
    here = run(layer, x, rotary=table_for(6, 4))
    there = run(layer, x, rotary=rotary_table(ops.arange(6) + 37, 4)[None])
    np.testing.assert_allclose(here, there, atol=2e-5)
    assert np.abs(here - run(layer, x)).max() > 1e-3
    halves = layers.GatedAttentionUnit(16, 4, interleaved_rotary=False)
    halves.build(x.shape)
    halves.set_weights(layer.get_weights())
    assert np.abs(here - run(halves, x, rotary=table_for(6, 4))).max() > 1e-3


# --- as a part --------------------------------------------------------------------------------------------------------


def test_residual_scores_are_added_and_returned():
    x, before = random(1, 4, 8), random(1, 1, 4, 4, seed=1)
    layer = layers.GatedAttentionUnit(16, 4, normalization="softmax", residual_scores=True)
    alone, own = layer(x)
    output, total = layer(x, scores=tensor(before))
    np.testing.assert_allclose(numpy(total), numpy(own) + before, atol=1e-6)
    np.testing.assert_allclose(numpy(layer(x, scores=before, bias=before)[1]), numpy(total), atol=1e-6)
    assert np.abs(numpy(output) - numpy(alone)).max() > 1e-5
    assert [spec.shape for spec in layer.compute_output_spec(keras.KerasTensor((1, 4, 8)))] == [(1, 4, 8), (1, 1, 4, 4)]


def test_unit_serves_as_the_attention_of_a_block():
    keras.utils.set_random_seed(0)
    x, mask = tensor(random(2, 5, 8)), np.arange(5)[None, None, None] < np.array([5, 3])[:, None, None, None]
    norms = [layers.RMSNormalization(use_scale=False) for _ in range(2)]
    unit = layers.GatedAttentionUnit(16, 4, dropout=0.5)
    block = layers.TransformerBlock(unit, layers.FeedForward(8), *norms)
    output = block(x, attention_mask=tensor(mask))
    middle = norms[0](x + unit(x, attention_mask=tensor(mask)))
    np.testing.assert_allclose(numpy(output), numpy(norms[1](middle + block.feed_forward(middle))), atol=1e-5)
    dropped = [numpy(block(x, attention_mask=tensor(mask), training=True)) for _ in range(2)]
    assert np.abs(dropped[0] - dropped[1]).max() > 1e-5


def test_dropout_is_of_the_seed_and_the_stream():
    x, seed = random(1, 6, 8), keras.random.SeedGenerator(3).next()
    layer = layers.GatedAttentionUnit(16, 4, dropout=0.5, normalization="softmax")
    first, again, elsewhere = (numpy(layer(x, seed=seed, stream=stream)) for stream in (0, 0, 5))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - elsewhere).max() > 1e-4
    assert np.abs(first - numpy(layer(x))).max() > 1e-4


def test_unit_comes_back_from_its_configuration():
    settings = {"normalization": "softmax_plus", "use_bias": False, "attention_scale": False, "dropout": 0.1}
    check_comes_back(layers.GatedAttentionUnit(16, 4, "relu", residual_scores=False, **settings), random(2, 5, 8))
    check_comes_back(layers.GatedAttentionUnit(16, 4), random(2, 5, 8), context=tensor(random(2, 3, 6)))
    json.dumps(layers.GatedAttentionUnit(16, 4).get_config())


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_unit_runs_in_half_precision(normalization):
    def make(**kwargs):
        return layers.GatedAttentionUnit(16, 4, normalization=normalization, **kwargs)

    check_half_precision(make, random(2, 5, 8), rotary=table_for(5, 4))


@slow_on_jax
def test_unit_trains():
    check_trains(layers.GatedAttentionUnit(32, 8, normalization="softmax"))


def test_what_cannot_be_is_refused():
    with pytest.raises(ConfigError, match="sizes 0 and 4: sizes must be positive"):
        layers.GatedAttentionUnit(0, 4)
    with pytest.raises(ConfigError, match="unknown attention normalization 'relu'"):
        layers.GatedAttentionUnit(8, 4, normalization="relu")
    x, layer = random(1, 5, 8), layers.GatedAttentionUnit(8, 4, name="unit")
    layer(x)
    with pytest.raises(ConfigError, match="unit was built without a context"):
        layer(x, context=tensor(x))
    with pytest.raises(ConfigError, match="unit turns 5 vectors of size 4, but the rotary table has 1 positions"):
        layer(x, rotary=table_for(1, 4))
    with pytest.raises(ConfigError, match="serves size 6"):
        layer(x, rotary=table_for(5, 6))
    crossing = layers.GatedAttentionUnit(8, 4, name="unit")
    crossing(x, context=tensor(x))
    with pytest.raises(ConfigError, match="unit was built with a context: give it one"):
        crossing(x)
