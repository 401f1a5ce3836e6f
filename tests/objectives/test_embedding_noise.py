"""Noise on embedded tokens: where it is, how large, and that nothing else changes."""

import keras
import numpy as np
import pytest
from keras import ops

from qingformer.errors import ConfigError
from qingformer.models import CausalLM
from qingformer.objectives import FGM, Batch, EmbeddingNoise, ModelObjective, RDrop, State, TrainableModel
from qingformer.objectives.layer_outputs import changed_outputs
from tests.conftest import SLOW_ON_JAX, slow_on_jax
from tests.objectives.conftest import VOCABULARY, build, cross_entropy
from tests.objectives.test_fgm import evaluate, values


def bare(dtype=None):
    """A model that shows its embedded tokens (as mean, its sum of squares is asked for by the test)."""
    keras.utils.set_random_seed(0)
    names = ("token_ids", "segment_ids")
    inputs = {name: keras.Input((None,), dtype="int32", name=name) for name in names}
    embedding = keras.layers.ReversibleEmbedding(30, 16, name="token_embedding", dtype=dtype)
    x = embedding(inputs["token_ids"])
    logits = embedding(x, reverse=True)
    return TrainableModel(inputs, {"embedded": x, "logits": logits, "segments": embedding(inputs["segment_ids"])})


def predicted(model, x, transform=None, step=0):
    """What the model says within the context that the objective makes."""
    inputs = {k: ops.convert_to_tensor(v) for k, v in x.items()}
    state = State([], [], 1.0, step)
    if transform is not None:
        with transform(ModelObjective(model))._noise(state, Batch(inputs, 0)) as batch:
            found = model(batch.x, training=True)
    else:
        found = model(inputs, training=True)
    return {k: ops.convert_to_numpy(ops.cast(v, "float32")) for k, v in found.items()}


@pytest.mark.parametrize(("positions", "relative"), [("target", True), pytest.param("all", False, marks=SLOW_ON_JAX)])
def test_noise_is_where_it_should_be_and_as_large_as_said(positions, relative):
    generator = np.random.default_rng(0)
    ids = generator.integers(0, 30, (40, 25)).astype("int32")
    x = {"token_ids": ids, "segment_ids": (generator.random(ids.shape) < 0.5).astype("int32")}
    model = bare()
    plain = predicted(model, x)
    noisy = predicted(model, x, EmbeddingNoise(0.3, positions, relative))
    noise = noisy["embedded"] - plain["embedded"]
    where = (x["segment_ids"] == 1) if positions == "target" else np.ones_like(ids, bool)
    assert (noise[~where] == 0).all()
    size = 0.3 * (np.sqrt((plain["embedded"] ** 2).mean()) if relative else 1.0)
    assert noise[where].std() == pytest.approx(size, rel=0.03)
    assert abs(noise[where].mean()) < 0.1 * size
    # The other calls of the table, on the segments and in reverse, are what they are.
    np.testing.assert_array_equal(noisy["segments"], plain["segments"])
    table = values(model.trainable_variables)[0]
    np.testing.assert_allclose(noisy["logits"], noisy["embedded"] @ table.T, rtol=1e-4, atol=1e-5)
    assert "call" not in model.get_layer("token_embedding").__dict__


def test_the_step_and_the_seed_decide():
    ids = np.arange(12, dtype="int32").reshape(2, 6)
    x = {"token_ids": ids, "segment_ids": np.ones_like(ids)}
    model = bare()
    first, again, step = (predicted(model, x, EmbeddingNoise(0.3), step)["embedded"] for step in (0, 0, 1))
    seed = predicted(model, x, EmbeddingNoise(0.3, seed=1))["embedded"]
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - step).max() > 1e-3
    assert np.abs(first - seed).max() > 1e-3
    zero = predicted(model, x, EmbeddingNoise(0.0))["embedded"]
    np.testing.assert_array_equal(zero, predicted(model, x)["embedded"])
    np.testing.assert_allclose(predicted(bare("mixed_bfloat16"), x, EmbeddingNoise(0.3))["embedded"], first, atol=0.01)


def test_two_of_them_add_up_and_restore_the_layer():
    layer = keras.layers.Embedding(5, 2)
    ids = ops.convert_to_tensor(np.array([[1, 2]], "int32"))
    plain = ops.convert_to_numpy(layer(ids))
    with changed_outputs(layer, lambda x: x + 1, ids), changed_outputs(layer, lambda x: 2 * x, ids):
        np.testing.assert_allclose(ops.convert_to_numpy(layer(ids)), 2 * (plain + 1), rtol=1e-6)
        other = ops.convert_to_tensor(np.array([[1, 2]], "int32"))
        np.testing.assert_allclose(ops.convert_to_numpy(layer(other)), plain)
    np.testing.assert_array_equal(ops.convert_to_numpy(layer(ids)), plain)
    assert "call" not in layer.__dict__


def test_the_gradient_is_that_of_the_moved_point_and_goes_with_fgm(rows):
    """One layer above the embeddings is linear in them, so that noise and FGM's step simply add up."""
    x, y = rows
    model = build()
    model.compile("sgd", cross_entropy())
    noise = EmbeddingNoise(0.5, "all", token_input="token_ids")
    loss, gradients, _ = evaluate(model, [noise], x, y)
    for through in ("value", "gradient"):
        again = evaluate(model, [noise], x, y, through=through)
        assert again[0] == pytest.approx(loss, rel=1e-6)
        for a, b in zip(gradients, again[1]):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)
    size = 0.5 * float(np.sqrt((values(model.trainable_variables)[0][x] ** 2).mean()))
    _, constant, _ = evaluate(model, [EmbeddingNoise(size, "all", relative=False, token_input="token_ids")], x, y)
    for a, b in zip(gradients, constant):  # what the noise is measured in does not pass on a gradient
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    plain, _, _ = evaluate(model, [], x, y)
    assert abs(plain - loss) > 1e-5
    inner, _, _ = evaluate(model, [noise, FGM(0.1)], x, y)
    outer, _, _ = evaluate(model, [FGM(0.1), noise], x, y)
    assert inner > loss
    assert inner == pytest.approx(outer, rel=1e-6)  # the noise is the same in every pass of a step


def language_model(dropout=0.0):
    sizes = {"vocab_size": 30, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    sizes |= {"intermediate_size": 8, "max_position_embeddings": 16, "hidden_dropout_prob": dropout}
    lm = CausalLM({**sizes, "attention_probs_dropout_prob": dropout, "application": "unilm", "pooler": False})
    return TrainableModel.from_model(lm)


@slow_on_jax
def test_a_language_model_trains_with_it_compiled(tmp_path):
    ids = np.random.default_rng(0).integers(1, 30, (16, 8)).astype("int64")  # not the dtype of the input
    segments = np.repeat([[0, 0, 0, 1, 1, 1, 1, 1]], 16, axis=0)
    x = {"token_ids": ids, "segment_ids": segments, "padding_mask": np.ones_like(ids)}
    y, weights = np.roll(ids, -1, axis=1), np.roll(segments, -1, axis=1).astype("float32")
    model = language_model(dropout=0.1)
    model.compile(keras.optimizers.Adam(0.02), cross_entropy(), transforms=[EmbeddingNoise(0.1), RDrop(1.0)])
    losses = model.fit(x, y, 8, 8, sample_weight=weights, verbose=0).history["loss"]
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0]
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert again._transforms[0].get_config() == EmbeddingNoise(0.1).get_config()


def test_errors():
    with pytest.raises(ConfigError, match="stddev is -1"):
        EmbeddingNoise(-1)
    with pytest.raises(ConfigError, match=r"positions is 'source'.*target, all"):
        EmbeddingNoise(positions="source")
    model = build()
    with pytest.raises(ConfigError, match=r"no layer 'words'.*token_embedding"):
        model.compile("sgd", cross_entropy(), transforms=[EmbeddingNoise(layer="words", segment_input="")])
    with pytest.raises(ConfigError, match="no input 'segment_ids'"):
        model.compile("sgd", cross_entropy(), transforms=[EmbeddingNoise()])
    ids = keras.Input((5,), dtype="int32", name="token_ids")
    shifted = keras.layers.Rescaling(1, dtype="int32")(ids)
    shifted = keras.layers.Embedding(VOCABULARY + 1, 2, name="token_embedding")(shifted)
    model = TrainableModel(ids, keras.layers.Dense(2)(keras.layers.Flatten()(shifted)))
    model.compile("sgd", cross_entropy())
    with pytest.raises(ConfigError, match="'token_embedding' is not applied to the input 'token_ids' itself"):
        evaluate(model, [EmbeddingNoise(positions="all")], np.ones((24, 5), "int32"), np.zeros(24, "int32"))
