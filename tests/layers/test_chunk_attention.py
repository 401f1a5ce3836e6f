"""Mixed chunk attention (FLASH) against NumPy written out token by token, and against what it must equal."""

import math

import keras
import numpy as np
import pytest
from keras import ops

from qingformer import backend, layers
from qingformer.errors import ConfigError
from qingformer.ops.linear_attention_sums import (
    causal_linear_product,
    join_chunks,
    linear_product,
    split_chunks,
    sums_before,
)
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
from tests.references import chunk_attention as reference


def random(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def table_for(length, size):
    return rotary_table(ops.arange(length), size)[None]


def made(shape, **settings):
    settings = {"intermediate_size": 7, "key_size": 4, "chunk_size": 4, "name": "m", **settings}
    layer = layers.MixedChunkAttention(**settings)
    layer.build(shape)
    return randomize(layer)


# --- NumPy ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("length", [3, 4, 11, 12])
def test_layer_equals_numpy_at_every_length(causal, length):
    x = random(2, length, 6)
    layer = made(x.shape, causal=causal)
    wanted = reference.mixed_chunk_attention(x, weights_of(layer), 4, causal)
    np.testing.assert_allclose(run(layer, x), wanted, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("causal", "rotary", "use_bias"), [(False, True, True), (True, True, False), (True, False, True)]
)
def test_layer_equals_numpy_in_value_and_gradient(causal, rotary, use_bias):
    x = random(2, 10, 6)
    layer = made(x.shape, causal=causal, use_bias=use_bias)
    keep = np.arange(10)[None] < np.array([[9], [6]])
    keep[1, 2] = False  # a hole, not only an end
    table = table_for(10, 4) if rotary else None

    def call(x):
        return layer(x, attention_mask=tensor(keep[:, None, None]), rotary=table)

    def expected(x, weights):
        return reference.mixed_chunk_attention(x, weights, 4, causal, keep, rotary)

    check(layer, x, call, expected)
    flat = run(layer, x, attention_mask=keep, rotary=table)
    np.testing.assert_array_equal(run(layer, x, attention_mask=keep[:, None, None], rotary=table), flat)


# --- what it must equal -----------------------------------------------------------------------------------------------


def parts(shape, chunk, seed=0):
    """Queries, keys, values by chunk, and the same unchunked."""
    whole = [random(*shape[:2], size, seed=seed + i) for i, size in enumerate((4, 4, 7))]
    return [split_chunks(tensor(part), chunk) for part in whole], whole


def test_global_part_is_the_unchunked_product_over_n():
    layer = layers.MixedChunkAttention(7, 4, chunk_size=4)
    chunked, (query, key, value) = parts((2, 12, 0), 4)
    found = numpy(join_chunks(layer.between_chunks(*chunked, ops.ones((1, 3, 4), "bool")), 12))
    np.testing.assert_allclose(found, query @ (key.transpose(0, 2, 1) @ value) / 12, atol=2e-6)


def test_causal_global_part_divides_by_the_tokens_summed():
    layer = layers.MixedChunkAttention(7, 4, chunk_size=4, causal=True)
    chunked, (query, key, value) = parts((2, 12, 0), 4)
    found = numpy(layer.between_chunks(*chunked, ops.ones((1, 3, 4), "bool")))
    np.testing.assert_array_equal(found[:, 0], 0)
    for chunk in (1, 2):
        states = key[:, : 4 * chunk].transpose(0, 2, 1) @ value[:, : 4 * chunk]
        wanted = query[:, 4 * chunk : 4 * chunk + 4] @ states / (4 * chunk)
        np.testing.assert_allclose(found[:, chunk], wanted, atol=2e-6)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("chunk", [9, 256])
def test_local_part_is_full_gated_attention_when_one_chunk_holds_all(causal, chunk):
    x = random(2, 9, 6)
    layer = made(x.shape, chunk_size=chunk, causal=causal)
    for name in ("linear_query_scale", "linear_key_scale"):  # switch the global part off
        scale = next(scale for scale in layer.scales if scale.name == name)
        scale.gamma.assign(ops.zeros(4))
        scale.beta.assign(ops.zeros(4))
    unit = layers.GatedAttentionUnit(7, 4)
    unit.build(x.shape)
    unit.input_dense.set_weights(layer.input_dense.get_weights())
    unit.output_dense.set_weights(layer.output_dense.get_weights())
    unit.query_scale.set_weights(layer.scales[0].get_weights())
    unit.key_scale.set_weights(layer.scales[1].get_weights())
    keep = np.arange(9)[None, None, None] < np.array([9, 7])[:, None, None, None]
    seen = keep & np.tril(np.ones((9, 9), bool)) if causal else keep
    found = run(layer, x, attention_mask=keep, rotary=table_for(9, 4))
    wanted = run(unit, x, attention_mask=seen, rotary=table_for(9, 4))
    np.testing.assert_allclose(found, wanted, atol=2e-5, rtol=1e-5)


def test_causal_output_does_not_know_later_inputs():
    x = random(1, 11, 6)
    layer = made(x.shape, causal=True)
    before = run(layer, x)
    for time in (0, 3, 4, 7, 10):
        moved = x.copy()
        moved[:, time] += 1
        changed = np.abs(run(layer, moved) - before).max(axis=(0, 2))
        np.testing.assert_array_equal(changed[:time], 0)
        assert (changed[time:] > 0).all()
    np.testing.assert_allclose(run(layer, x[:, :6]), before[:, :6], atol=2e-6)
    free = made(x.shape)
    assert np.abs(run(free, moved) - run(free, x))[:, 0].max() > 1e-4


@pytest.mark.parametrize("causal", [False, True])
def test_appended_padding_changes_nothing(causal):
    x = random(1, 6, 6)
    layer = made(x.shape, causal=causal)
    longer = np.concatenate([x, 10 * random(1, 9, 6, seed=1)], axis=1)
    mask = (np.arange(15) < 6)[None, None, None]
    short = run(layer, x, rotary=table_for(6, 4))
    long = run(layer, longer, attention_mask=mask, rotary=table_for(15, 4))
    np.testing.assert_allclose(long[:, :6], short, atol=2e-5)


@pytest.mark.parametrize("causal", [False, True])
def test_a_row_without_tokens_is_finite(causal):
    x = random(2, 5, 6)
    layer = made(x.shape, causal=causal)
    assert np.isfinite(run(layer, x, attention_mask=np.zeros((2, 1, 1, 5), bool))).all()


@pytest.mark.parametrize("use_bias", [False, True])
def test_parameters_are_3de_plus_ds_and_four_gains(use_bias):
    d, e, s = 12, 24, 5
    layer = layers.MixedChunkAttention(e, s, use_bias=use_bias)
    layer.build((None, None, d))
    assert layer.count_params() == 3 * d * e + d * s + (8 * s + 2 * e + s + d if use_bias else 4 * s)


# --- the operations ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [1, 5, 8])
def test_products_equal_sums_over_pairs(length):
    query, key, value = (random(2, length, size, seed=i) for i, size in enumerate((3, 3, 5)))
    whole, causal = np.zeros((2, length, 5)), np.zeros((2, length, 5))
    for j in range(length):
        for k in range(length):
            term = np.sum(query[:, j] * key[:, k], -1, keepdims=True) * value[:, k]
            whole[:, j] += term
            causal[:, j] += term if k <= j else 0
    tensors = [tensor(part) for part in (query, key, value)]
    np.testing.assert_allclose(numpy(linear_product(*tensors)), whole, atol=1e-5)
    for chunk in (1, 3, 8):
        np.testing.assert_allclose(numpy(causal_linear_product(*tensors, chunk)), causal, atol=1e-5)


def test_chunks_are_filled_with_zeros_and_cut_again():
    x = random(2, 5, 3)
    chunks = numpy(split_chunks(tensor(x), 4))
    assert chunks.shape == (2, 2, 4, 3)
    np.testing.assert_array_equal(chunks[:, 1, 1:], 0)
    np.testing.assert_array_equal(numpy(join_chunks(tensor(chunks), 5)), x)
    assert split_chunks(tensor(x[:, :4]), 4).shape == (2, 1, 4, 3)
    sums = numpy(sums_before(tensor(np.array([[1.0, 2.0, 4.0]], "float32"))))
    np.testing.assert_array_equal(sums, [[0, 1, 3]])


# --- as a part --------------------------------------------------------------------------------------------------------


def test_layer_serves_as_the_attention_of_a_block():
    keras.utils.set_random_seed(0)
    x, keep = tensor(random(2, 7, 8)), np.arange(7)[None] < np.array([[7], [4]])
    norms = [layers.RMSNormalization(use_scale=False) for _ in range(2)]
    attention = layers.MixedChunkAttention(16, 4, chunk_size=4, dropout=0.5)
    block = layers.TransformerBlock(attention, layers.FeedForward(8), *norms)
    mask = layers.AttentionMask("encoder")(tensor(keep.astype("int32")))
    output = block(x, attention_mask=mask)
    middle = norms[0](x + attention(x, attention_mask=mask))
    np.testing.assert_allclose(numpy(output), numpy(norms[1](middle + block.feed_forward(middle))), atol=1e-5)
    dropped = [numpy(block(x, attention_mask=mask, training=True)) for _ in range(2)]
    assert np.abs(dropped[0] - dropped[1]).max() > 1e-5


def test_layer_compiles_as_a_pure_function():
    x = random(2, 10, 6)
    layer = made(x.shape, causal=True)

    def forward(variables, x):
        return layer.stateless_call(variables, [], x)[0]

    values = [tensor(variable.value) for variable in layer.trainable_variables]
    np.testing.assert_allclose(numpy(backend.compile(forward)(values, tensor(x))), numpy(layer(x)), atol=1e-5)


def test_layer_comes_back_from_its_configuration():
    check_comes_back(layers.MixedChunkAttention(16, 4, 3, True, "relu", use_bias=False, dropout=0.1), random(2, 5, 8))


@pytest.mark.parametrize("causal", [False, True])
def test_layer_runs_in_half_precision(causal):
    def make(**kwargs):
        return layers.MixedChunkAttention(16, 4, chunk_size=4, causal=causal, **kwargs)

    check_half_precision(make, random(2, 11, 8), rotary=table_for(11, 4))


@slow_on_jax
@pytest.mark.parametrize("causal", [False, True])
def test_layer_trains_at_lengths_not_known_in_advance(causal):
    layer = layers.MixedChunkAttention(32, 8, chunk_size=4, causal=causal)
    assert layer.compute_output_spec(keras.KerasTensor((None, None, 8))).shape == (None, None, 8)
    check_trains(layer)


def test_what_cannot_be_is_refused():
    with pytest.raises(ConfigError, match="sizes 8 and 4 in chunks of 0: sizes must be positive"):
        layers.MixedChunkAttention(8, 4, chunk_size=0)
    x = tensor(random(1, 5, 8))
    layer = layers.MixedChunkAttention(8, 4, name="flash")
    layer.build(x.shape)
    with pytest.raises(ConfigError, match=r"flash takes a mask of keys.*not \(1, 1, 5, 5\).*set causal=True"):
        layer(x, attention_mask=ops.ones((1, 1, 5, 5), "bool"))
    with pytest.raises(ConfigError, match="flash has no matrix of queries and keys and cannot use context, bias"):
        layer(x, context=x, bias=ops.ones((1, 1, 5, 5)))
    with pytest.raises(ConfigError, match="rotary table has 1 positions"):
        layer(x, rotary=table_for(1, 4))


def test_scores_are_scaled_by_the_square_root_of_the_key_size():
    layer = layers.MixedChunkAttention(1, 16, chunk_size=2)
    ones = ops.ones((1, 1, 2, 16))
    found = layer.inside_chunks(ones, ones, ops.ones((1, 1, 2, 1)), ops.ones((1, 1, 2), "bool"), None, 0)
    np.testing.assert_allclose(numpy(found), (16 / math.sqrt(16)) ** 2 * np.ones((1, 1, 2, 1)), rtol=1e-6)
