"""Linear attention against NumPy written out pair by pair, and against what it must equal."""

import numpy as np
import pytest
from keras import ops

from qingformer import backend, layers
from qingformer.errors import ConfigError
from qingformer.ops.rotary import rotary_table
from tests.conftest import slow_on_jax
from tests.layers.bricks import (
    check,
    check_comes_back,
    check_half_precision,
    check_trains,
    numpy,
    randomize,
    run,
    tensor,
    weights_of,
)
from tests.references import linear_attention as reference

FEATURE_MAPS = {"elu": reference.elu_plus_one, "relu": reference.relu}


def random(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def table_for(length, size):
    return rotary_table(ops.arange(length), size)[None]


def made(shape, **settings):
    layer = layers.LinearAttention(**{"num_heads": 2, "head_size": 3, "chunk_size": 4, "name": "l", **settings})
    layer.build(shape)
    return randomize(layer)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("length", [3, 8, 11])
def test_layer_equals_numpy_at_every_length(causal, length):
    x = random(2, length, 6)
    layer = made(x.shape, causal=causal, key_size=5)
    wanted = reference.linear_attention(x, weights_of(layer), 2, causal=causal)
    np.testing.assert_allclose(run(layer, x), wanted, atol=2e-5)


@pytest.mark.parametrize(
    ("causal", "rotary", "feature_map"), [(False, True, "elu"), (True, False, "elu"), (True, True, "relu")]
)
def test_layer_equals_numpy_in_value_and_gradient(causal, rotary, feature_map):
    x = random(2, 9, 6)
    layer = made(x.shape, causal=causal, key_size=4, feature_map=feature_map)
    keep = np.arange(9)[None] < np.array([[9], [6]])
    keep[1, 2] = False
    table = table_for(9, 4) if rotary else None

    def call(x):
        return layer(x, attention_mask=tensor(keep[:, None, None]), rotary=table)

    def expected(x, weights):
        return reference.linear_attention(x, weights, 2, FEATURE_MAPS[feature_map], causal, keep, rotary)

    check(layer, x, call, expected)
    flat = run(layer, x, attention_mask=keep, rotary=table)
    np.testing.assert_array_equal(run(layer, x, attention_mask=keep[:, None, None], rotary=table), flat)


@pytest.mark.parametrize("causal", [False, True])
def test_equal_values_come_out_as_they_are(causal):
    x = random(2, 9, 6)
    layer = made(x.shape, causal=causal)
    layer.value.kernel.assign(ops.zeros((6, 6)))  # every value is the bias, and the weights sum to one
    bias = numpy(layer.value.bias.value)
    wanted = bias @ numpy(layer.output_dense.kernel.value) + numpy(layer.output_dense.bias.value)
    np.testing.assert_allclose(run(layer, x), np.broadcast_to(wanted, x.shape), atol=1e-5)


def test_causal_output_does_not_know_later_inputs():
    x = random(1, 11, 6)
    layer = made(x.shape, causal=True)
    before = run(layer, x)
    for time in (0, 3, 4, 10):
        moved = x.copy()
        moved[:, time] += 1
        changed = np.abs(run(layer, moved) - before).max(axis=(0, 2))
        np.testing.assert_array_equal(changed[:time], 0)
        assert (changed[time:] > 0).all()
    np.testing.assert_allclose(run(layer, x[:, :6]), before[:, :6], atol=2e-6)


def test_chunk_size_changes_nothing():
    x = random(2, 11, 6)
    wanted = run(made(x.shape, causal=True), x)
    for size in (1, 5, 100):
        np.testing.assert_allclose(run(made(x.shape, causal=True, chunk_size=size), x), wanted, atol=1e-5)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("feature_map", list(FEATURE_MAPS))
def test_padding_changes_nothing_and_rows_without_keys_are_finite(causal, feature_map):
    x = random(1, 6, 6)
    layer = made(x.shape, causal=causal, feature_map=feature_map, key_size=4)
    longer = np.concatenate([x, 10 * random(1, 9, 6, seed=1)], axis=1)
    mask = (np.arange(15) < 6)[None, None, None]
    short = run(layer, x, rotary=table_for(6, 4))
    long = run(layer, longer, attention_mask=mask, rotary=table_for(15, 4))
    np.testing.assert_allclose(long[:, :6], short, atol=2e-5)
    assert np.isfinite(run(layer, x, attention_mask=np.zeros((1, 1, 1, 6), bool))).all()


def test_rotary_knows_only_distances():
    x = random(1, 6, 6)
    layer = made(x.shape, key_size=4)
    here, there = (run(layer, x, rotary=rotary_table(ops.arange(6) + start, 4)[None]) for start in (0, 37))
    np.testing.assert_allclose(here, there, atol=2e-5)
    assert np.abs(here - run(layer, x)).max() > 1e-3


def test_layer_has_the_parameters_of_attention():
    ours, theirs = layers.LinearAttention(2, 3, key_size=5), layers.MultiHeadAttention(2, 3, key_size=5)
    for layer in (ours, theirs):
        layer.build((None, None, 6))
    assert ours.count_params() == theirs.count_params() == 2 * (6 * 10 + 10) + 6 * 6 + 6 + 6 * 6 + 6


def test_layer_serves_as_the_attention_of_a_block():
    x, keep = tensor(random(2, 7, 8)), np.arange(7)[None] < np.array([[7], [4]])
    norms = [layers.RMSNormalization(use_scale=False) for _ in range(2)]
    attention = layers.LinearAttention(2, 4)
    block = layers.TransformerBlock(attention, layers.FeedForward(8), *norms, dropout=0.5)
    mask = layers.AttentionMask("encoder")(tensor(keep.astype("int32")))
    middle = norms[0](x + attention(x, attention_mask=mask))
    wanted = numpy(norms[1](middle + block.feed_forward(middle)))
    np.testing.assert_allclose(numpy(block(x, attention_mask=mask)), wanted, atol=1e-5)
    assert np.isfinite(numpy(block(x, attention_mask=mask, training=True))).all()


def test_layer_compiles_as_a_pure_function():
    x = random(2, 10, 6)
    layer = made(x.shape, causal=True)

    def forward(variables, x):
        return layer.stateless_call(variables, [], x)[0]

    values = [tensor(variable.value) for variable in layer.trainable_variables]
    np.testing.assert_allclose(numpy(backend.compile(forward)(values, tensor(x))), numpy(layer(x)), atol=1e-5)


def test_layer_comes_back_from_its_configuration():
    check_comes_back(layers.LinearAttention(2, 3, 5, "relu", True, 3, use_bias=False), random(2, 5, 8))


@pytest.mark.parametrize("causal", [False, True])
def test_layer_runs_in_half_precision(causal):
    def make(**kwargs):
        return layers.LinearAttention(2, 4, chunk_size=4, causal=causal, **kwargs)

    check_half_precision(make, random(2, 11, 8), rotary=table_for(11, 4))


@slow_on_jax
@pytest.mark.parametrize("causal", [False, True])
def test_layer_trains_at_lengths_not_known_in_advance(causal):
    check_trains(layers.LinearAttention(2, 8, chunk_size=4, causal=causal))


def test_what_cannot_be_is_refused():
    with pytest.raises(ConfigError, match="2 heads of size 0 in chunks of 64"):
        layers.LinearAttention(2, 0)
    with pytest.raises(ConfigError, match="unknown feature map 'cos'; use one of elu, relu"):
        layers.LinearAttention(2, 4, feature_map="cos")
    x = tensor(random(1, 5, 8))
    layer = layers.LinearAttention(2, 4, name="linear")
    layer.build(x.shape)
    with pytest.raises(ConfigError, match=r"linear takes a mask of keys.*not \(1, 1, 5, 5\)"):
        layer(x, attention_mask=ops.ones((1, 1, 5, 5), "bool"))
    with pytest.raises(ConfigError, match="linear has no matrix of queries and keys and cannot use context"):
        layer(x, context=x)
    with pytest.raises(ConfigError, match="linear turns 5 vectors of size 4, but the rotary table has 3 positions"):
        layer(x, rotary=table_for(3, 4))
