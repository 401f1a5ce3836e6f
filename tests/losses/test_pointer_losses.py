"""The losses of pointers against slow references in float64, differences, and the losses of Keras."""

import math
from fractions import Fraction

import keras
import numpy as np
import pytest

from qingformer.errors import ConfigError
from qingformer.losses import PowerBinaryCrossentropy, SpanCrossentropy
from tests.losses.support import again, arrays, check, numpy, value_and_gradient, values

RANDOM = np.random.default_rng(0)
SCORES = RANDOM.normal(size=(4, 5, 2)) * 3
BITS = (RANDOM.random((4, 5, 2)) < 0.3).astype("float64")
WEIGHTS = np.array([1.0, 0.0, 2.5, 0.5])
PLACES = np.array([[1, 3], [0, 0], [4, 4], [2, 3]])


def power_reference(bits, power, weights):
    """Sum of each text over tokens and sides, weighted mean over texts, of probabilities as they are."""

    def function(scores):
        p = (1 / (1 + np.exp(-scores))) ** power
        costs = -bits * np.log(p) - (1 - bits) * np.log1p(-p)
        costs = np.where(np.isfinite(scores) & (scores > -1e11), costs, 0)
        return (weights * costs.sum((1, 2))).sum() / len(scores)

    return function


@pytest.mark.parametrize("power", [1, 2, 3.5, 50])
@pytest.mark.parametrize("weights", [np.ones(4), WEIGHTS])
def test_power_by_the_formula(power, weights):
    loss = PowerBinaryCrossentropy(power, class_axes=2)
    check(loss, BITS, SCORES, power_reference(BITS, power, weights), weights)


def test_power_one_is_binary_cross_entropy_of_keras():
    plain = keras.losses.BinaryCrossentropy(from_logits=True)
    wanted = 2 * float(plain(*arrays((BITS, SCORES))))
    assert values(PowerBinaryCrossentropy(1), BITS, SCORES) == pytest.approx(wanted, rel=1e-6)


def exact(score, power):
    """log p, log(1 - p) and their slopes in `score`, without loss of digits: (1 - s^n) = (1 - s)(1 + s + ... )."""
    if score > 300:  # 1 - sigmoid(s) = e^-s
        return 0.0, math.log(power) - score, 0.0, -1.0
    if score < -300:
        return power * score, 0.0, power, 0.0
    odds = Fraction(math.exp(score))
    sigmoid = odds / (1 + odds)
    rest = (1 - sigmoid) * sum(sigmoid**k for k in range(power))
    slope = power * sigmoid**power * (1 - sigmoid)
    on = -power * math.log1p(float(1 / odds)) if score > -30 else power * (score - math.exp(score))
    below = math.log1p(-float(sigmoid**power)) if score < 0 else math.log(rest)
    return on, below, float(power * (1 - sigmoid)), -float(slope / rest)


@pytest.mark.parametrize(
    ("power", "dtype"), [(1, "float32"), (2, "float32"), (2, "bfloat16"), (4, "float32"), (30, "float32")]
)
def test_power_is_exact_at_any_score(power, dtype):
    scores = [-1e4, -200, -100, -60, -20, -4, -0.5, 0, 0.25, 2, 9, 17, 30, 44, 46, 48, 70, 88, 95, 104, 200, 1e4]
    scores = numpy(keras.ops.cast(keras.ops.cast(scores, dtype), "float32"))
    wanted = np.array([exact(float(score), power) for score in scores])
    loss = PowerBinaryCrossentropy(power, reduction="none")
    rough = 1e-2 if dtype == "bfloat16" else 1e-4
    for label in (1, 0):
        bits = np.full((len(scores), 1), float(label))
        found = values(loss, bits, scores[:, None])
        np.testing.assert_allclose(found, -wanted[:, 1 - label], rtol=3e-5, atol=1e-36)
        _, slopes = value_and_gradient(loss, bits, scores[:, None], dtype=dtype)
        np.testing.assert_allclose(slopes[:, 0], -wanted[:, 3 - label], rtol=rough, atol=1e-30)


def test_power_leaves_out_what_is_hidden():
    scores = SCORES.copy()
    scores[0, 3:], scores[1, 0, 0], scores[2] = -1e12, -np.inf, -1e30
    loss = PowerBinaryCrossentropy(2, class_axes=2)
    value, gradient = value_and_gradient(loss, BITS, scores)
    with np.errstate(all="ignore"):
        wanted = power_reference(BITS, 2, np.ones(4))(scores)
    assert value == pytest.approx(wanted, rel=1e-5)
    assert np.isfinite(gradient).all()
    assert not gradient[scores < -1e11].any()
    short = values(PowerBinaryCrossentropy(2, 2, "none"), BITS[:1, :3], scores[:1, :3])
    assert values(PowerBinaryCrossentropy(2, 2, "none"), BITS, scores)[0] == pytest.approx(short[0], rel=1e-6)
    assert np.isfinite(value_and_gradient(loss, BITS, np.full_like(scores, np.inf))[1]).all()


def log_softmax(scores):
    top = scores.max()
    return scores - top - np.log(np.exp(scores - top).sum())


def span_reference(indices, weights):
    def function(scores):
        rows = [
            -sum(log_softmax(scores[row, :, side])[indices[row, side]] for side in (0, 1)) / 2
            for row in range(len(scores))
        ]
        return (weights * rows).sum() / len(scores)

    return function


@pytest.mark.parametrize("weights", [np.ones(4), WEIGHTS])
def test_span_by_loops(weights):
    check(SpanCrossentropy(), PLACES, SCORES, span_reference(PLACES, weights), weights)


def test_span_is_the_mean_of_two_cross_entropies_of_keras():
    plain = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="none")
    sides = [values(plain, PLACES[:, side], SCORES[..., side]) for side in (0, 1)]
    np.testing.assert_allclose(values(SpanCrossentropy("none"), PLACES, SCORES), np.mean(sides, 0), rtol=1e-5)


@pytest.mark.parametrize("hidden", [-1e12, -np.inf])
def test_span_leaves_out_what_is_hidden(hidden):
    scores = np.concatenate([SCORES, np.full((4, 3, 2), hidden)], 1)
    np.testing.assert_allclose(
        values(SpanCrossentropy(), PLACES, scores), values(SpanCrossentropy(), PLACES, SCORES), rtol=1e-6
    )
    _, gradient = value_and_gradient(SpanCrossentropy(), PLACES, scores)
    assert not gradient[:, 5:].any()
    np.testing.assert_allclose(gradient[:, :5], value_and_gradient(SpanCrossentropy(), PLACES, SCORES)[1], atol=1e-7)


def test_span_with_places_that_are_not_there():
    scores = SCORES.copy()
    scores[3, 3:] = -1e12
    indices = np.array([[-1, 3], [-1, -1], [7, 4], [2, 3]])
    loss = SpanCrossentropy("none")
    found = values(loss, indices, scores)
    wanted = -log_softmax(scores[0, :, 1])[3] / 2
    np.testing.assert_allclose(found, [wanted, 0, 5e29, 5e29], rtol=1e-5)
    _, gradient = value_and_gradient(loss, indices, scores)
    assert np.isfinite(gradient).all()
    assert not gradient[1].any()
    assert not gradient[0, :, 0].any()
    assert not gradient[2, :, 0].any()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_span_at_extreme_scores(dtype):
    scores = np.zeros((3, 4, 2))
    scores[0, 1] = 1e4
    scores[1, 1] = -1e4
    scores[2] = np.array([10240, 10240 - 8, -1e4, -np.inf])[:, None]  # the first two are exact in float32
    indices = np.array([[1, 2], [1, 1], [0, 0]])
    found = values(SpanCrossentropy("none"), indices, scores)
    np.testing.assert_allclose(found, [5000, 1e4 + np.log(3), np.log1p(np.exp(-8))], rtol=1e-5, atol=1e-7)
    value, gradient = value_and_gradient(SpanCrossentropy(), indices, scores, dtype=dtype)
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()
    np.testing.assert_allclose(gradient.sum(1), 0, atol=2e-3)


@pytest.mark.parametrize("kind", ["power", "span"])
def test_files_keep_the_loss(kind, tmp_path):
    loss = PowerBinaryCrossentropy(3, 2, "sum") if kind == "power" else SpanCrossentropy("sum", "reading")
    assert again(loss).get_config() == loss.get_config()
    inputs = keras.Input((5, 3))
    model = keras.Model(inputs, keras.layers.Dense(2, dtype="mixed_bfloat16")(inputs))
    model.compile("sgd", loss)
    x, y = RANDOM.normal(size=(4, 5, 3)).astype("float32"), BITS if kind == "power" else PLACES
    value = model.test_on_batch(x, y)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.loss.get_config() == loss.get_config()
    assert loaded.test_on_batch(x, y) == pytest.approx(value, rel=1e-6)


def test_what_does_not_fit_is_said():
    with pytest.raises(ConfigError, match=r"power is 0\.5; expected a number of at least 1"):
        PowerBinaryCrossentropy(0.5)
    with pytest.raises(ConfigError, match="class_axes is 0"):
        PowerBinaryCrossentropy(class_axes=0)
    with pytest.raises(ConfigError, match=r"labels of shape \(4, 5\) and scores of shape \(4, 5, 2\)"):
        values(PowerBinaryCrossentropy(), BITS[..., 0], SCORES)
    with pytest.raises(ConfigError, match="expected one shape of rows and 3 more axes"):
        values(PowerBinaryCrossentropy(class_axes=3), BITS, SCORES)
    with pytest.raises(ConfigError, match=r"span_crossentropy: labels of shape \(4, 2\) and scores of shape \(4, 5\)"):
        values(SpanCrossentropy(), PLACES, SCORES[..., 0])
    with pytest.raises(ConfigError, match=r"labels of shape \(4, 1\) and scores of shape \(4, 5, 2\)"):
        values(SpanCrossentropy(), PLACES[:, :1], SCORES)
