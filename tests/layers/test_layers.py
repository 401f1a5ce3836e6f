"""The bricks against NumPy written out, against the original toolkit's numbers, and against torch where it is there."""

import json
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

from qingformer import backend, layers
from qingformer.errors import ConfigError
from qingformer.ops.activations import get_activation
from qingformer.ops.masking import causal_mask, unilm_mask
from tests.references import attention as reference

FIXTURES = Path(__file__).resolve().parent.parent / "fixtures" / "bert4keras" / "layers"


def fixture(name: str) -> dict:
    return dict(np.load(FIXTURES / f"{name}.npz"))


def numpy(x) -> np.ndarray:
    return ops.convert_to_numpy(x)


def assign(layer, arrays: dict) -> None:
    variables = {variable.path.split("/", 1)[1]: variable for variable in layer.trainable_variables}
    assert set(variables) == set(arrays)
    for path, array in arrays.items():
        variables[path].assign(array)


@pytest.mark.parametrize("implementation", ["fused", "explicit"])
@pytest.mark.parametrize(("heads", "head_size", "key_size"), [(1, 5, None), (3, 4, 7), (4, 2, None)])
def test_attention_equals_numpy(implementation, heads, head_size, key_size):
    if implementation == "fused" and key_size is not None:
        pytest.skip("fused kernels want keys and values of one size; auto never meets this on them with BERT sizes")
    generator = np.random.default_rng(heads)
    layer = layers.MultiHeadAttention(heads, head_size, key_size=key_size, implementation=implementation, name="a")
    x = generator.normal(size=(2, 6, 12)).astype("float32")
    mask = generator.random((2, 6, 6)) < 0.6
    mask[:, :, 0] = True
    layer.build(x.shape)
    for variable in layer.trainable_variables:
        variable.assign(generator.normal(size=variable.shape).astype("float32") * 0.4)
    weights = {variable.path.split("/", 1)[1]: numpy(variable.value) for variable in layer.trainable_variables}
    there = numpy(layer(x, attention_mask=mask[:, None]))
    np.testing.assert_allclose(there, reference.attend(x, weights, heads, mask), atol=2e-5)
    np.testing.assert_allclose(numpy(layer(x)), reference.attend(x, weights, heads), atol=2e-5)


def test_attention_equals_the_original():
    arrays = fixture("mha_mask")
    config = json.loads(str(arrays["config"]))
    layer = layers.MultiHeadAttention(config["heads"], config["head_size"], name="a", residual_scores=True)
    layer.build(arrays["query"].shape)
    names = {"q": "query", "k": "key", "v": "value", "o": "output"}
    assign(layer, {f"{names[k]}/{p}": arrays[f"{k}_{p}"] for k in names for p in ("kernel", "bias")})
    assert np.array_equal(arrays["query"], arrays["key_value"])
    output, scores = layer(arrays["query"], attention_mask=arrays["key_mask"][:, None, None, :])
    np.testing.assert_allclose(numpy(output), arrays["output"], atol=2e-5)
    np.testing.assert_allclose(numpy(scores), arrays["attention_logits"], atol=2e-5)


def test_residual_scores_accumulate():
    layer = layers.MultiHeadAttention(2, 3, residual_scores=True)
    x, before = np.random.default_rng(0).normal(size=(1, 4, 6)), np.random.default_rng(1).normal(size=(1, 2, 4, 4))
    _, own = layer(x.astype("float32"))
    _, total = layer(x.astype("float32"), scores=before.astype("float32"))
    np.testing.assert_allclose(numpy(total), numpy(own) + before, atol=1e-6)
    _, biased = layer(x.astype("float32"), scores=before.astype("float32"), bias=np.ones((1, 2, 4, 4), "float32"))
    np.testing.assert_allclose(numpy(biased), numpy(total), atol=1e-6)


@pytest.mark.parametrize("name", ["feed_forward_glu", "feed_forward_glu_3"])
def test_gated_feed_forward_equals_the_original(name):
    arrays = fixture(name)
    config = json.loads(str(arrays["config"]))
    layer = layers.FeedForward(16, config["activation"], use_bias=config.get("use_bias", True), name="f")
    layer.build(arrays["x"].shape)
    names = {f"i{k}": f"intermediate_{k}" for k in range(len(config["activation"]))} | {"o": "output"}
    assign(
        layer,
        {
            f"{names[key.split('_')[0]]}/{key.split('_')[1]}": arrays[key]
            for key in arrays
            if key[0] in "io" and key != "output"
        },
    )
    np.testing.assert_allclose(numpy(layer(arrays["x"])), arrays["output"], atol=2e-5)


def test_feed_forward_equals_the_original():
    arrays = fixture("feed_forward")
    layer = layers.FeedForward(16, "gelu", name="f")
    layer.build(arrays["x"].shape)
    names = {"i0": "intermediate", "o": "output"}
    assign(layer, {f"{names[k]}/{p}": arrays[f"{k}_{p}"] for k in names for p in ("kernel", "bias")})
    np.testing.assert_allclose(numpy(layer(arrays["x"])), arrays["output"], atol=2e-5)


def test_the_inner_vectors_of_a_feed_forward_part_are_dropped_between_the_dense_layers():
    layer = layers.FeedForward(6, ["relu", "linear"], dropout=0.4, use_bias=False)
    x = np.random.default_rng(0).normal(size=(2, 50, 3)).astype("float32")
    layer.build(x.shape)
    first, gate, output = layer.get_weights()
    inner = np.maximum(x @ first, 0) * (x @ gate)
    np.testing.assert_allclose(numpy(layer(x)), inner @ output, atol=1e-6)
    seed = keras.random.SeedGenerator(3).next()
    keep = numpy(backend.keep_mask(seed, inner.shape, 0.4, 5))
    np.testing.assert_allclose(numpy(layer(x, seed=seed)), (inner * keep / 0.6) @ output, atol=1e-5)
    norms = [keras.layers.LayerNormalization() for _ in range(2)]
    block = layers.TransformerBlock(layers.MultiHeadAttention(1, 3), layer, *norms)
    assert block.has_dropout  # no other part of it has any
    assert not np.allclose(numpy(block(x, training=True)), numpy(block(x)))


@pytest.mark.parametrize("name", ["layer_norm_conditional", "layer_norm_conditional_hidden"])
def test_conditional_norm_equals_the_original(name):
    arrays = fixture(name)
    config = json.loads(str(arrays["config"]))
    layer = layers.ConditionalLayerNormalization(
        config["epsilon_used"], config.get("hidden_units"), config.get("hidden_activation", "linear"), name="n"
    )
    layer.build(arrays["x"].shape, arrays["condition"].shape)
    weights = {"gamma": arrays["gamma"], "beta": arrays["beta"]}
    parts = [part for part in ("hidden", "gamma", "beta") if f"{part}_dense_kernel" in arrays]
    assign(layer, weights | {f"condition_{part}/kernel": arrays[f"{part}_dense_kernel"] for part in parts})
    np.testing.assert_allclose(numpy(layer(arrays["x"], arrays["condition"])), arrays["output"], atol=2e-5)


def test_positions_equal_the_original():
    arrays = fixture("position_embedding")
    alphas = {"hierarchical_default": 0.4, "hierarchical_alpha": json.loads(str(arrays["config"]))["alpha"]}
    for name, alpha in {"add": None, "custom": None, **alphas}.items():
        layer = layers.PositionEmbedding(8, 6, hierarchical=alpha, name="p")
        layer.build()
        layer.embeddings.assign(arrays["table"])
        x = arrays["x_long"] if alpha else arrays["x"]
        ids = (arrays["position_ids"],) if name == "custom" else ()
        np.testing.assert_allclose(numpy(layer(x, *ids)), arrays[name], atol=2e-5, err_msg=name)


def test_masks_equal_the_original():
    arrays = fixture("attention_masks")
    np.testing.assert_array_equal(
        numpy(unilm_mask(ops.convert_to_tensor(arrays["segment_ids"])))[:, 0], arrays["unilm_mask"]
    )
    np.testing.assert_array_equal(numpy(causal_mask(6))[0, 0], arrays["lm_mask"])


def test_activations_equal_the_original():
    arrays = fixture("activations")
    for ours, theirs in {"gelu": "gelu_erf", "gelu_new": "gelu_tanh", "swish": "swish"}.items():
        there = numpy(get_activation(ours)(ops.convert_to_tensor(arrays["x"])))
        np.testing.assert_allclose(there, arrays[theirs], atol=2e-6, err_msg=ours)


def test_dropout_keeps_the_rate_the_mean_and_its_seed():
    seed = ops.convert_to_tensor(np.array([3, 4]), dtype=keras.random.SeedGenerator(0).state.dtype)
    shape, rate = (64, 100, 33), 0.3
    kept = numpy(backend.keep_mask(seed, shape, rate))
    count = kept.size
    assert abs(kept.mean() - (1 - rate)) < 5 * (rate * (1 - rate) / count) ** 0.5
    np.testing.assert_array_equal(kept, numpy(backend.keep_mask(seed, shape, rate)))
    assert abs(np.mean(kept == numpy(backend.keep_mask(seed, shape, rate, site=1))) - 0.58) < 0.01
    for axis in range(3):  # no pattern along any axis
        rates = 1 - kept.mean(axis=tuple(other for other in range(3) if other != axis))
        error = (rate * (1 - rate) / (count / shape[axis])) ** 0.5
        assert np.abs(rates - rate).max() < 5 * error
        neighbours = np.mean(kept == np.roll(kept, 1, axis))
        assert abs(neighbours - 0.58) < 0.01
    layer = layers.Dropout(rate, seed=1)
    x = np.ones(shape, "float32")
    dropped = numpy(layer(x, training=True))
    assert set(np.unique(dropped)) == {np.float32(0), np.float32(1 / 0.7)}
    np.testing.assert_array_equal(numpy(layer(x)), x)


def test_successive_seeds_are_independent():
    generator = keras.random.SeedGenerator(5)
    masks = [numpy(backend.keep_mask(generator.next(), (200, 200), 0.5)) for _ in range(6)]
    for i in range(6):
        for j in range(i):
            assert abs(np.mean(masks[i] == masks[j]) - 0.5) < 0.015


def test_sizes_and_names_that_cannot_be_are_refused():
    with pytest.raises(ConfigError, match="0 heads of size 4"):
        layers.MultiHeadAttention(0, 4)
    with pytest.raises(ConfigError, match="unknown attention 'flash'; use one of auto, fused, explicit"):
        layers.MultiHeadAttention(1, 4, implementation="flash")
    with pytest.raises(ConfigError, match="pairs of sine and cosine, but the key size 3 is odd"):
        layers.RelativeMultiHeadAttention(1, 3)
    with pytest.raises(ConfigError, match="unknown activation 'glu'; known are elu, gelu,"):
        layers.FeedForward(4, "glu")
    with pytest.raises(ConfigError, match="unknown application 'decoder'; use one of encoder, lm, unilm"):
        layers.AttentionMask("decoder")


@pytest.mark.parametrize(
    "layer",
    [
        layers.MultiHeadAttention(2, 3, dropout=0.1, residual_scores=False),
        layers.RelativeMultiHeadAttention(2, 4, max_relative_position=2),
        layers.FeedForward(7, "relu"),
        layers.Dropout(0.2),
        layers.TokenPooling(1),
        layers.OutputBias(),
        layers.PositionEmbedding(9, 6, hierarchical=0.4),
        layers.TransformerBlock(
            layers.MultiHeadAttention(2, 3), layers.FeedForward(7), keras.layers.LayerNormalization(),
            keras.layers.LayerNormalization(), dropout=0.1,
        ),
    ],
    ids=lambda layer: type(layer).__name__,
)  # fmt: skip
def test_layers_come_back_from_their_configuration(layer):
    x = np.random.default_rng(0).normal(size=(2, 5, 6)).astype("float32")
    wanted = layer(x)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert type(again) is type(layer)
    assert again(x).shape == wanted.shape
    again.set_weights(layer.get_weights())
    np.testing.assert_array_equal(numpy(again(x)), numpy(wanted))


def test_relative_positions_were_once_a_setting_of_the_plain_attention():
    wanted = layers.RelativeMultiHeadAttention(2, 4, max_relative_position=2)
    stored = keras.saving.serialize_keras_object(wanted) | {
        "class_name": "MultiHeadAttention",
        "registered_name": "qingformer>MultiHeadAttention",
    }
    again = keras.saving.deserialize_keras_object(stored)
    assert type(again) is layers.RelativeMultiHeadAttention
    assert again.max_relative_position == 2
    plain = layers.MultiHeadAttention(2, 3).get_config() | {"max_relative_position": None}
    assert type(layers.MultiHeadAttention.from_config(plain)) is layers.MultiHeadAttention


def test_a_context_gives_every_attention_its_arguments():
    inputs = layers.AttentionContext(attention_mask="mask", condition="c", context="other", context_mask="other mask")
    assert inputs.given() == {
        "attention_mask": "mask", "condition": "c", "context": "other", "context_mask": "other mask"
    }  # fmt: skip
    assert inputs.of_attention() == {"attention_mask": "mask", "context": "other"}
    assert inputs.of_attention(crosses=True) == {"attention_mask": "mask"}
    assert inputs.of_cross_attention() == {"context": "other", "attention_mask": "other mask", "bias": None}


def test_dropout_streams_keep_the_numbers_that_resumed_runs_began_with():
    numbers = {stream.name: int(stream) for stream in layers.DropoutStream}
    assert numbers == {
        "ATTENTION_WEIGHTS": 0,
        "ATTENTION_OUTPUT": 1,
        "FEED_FORWARD_OUTPUT": 2,
        "CROSS_ATTENTION_OUTPUT": 3,
        "CROSS_ATTENTION_WEIGHTS": 4,
        "FEED_FORWARD_INSIDE": 5,
    }


def test_a_branch_without_norm_is_not_normalised():
    attention, inner, x = layers.MultiHeadAttention(2, 3), layers.FeedForward(7), ops.ones((2, 5, 6))
    block = layers.TransformerBlock(attention, inner, None, None, norm_position="pre")
    middle = x + attention(x)
    np.testing.assert_allclose(numpy(block(x)), numpy(middle + inner(middle)), atol=1e-6)
    again = layers.TransformerBlock.from_config(block.get_config())
    assert again.attention_norm is None
    assert again.feed_forward_norm is None


# --- dense ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(4, 3), (2, 5, 3)])
def test_dense_equals_that_of_keras_in_value_and_gradient(shape):
    generator = np.random.default_rng(0)
    x, weights = generator.normal(size=shape).astype("float32"), generator.normal(size=(3, 6)).astype("float32")
    ours, theirs = layers.Dense(6, activation="tanh"), keras.layers.Dense(6, activation="tanh")
    results = []
    for layer in (ours, theirs):
        layer.build(shape)
        layer.set_weights([weights, np.arange(6, dtype="float32")])

        def loss(values, layer=layer):
            with keras.StatelessScope(state_mapping=list(zip(layer.trainable_variables, values[1:]))):
                return ops.sum(layer(values[0]) ** 3)

        values = [ops.convert_to_tensor(x)] + [ops.convert_to_tensor(v.value) for v in layer.trainable_variables]
        value, gradients = backend.value_and_grad(loss)(values)
        results.append([value, *gradients])
    for own, other in zip(*results):
        np.testing.assert_allclose(numpy(own), numpy(other), rtol=1e-5, atol=1e-5)


def test_product_has_second_order_gradients():
    generator = np.random.default_rng(1)
    values = [ops.convert_to_tensor(generator.normal(size=s).astype("float32")) for s in ((2, 4, 3), (3, 5))]

    def penalty(multiply):
        def loss(w):
            return ops.sum(ops.tanh(multiply(w[0], w[1])) ** 2)

        def squared_gradient(w):
            return sum(ops.sum(g**2) for g in backend.value_and_grad(loss)(w)[1])

        return backend.value_and_grad(squared_gradient)(values)

    value, gradients = penalty(backend.matmul)
    expected, expected_gradients = penalty(ops.matmul)
    assert float(value) == pytest.approx(float(expected), rel=1e-5)
    for own, other in zip(gradients, expected_gradients):
        np.testing.assert_allclose(numpy(own), numpy(other), rtol=1e-4, atol=1e-4)


def test_dense_keeps_lora_quantisation_and_half_precision():
    x = ops.convert_to_tensor(np.random.default_rng(2).normal(size=(4, 8)).astype("float32"))
    half = layers.Dense(6, dtype="mixed_bfloat16")
    assert keras.backend.standardize_dtype(half(x).dtype) == "bfloat16"
    layer = layers.Dense(6)
    before = numpy(layer(x))
    layer.enable_lora(2)
    np.testing.assert_allclose(numpy(layer(x)), before, atol=1e-6)  # the second factor starts at zero
    model = keras.Sequential([keras.Input((8,)), layers.Dense(6)])
    exact = numpy(model(x))
    model.quantize("int8")
    assert keras.backend.standardize_dtype(model.layers[0]._kernel.dtype) == "int8"
    np.testing.assert_allclose(numpy(model(x)), exact, atol=0.1)
    again = layers.Dense.from_config(layer.get_config())
    assert again.units == 6
