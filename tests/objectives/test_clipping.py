"""Clipped and scaled gradients against NumPy, the optimizers' own clipping, and the reparameterisation."""

import keras
import numpy as np
import pytest

from qingformer.errors import ConfigError
from qingformer.objectives import FGM, ClipGradients, GradientAccumulation, Objective, ScaleGradients, TrainableModel
from qingformer.objectives.objective import Aux, Batch, State
from tests.conftest import slow_on_jax
from tests.objectives.conftest import build, cross_entropy
from tests.objectives.tools import evaluate, tensors, train, values


class Fixed(Objective):
    """An objective whose gradients are given."""

    def __init__(self, gradients, model=None):
        self.gradients, self.model = gradients, model

    def value_and_grad(self, trainable, state, batch):
        return (0.0, Aux(0.0, None, state)), list(tensors(self.gradients))


def clipped(gradients, scale=1.0, **settings):
    objective = ClipGradients(**settings)(Fixed(gradients))
    state = State([], [], keras.ops.convert_to_tensor(np.float32(scale)))
    return values(objective.value_and_grad([], state, Batch(None))[1])


GRADIENTS = [np.array([[3.0, -4.0]], "float32"), np.array([12.0], "float32"), np.zeros(3, "float32")]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"global_norm": 6.5}, [g / 2 for g in GRADIENTS]),
        ({"global_norm": 13.5}, GRADIENTS),
        ({"norm": 2.5}, [GRADIENTS[0] / 2, GRADIENTS[1] * (2.5 / 12), GRADIENTS[2]]),
        ({"value": 3.5}, [np.array([[3.0, -3.5]]), np.array([3.5]), GRADIENTS[2]]),
    ],
    ids=str,
)
def test_bounds_in_numbers(settings, expected):
    for got, want in zip(clipped(GRADIENTS, **settings), expected):
        np.testing.assert_allclose(got, want, rtol=1e-6)
    # The bound is in unscaled units.
    scaled = clipped([g * np.float32(1024) for g in GRADIENTS], scale=1024.0, **settings)
    for got, want in zip(scaled, expected):
        np.testing.assert_allclose(got / 1024, want, rtol=1e-6)


@pytest.mark.parametrize("kind", ["global_norm", "norm", "value"])
def test_zero_stays_zero_and_overflow_stays_visible(kind):
    zeros = clipped([np.zeros(2, "float32")], **{kind: 1.0})
    np.testing.assert_array_equal(zeros[0], np.zeros(2))
    (found,) = clipped([np.array([np.inf, 1.0], "float32")], **{kind: 1.0})
    assert not np.isfinite(found).all()


def test_low_precision_gradients_keep_their_type_and_have_precise_norms():
    half = keras.ops.cast(tensors(np.full(1000, 300.0, "float32")), "float16")
    (_, (found,)) = ClipGradients(1.0)(Fixed([half])).value_and_grad([], State([], [], 1.0), Batch(None))
    assert keras.backend.standardize_dtype(found.dtype) == "float16"
    norm = float(keras.ops.norm(keras.ops.cast(found, "float32")))
    assert norm == pytest.approx(1.0, rel=1e-2)  # 300^2 does not fit into float16


def test_it_is_the_clipping_of_the_optimizer(rows):
    _, theirs, _ = train([FGM(0.0)], *rows, keras.optimizers.SGD(1.0, global_clipnorm=0.05))
    _, ours, _ = train([ClipGradients(0.05)], *rows, keras.optimizers.SGD(1.0))
    for a, b in zip(ours, theirs):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


@slow_on_jax
def test_the_place_in_the_list_decides_what_is_bounded(rows):
    model = build()
    model.compile("sgd", cross_entropy())
    _, behind, _ = evaluate(model, [GradientAccumulation(3), ClipGradients(value=1e-3)], *rows)
    _, before, _ = evaluate(model, [ClipGradients(value=1e-3), GradientAccumulation(3)], *rows)
    assert max(np.abs(g).max() for g in behind) == pytest.approx(1e-3)
    assert max(np.abs(a - b).max() for a, b in zip(behind, before)) > 1e-5


@pytest.mark.parametrize(
    "arguments", [{}, {"norm": 1.0, "value": 1.0}, {"norm": 0.0}, {"value": -1}, {"norm": float("nan")}], ids=str
)
def test_bounds_that_cannot_be(arguments):
    with pytest.raises(ConfigError, match="ClipGradients"):
        ClipGradients(**arguments)


def test_factors_multiply_where_several_patterns_match():
    model = build()
    gradients = [np.ones(v.shape, "float32") for v in model.trainable_variables]
    scaled = ScaleGradients({"embedding": 3.0, "e": 0.5, "^logits/bias$": -1})(Fixed(gradients, model))
    _, found = scaled.value_and_grad([], State([], [], 1.0), Batch(None))
    assert [v.path for v in model.trainable_variables][1:] == ["logits/kernel", "logits/bias"]
    for got, factor in zip(values(found), (1.5, 0.5, -1.0)):
        np.testing.assert_allclose(got, np.full(got.shape, factor))


class Reparameterised(keras.layers.Layer):
    """theta = lambda * phi, trained as phi (the multiplier of a CRF's transitions, for one)."""

    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def build(self, shape):
        self.phi = self.add_weight(shape=(shape[-1], 1), initializer="zeros")

    def call(self, x):
        return x @ (self.factor * self.phi)


@pytest.mark.parametrize("name", ["SGD", "Adam"])
def test_reparameterisation_is_a_factor_squared_under_sgd_and_a_rate_under_adam(name):
    """The facts in ScaleGradients' docstring, on y = x theta with lambda = 3."""
    factor = 3.0
    x = np.random.default_rng(0).normal(size=(8, 2)).astype("float32")
    y = (x @ np.array([[1.0], [-2.0]])).astype("float32")

    def path(layer, rate, transforms=()):
        inputs = keras.Input((2,))
        model = TrainableModel(inputs, layer(inputs))
        model.trainable_variables[0].assign(np.full((2, 1), 0.3 / getattr(layer, "factor", 1.0)))
        options = {"epsilon": 1e-12} if name == "Adam" else {}
        model.compile(getattr(keras.optimizers, name)(rate, **options), "mse", transforms=transforms)
        model.fit(x, y, epochs=3, batch_size=8, shuffle=False, verbose=0)
        return values(model.trainable_variables)[0] * getattr(layer, "factor", 1.0)

    dense = keras.layers.Dense(1, use_bias=False)
    expected = path(Reparameterised(factor), 0.01)
    if name == "SGD":
        ours = path(dense, 0.01, [ScaleGradients({"kernel": factor**2})])
    else:
        ours = path(dense, 0.01 * factor)
        scaled = path(keras.layers.Dense(1, use_bias=False), 0.01, [ScaleGradients({"kernel": 7.0})])
        plain = path(keras.layers.Dense(1, use_bias=False), 0.01, [ScaleGradients({"kernel": 1.0})])
        np.testing.assert_allclose(scaled, plain, rtol=1e-4)  # a constant factor cancels
    np.testing.assert_allclose(ours, expected, rtol=1e-4)


@pytest.mark.parametrize("factors", [{}, {"a": float("inf")}])
def test_factors_that_cannot_be(factors):
    with pytest.raises(ConfigError, match="ScaleGradients"):
        ScaleGradients(factors)


@pytest.mark.parametrize("transform", [ClipGradients(norm=0.5), ScaleGradients({"a": 2, "b": 0.5})])
def test_config_round_trip(transform):
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(transform))
    assert again.get_config() == transform.get_config()
