"""The noise scale: estimators without bias, intervals that cover, and real gradients of Keras models."""

import math

import keras
import numpy as np
import pytest
from keras import ops

from qingformer.analysis import GradientMoments, measure_curvature, measure_gradients
from qingformer.analysis.curvature import hessian_product
from qingformer.analysis.gradients import Gradients, pieces
from qingformer.analysis.intervals import jackknife_covariance, ratio_interval, student_quantile
from qingformer.analysis.noise_scale import layer_of, per_example_estimate, two_batch_estimate
from qingformer.errors import ConfigError
from qingformer.objectives import FGM, Batch, ModelObjective, TrainableModel
from tests.objectives.conftest import build, cross_entropy

MEAN = np.array([1.0, -0.5, 0.2])
FACTOR = np.array([[1.0, 0.0, 0.0], [0.5, 1.5, 0.0], [-1.0, 0.2, 0.7]])
TRACE, SQUARE = float((FACTOR**2).sum()), float((MEAN**2).sum())


def draw(generator, *shape):
    """Gradients with that mean and the covariance FACTOR FACTOR^T."""
    return MEAN + generator.normal(size=(*shape, 3)) @ FACTOR.T


def moments_of(gradients, groups=10):
    """`GradientMoments` of batch gradients `(K, b, P)`, written down as the definition says."""
    _, size, width = gradients.shape
    means = gradients.mean(axis=1)
    sums, squares = np.zeros((groups, width)), np.zeros(groups)
    examples, batches = np.zeros(groups), np.zeros(groups)
    for index, mean in enumerate(means):
        sums[index % groups] += size * mean
        squares[index % groups] += size * mean @ mean
        examples[index % groups] += size
        batches[index % groups] += 1
    return GradientMoments(("w",), (sums @ sums.T)[None], squares[None], examples, batches, 0.0)


# --- estimators -------------------------------------------------------------------------------------------------------


def test_both_estimators_are_without_bias():
    generator = np.random.default_rng(0)
    found = []
    for _ in range(4000):
        gradients = draw(generator, 12)
        small, big = (gradients[:3].mean(axis=0) ** 2).sum(), (gradients.mean(axis=0) ** 2).sum()
        moments = moments_of(gradients.reshape(6, 2, 3), groups=6)
        found.append([
            *two_batch_estimate(small, big, 3, 12),
            *per_example_estimate(gradients),
            *moments._estimate(moments.products[0], moments.squares[0], np.ones(6, bool))[::-1],
        ])  # fmt: skip
    error = np.std(found, axis=0) / math.sqrt(len(found))
    np.testing.assert_array_less(np.abs(np.mean(found, axis=0) - [SQUARE, TRACE] * 3), 3.5 * error)
    assert (error < [0.05, 0.4] + [0.03, 0.07] * 2).all()  # so that a missing factor would be seen


def test_moments_give_the_estimate_of_two_batch_sizes_and_of_single_examples():
    gradients = draw(np.random.default_rng(1), 20, 4)
    means = gradients.mean(axis=1)
    scale = moments_of(gradients).noise_scale()
    expected = two_batch_estimate((means**2).sum(axis=1).mean(), (means.mean(axis=0) ** 2).sum(), 4, 80)
    assert (scale.gradient_square, scale.covariance_trace) == pytest.approx(expected)
    alone = moments_of(gradients.reshape(80, 1, 3)).noise_scale()
    assert (alone.gradient_square, alone.covariance_trace) == pytest.approx(
        per_example_estimate(gradients.reshape(80, 3))
    )
    assert alone.covariance_trace == pytest.approx(np.trace(np.cov(gradients.reshape(80, 3).T)))
    assert (scale.examples, scale.batches) == (80, 20)


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    generator = np.random.default_rng(2)
    inside, finite = 0, 0
    for _ in range(400):
        low, high = moments_of(draw(generator, 60, 2)).noise_scale(confidence=0.9).interval
        inside += low <= TRACE / SQUARE <= high
        finite += math.isfinite(high)
    assert 0.85 < inside / 400 < 0.95
    assert finite > 200


def test_the_interval_of_three_groups_has_two_degrees_of_freedom():
    gradients = draw(np.random.default_rng(4), 30, 2) + 4 * MEAN
    scale = moments_of(gradients, groups=3).noise_scale()
    rest = [moments_of(gradients[np.arange(30) % 3 != out]).noise_scale() for out in range(3)]
    covariance = jackknife_covariance(np.array([[each.covariance_trace, each.gradient_square] for each in rest]))
    wanted = ratio_interval(scale.covariance_trace, scale.gradient_square, covariance, 2, 0.95)
    assert scale.interval == pytest.approx(wanted)
    assert math.isfinite(wanted[1])


def test_noise_without_a_mean_has_no_upper_end():
    generator = np.random.default_rng(3)
    scales = [moments_of(draw(generator, 30, 2) - MEAN).noise_scale() for _ in range(40)]
    assert sum(math.isinf(scale.interval[1]) for scale in scales) > 34
    assert all(scale.interval[0] > 0 for scale in scales)
    assert any(math.isinf(scale.value) for scale in scales)


def test_ratio_interval_is_the_set_of_its_definition():
    generator = np.random.default_rng(4)
    quantile = student_quantile(0.975, 9)
    ratios = np.linspace(0, 60, 60001)
    for _ in range(30):
        root = generator.normal(size=(2, 2))
        covariance, top, bottom = root @ root.T * 0.1, generator.uniform(1, 4), abs(generator.normal(0.5, 0.7))
        spread = covariance[0, 0] - 2 * ratios * covariance[0, 1] + ratios**2 * covariance[1, 1]
        inside = (top - ratios * bottom) ** 2 <= quantile**2 * spread
        low, high = ratio_interval(top, bottom, covariance, 9)
        if high < 60:
            np.testing.assert_array_equal(inside, (ratios >= low) & (ratios <= high))
        elif inside.any() and math.isinf(high):
            assert inside[-1]
            assert ratios[inside].min() == pytest.approx(low, abs=2e-3)
    assert ratio_interval(2.0, 1.0, np.diag([0.01, 0.01]), 20) == pytest.approx((1.6, 2.6), abs=0.05)


def test_student_quantiles_and_jackknife():
    stats = pytest.importorskip("scipy.stats")
    for degrees in (1, 2, 3, 5, 9, 40):
        assert student_quantile(0.975, degrees) == pytest.approx(stats.t.ppf(0.975, degrees), rel=2e-3)
    values = np.random.default_rng(5).normal(size=8)
    left_out = np.array([[np.delete(values, j).mean()] for j in range(8)])
    assert jackknife_covariance(left_out)[0, 0] == pytest.approx(values.var(ddof=1) / 8)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda: two_batch_estimate(1.0, 1.0, 4, 4), "batch sizes 4 and 4"),
        (lambda: per_example_estimate(np.ones((1, 3))), "at least two"),
        (lambda: ratio_interval(1.0, 1.0, np.eye(2), 5, confidence=1.5), "confidence"),
        (lambda: student_quantile(0.9, 0), "two groups"),
        (lambda: moments_of(np.ones((12, 1, 3))).noise_scale(lambda path: False), "there are: w"),
    ],
)
def test_what_cannot_be_estimated(wrong, words):
    with pytest.raises(ConfigError, match=words):
        wrong()


def test_layers_are_told_apart_by_the_first_part_that_differs():
    paths = ["bert/block_0/attention/kernel", "bert/block_1/attention/kernel", "bert/pooler/bias"]
    assert list(map(layer_of(paths), paths)) == ["block_0", "block_1", "pooler"]
    assert list(map(layer_of(["dense/kernel", "dense/bias"]), ["dense/kernel", "dense/bias"])) == ["dense", "dense"]
    assert layer_of(["w"])("w") == "w"


# --- real gradients ---------------------------------------------------------------------------------------------------

CURVED = np.array([[2.0, 0.3, 0.0], [0.3, 1.0, -0.2], [0.0, -0.2, 0.5]], "float32")


class Point(keras.layers.Layer):
    """theta - x, for a loss whose gradients are known: A (theta - x_i) with Hessian A."""

    def build(self, shape):
        self.theta = self.add_weight(shape=(3,), initializer=keras.initializers.Constant([0.5, -1.0, 0.3]))

    def call(self, x):
        return self.theta - x


def quadratic_model():
    inputs = keras.Input((3,))
    model = keras.Model(inputs, Point(name="point")(inputs))
    model.compile("sgd", lambda true, found: 0.5 * ops.sum(ops.matmul(found, CURVED) * found, axis=-1))
    return model


def quadratic_data(count, seed=0):
    x = np.random.default_rng(seed).normal(size=(count, 3)).astype("float32")
    return x, np.zeros((count, 1), "float32")


def test_gradients_of_single_examples_are_those_of_the_model():
    x, y = quadratic_data(24)
    gradients = (np.array([0.5, -1.0, 0.3]) - x) @ CURVED
    expected = per_example_estimate(gradients)
    for rows in (1, 4):
        moments = measure_gradients(quadratic_model(), (x, y), rows=rows)
        scale = moments.noise_scale()
        means = gradients.reshape(-1, rows, 3)
        if rows > 1:
            expected = moments_of(means, 6).noise_scale()
            expected = expected.gradient_square, expected.covariance_trace
        assert (scale.gradient_square, scale.covariance_trace) == pytest.approx(expected, rel=1e-4)
        assert moments.loss == pytest.approx(
            0.5 * ((np.array([0.5, -1.0, 0.3]) - x) * gradients).sum(1).mean(), rel=1e-5
        )


def test_padding_does_not_count_and_weights_do():
    x, y = quadratic_data(16)
    plain = measure_gradients(quadratic_model(), (x, y), rows=2).noise_scale()
    filled, target = np.zeros((24, 3), "float32"), np.zeros((24, 1), "float32")
    held = np.array([1, 1, 0] * 8, bool)
    filled[held], filled[~held] = x, 7.0
    heard = []
    moments = measure_gradients(quadratic_model(), (filled, target, held.astype("float32")), rows=3, done=heard.append)
    padded = moments.noise_scale()
    assert padded.gradient_square == pytest.approx(plain.gradient_square, rel=1e-5)
    assert padded.covariance_trace == pytest.approx(plain.covariance_trace, rel=1e-5)
    assert heard == [2] * 8
    # A row of weight 3 has three times the gradient; that is how a class weight acts in training.
    weight = np.where(np.arange(16) % 2, 3.0, 1.0).astype("float32")
    gradients = weight[:, None] * ((np.array([0.5, -1.0, 0.3]) - x) @ CURVED)
    weighted = measure_gradients(quadratic_model(), (x, y, weight), rows=1).noise_scale()
    expected = per_example_estimate(gradients)
    assert (weighted.gradient_square, weighted.covariance_trace) == pytest.approx(expected, rel=1e-4)


def test_pieces_leave_out_what_is_empty():
    x, y = np.arange(6)[:, None], np.arange(6)
    cut = list(pieces([(x, y, np.array([1, 1, 0, 0, 2, 0], "float32"))], rows=2))
    assert [count for _, count in cut] == [2, 1]
    np.testing.assert_allclose(cut[1][0].sample_weight, [4, 0])
    assert [len(batch.x) for batch, _ in pieces([(x, y)], rows=4)] == [4, 2]
    assert [batch.y is None for batch, _ in pieces([x])] == [True]


def test_measuring_changes_nothing_and_dropout_is_optional(rows):
    x, y = rows
    model = build(dropout=0.5)
    model.compile("adam", cross_entropy(), metrics=["accuracy"])
    before = [ops.convert_to_numpy(v) for v in model.variables]
    still = measure_gradients(model, (x, y), rows=2).noise_scale()
    noisy = [measure_gradients(model, (x, y), rows=2, training=True).noise_scale() for _ in range(2)]
    assert noisy[0] == noisy[1]
    assert noisy[0].covariance_trace > 1.1 * still.covariance_trace
    for old, variable in zip(before, model.variables):
        np.testing.assert_array_equal(old, ops.convert_to_numpy(variable))
    layers = measure_gradients(model, [(x[:12], y[:12]), (x[12:], y[12:])], rows=2, examples=20).by_layer()
    assert set(layers) == {"token_embedding", "logits"}
    assert {scale.examples for scale in layers.values()} == {20}


def test_several_inputs_and_outputs_and_a_transformed_objective(rows):
    x, y = rows
    one, two = keras.Input((5,), dtype="int32", name="one"), keras.Input((1,), name="two")
    vectors = keras.layers.Embedding(7, 3, name="token_embedding")(one)
    pooled = keras.layers.GlobalAveragePooling1D()(vectors)
    outputs = {"label": keras.layers.Dense(4, name="label")(pooled), "value": keras.layers.Dense(1, name="value")(two)}
    model = TrainableModel({"one": one, "two": two}, outputs)
    model.compile("sgd", {"label": cross_entropy(), "value": "mse"}, transforms=[FGM(0.5)])
    data = ({"one": x, "two": y[:, None].astype("float32")}, {"label": y, "value": y.astype("float32")[:, None]})
    scales = measure_gradients(model, data, rows=4).by_layer()
    assert list(scales) == ["token_embedding", "label", "value"]
    perturbed = measure_gradients(model, data, rows=4, objective=model.objective()).by_layer()
    assert perturbed["value"].covariance_trace == pytest.approx(scales["value"].covariance_trace, rel=1e-4)
    assert perturbed["label"].covariance_trace != pytest.approx(scales["label"].covariance_trace, rel=1e-2)


def test_models_and_data_that_do_not_do(rows):
    model = build()
    with pytest.raises(ConfigError, match="not compiled"):
        measure_gradients(model, rows, rows=2)
    model.compile("sgd", cross_entropy())
    with pytest.raises(ConfigError, match="too few"):
        measure_gradients(model, rows)
    with pytest.raises(ConfigError, match="groups"):
        measure_gradients(model, rows, rows=2, groups=2)
    with pytest.raises(ConfigError, match="at least 4"):
        measure_curvature(model, rows, rows=8)
    model.trainable = False
    model.compile("sgd", cross_entropy())
    with pytest.raises(ConfigError, match="trainable"):
        measure_gradients(model, rows, rows=2)


def test_hessian_product_equals_differences_of_gradients(rows):
    x, y = rows
    model = build()
    model.compile("sgd", cross_entropy())
    taken = Gradients(model, ModelObjective(model, training=False))
    batch = Batch(x, y)
    generator = np.random.default_rng(0)
    direction = [generator.normal(size=v.shape).astype("float32") for v in model.trainable_variables]
    found = hessian_product(taken)(batch, direction)
    sides = []
    for sign in (1, -1):
        old = model.get_weights()
        for variable, step in zip(model.trainable_variables, direction):
            variable.assign_add(sign * 0.01 * step)
        sides.append(next(taken.over([(batch, len(x))]))[1])
        model.set_weights(old)
    for product, right, left in zip(found, *sides):
        np.testing.assert_allclose(product, (right - left) / 0.02, atol=2e-4)


def test_curved_noise_is_made_of_independent_batches():
    """Five batches of two rows of a linear regression, whose Hessians differ, by loops."""
    x, y = np.random.default_rng(5).normal(size=(2, 10, 3)).astype("float32")
    inputs = keras.Input((3,))
    model = TrainableModel(inputs, keras.layers.Dense(1, use_bias=False)(inputs))
    model.compile("sgd", "mse")
    weights = model.get_weights()[0].astype("float64")[:, 0]
    parts = x.astype("float64").reshape(5, 2, 3)
    slopes = [part.T @ (part @ weights - target) for part, target in zip(parts, y[:, 0].reshape(5, 2))]
    squares, along, alone = [], [], []
    for k in range(5):
        after = (k + 1) % 5
        product = parts[after].T @ parts[after] @ slopes[k]
        squares.append(np.mean([slopes[j] @ slopes[k] for j in range(5) if j != k]))
        along.append(np.mean([slopes[j] @ product for j in range(5) if j not in (k, after)]))
        alone.append(slopes[k] @ product)
    scale = measure_curvature(model, (x, y[:, :1]), rows=2)
    assert scale.gradient_square == pytest.approx(np.mean(squares), rel=1e-4)
    assert scale.curvature == pytest.approx(np.mean(along), rel=1e-4)
    assert scale.noise_curvature == pytest.approx(2 * (np.mean(alone) - np.mean(along)), rel=1e-4)


def test_curved_noise_of_a_known_quadratic():
    data = quadratic_data(1200, seed=3)
    scale = measure_curvature(quadratic_model(), data, rows=12)
    gradient = CURVED @ (np.array([0.5, -1.0, 0.3]))
    covariance = CURVED @ CURVED  # of A (theta - x) with x of unit variance
    curvature, noise = gradient @ CURVED @ gradient, np.trace(CURVED @ covariance)
    assert scale.curvature == pytest.approx(curvature, rel=0.1)
    assert scale.noise_curvature == pytest.approx(noise, rel=0.25)
    assert scale.best_rate == pytest.approx(gradient @ gradient / curvature, rel=0.1)
    assert scale.interval[0] < noise / curvature < scale.interval[1]
    assert scale.value == pytest.approx(noise / curvature, rel=0.3)
