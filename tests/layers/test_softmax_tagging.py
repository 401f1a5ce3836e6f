"""Softmax tagging behind the face of the linear chains: value, gradient, decoding, files, errors."""

import itertools

import keras
import numpy as np
import pytest
from keras import ops

from qingformer.errors import ConfigError
from qingformer.layers import IndependentTags, MaximumEntropyMarkovModel
from qingformer.objectives import TrainableModel
from tests.layers.bricks import numpy
from tests.losses.support import slope, value_and_gradient

TAGS = 4
RANDOM = np.random.default_rng(0)
EMISSIONS = (2 * RANDOM.normal(size=(3, 5, TAGS))).astype("float32")
LABELS = RANDOM.integers(0, TAGS, (3, 5))
LABELS[1, 3:] = LABELS[2, 1:] = -1
MASK = LABELS >= 0


@pytest.fixture
def layer():
    made = IndependentTags(name="tags")
    made.build((None, None, TAGS))
    return made


def reference(labels, weights):
    """Mean cross-entropy by loops: a function of the emissions in float64."""

    def function(emissions):
        total = count = 0.0
        for row, index in zip(*np.nonzero(labels >= 0)):
            scores = emissions[row, index]
            total += weights[row] * (np.log(np.exp(scores).sum()) - scores[labels[row, index]])
            count += weights[row]
        return total / count

    return function


@pytest.mark.parametrize("weights", [None, np.array([2.0, 0.0, 0.5])])
def test_loss_and_gradient_by_loops(layer, weights):
    wanted = reference(LABELS, np.ones(3) if weights is None else weights)
    value, gradient = value_and_gradient(layer.loss, LABELS, EMISSIONS, weights)
    assert value == pytest.approx(wanted(EMISSIONS.astype("float64")), rel=1e-5)
    np.testing.assert_allclose(gradient, slope(wanted, EMISSIONS), atol=1e-5)
    assert not gradient[~MASK].any()


def test_loss_is_that_of_a_markov_model_without_transitions(layer):
    other = MaximumEntropyMarkovModel(initializer="zeros")
    other.build((None, None, TAGS))
    assert float(layer.loss(LABELS, EMISSIONS)) == pytest.approx(float(other.loss(LABELS, EMISSIONS)), rel=1e-6)
    by_token = RANDOM.random((3, 5)).astype("float32")
    values = [float(chain.loss(LABELS, EMISSIONS, by_token)) for chain in (layer, other)]
    assert values[0] == pytest.approx(values[1], rel=1e-6)


def test_large_scores_keep_the_precision_and_no_label_costs_nothing(layer):
    emissions = np.array([[[1e4, 1e4 - 8, -1e4, -np.inf], [-np.inf] * 4]], "float32")
    value, gradient = value_and_gradient(layer.loss, np.array([[0, -1]]), emissions)
    assert value == pytest.approx(np.log1p(np.exp(-8)), rel=1e-4)
    assert np.isfinite(gradient).all()
    value, gradient = value_and_gradient(layer.loss, np.full((1, 2), -1), emissions)
    assert value == 0
    assert not gradient.any()


def test_decoding_takes_the_best_tag_of_each_token(layer):
    tags, scores = layer.decode(EMISSIONS, MASK)
    assert tags.dtype == np.int32
    np.testing.assert_array_equal(tags, np.where(MASK, EMISSIONS.argmax(-1), -1))
    np.testing.assert_allclose(scores, (EMISSIONS.max(-1) * MASK).sum(1), rtol=1e-6)
    np.testing.assert_array_equal(layer.decode(EMISSIONS)[0], EMISSIONS.argmax(-1))
    np.testing.assert_array_equal(layer.decode(np.zeros((1, 2, TAGS)))[0], [[0, 0]])


def test_decoding_within_rules_is_the_best_of_all_paths_that_keep_them(layer):
    random = np.random.default_rng(5)
    allowed = random.random((TAGS, TAGS)) < 0.4, np.array([True, True, False, True]), np.arange(TAGS) > 1
    tags, scores = layer.decode(EMISSIONS[:1, :4], allowed=allowed)
    best = {}
    for path in itertools.product(range(TAGS), repeat=4):
        if allowed[1][path[0]] and allowed[2][path[-1]] and all(allowed[0][step] for step in itertools.pairwise(path)):
            best[path] = EMISSIONS[0, range(4), path].sum()
    path = max(best, key=best.get)
    assert path != tuple(EMISSIONS[0, :4].argmax(-1))
    np.testing.assert_array_equal(tags, [path])
    assert scores[0] == pytest.approx(best[path], rel=1e-6)
    every = np.ones((TAGS, TAGS), bool), np.ones(TAGS, bool), np.ones(TAGS, bool)
    for found, wanted in zip(layer.decode(EMISSIONS, MASK, every), layer.decode(EMISSIONS, MASK)):
        np.testing.assert_allclose(found, wanted, rtol=1e-6)


def test_probabilities_are_softmax(layer):
    wanted = numpy(ops.softmax(EMISSIONS)) * MASK[..., None]
    np.testing.assert_allclose(layer.marginals(EMISSIONS, MASK), wanted, rtol=1e-5)


def test_training_and_files(tmp_path):
    """The tag of a token is the token."""
    x = RANDOM.integers(0, TAGS, (16, 5))
    labels = np.where(np.arange(5) < RANDOM.integers(1, 6, 16)[:, None], x, -1)
    inputs = keras.Input((None,), dtype="int32")
    hidden = keras.layers.Embedding(TAGS, 8, dtype="mixed_bfloat16")(inputs)
    output = IndependentTags(name="tags", dtype="mixed_bfloat16")(
        keras.layers.Dense(TAGS, dtype="mixed_bfloat16")(hidden)
    )
    assert output.dtype == "float32"
    model = TrainableModel(inputs, output)
    layer = model.get_layer("tags")
    assert layer.weights == []
    model.compile(keras.optimizers.Adam(0.1), loss=layer.loss)
    losses = model.fit(x, labels, epochs=8, batch_size=16, verbose=0).history["loss"]
    assert losses[-1] < losses[0] / 4
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras", compile=False)
    tags, _ = again.get_layer("tags").decode(again.predict(x, verbose=0), labels >= 0)
    np.testing.assert_array_equal(tags, labels)
    compiled = keras.saving.load_model(tmp_path / "model.keras")  # its loss is that of its own layer
    np.testing.assert_allclose(compiled.evaluate(x, labels, verbose=0), model.evaluate(x, labels, verbose=0), rtol=1e-6)


def test_what_does_not_fit_is_said(layer):
    with pytest.raises(ConfigError, match="new has no transitions yet"):
        IndependentTags(name="new").decode(EMISSIONS)
    with pytest.raises(ConfigError, match=r"tags scores 4 tags, but the emissions have shape \(1, 3, 5\)"):
        layer.decode(np.zeros((1, 3, 5)))
    with pytest.raises(ConfigError, match="the mask of text 0 has holes"):
        layer.marginals(EMISSIONS[:1], [[1, 0, 1, 1, 0]])
    with pytest.raises(ConfigError, match="allowed has 1 arrays"):
        layer.decode(EMISSIONS, allowed=(np.ones((TAGS, TAGS), bool),))
    with pytest.raises(ConfigError, match=r"labels of shape \(3,\) and emissions of shape \(3, 5, 4\)"):
        layer.loss(np.zeros(3), EMISSIONS)
    with pytest.raises(TypeError):
        IndependentTags(lr_multiplier=10.0)
