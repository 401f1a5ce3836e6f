"""Schedules against interpolation in NumPy; decay that spares what it should, by one hand-computed step."""

import json
from pathlib import Path

import keras
import numpy as np
import pytest

from qingformer.errors import ConfigError
from qingformer.optimizers import PiecewiseLinear, adamw, warmup_linear


@pytest.mark.parametrize(
    "points", [{100: 1.0, 1100: 0.0}, {0: 0.5, 10: 2.0}, {7: 3.0}, {5: 1.0, 6: 0.0, 20: 0.25}, {0: 1.0}], ids=str
)
def test_piecewise_linear_is_interpolation(points):
    schedule = PiecewiseLinear(2e-3, points)
    known = points if 0 in points else {0: 0.0, **points}
    for step in (0, 1, 3, 5, 6, 7, 8, 50, 100, 600, 1100, 5000):
        expected = 2e-3 * np.interp(step, list(known), list(known.values()))
        assert float(schedule(step)) == pytest.approx(expected, rel=1e-5, abs=1e-9)


def test_piecewise_linear_equals_the_original():
    folder = Path(__file__).resolve().parent.parent / "fixtures" / "bert4keras" / "layers"
    arrays = np.load(folder / "piecewise_linear.npz")
    for index, points in enumerate(json.loads(str(arrays["config"]))):
        schedule = PiecewiseLinear(1.0, {int(step): multiplier for step, multiplier in points.items()})
        found = [float(schedule(int(step))) for step in arrays["steps"]]
        np.testing.assert_allclose(found, arrays[f"schedule_{index}"], atol=1e-6)


def test_points_may_come_in_any_order_and_survive_serialisation():
    schedule = PiecewiseLinear(1.0, {20: 0.0, 10: 1.0})
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(schedule))
    assert [float(again(s)) for s in (5, 10, 15, 30)] == [0.5, 1.0, 0.5, 0.0]


@pytest.mark.parametrize("points", [{}, {-1: 1.0}, {1: -1.0}, {1.5: 1.0}, {1: float("inf")}], ids=str)
def test_points_that_cannot_be(points):
    with pytest.raises(ConfigError, match="PiecewiseLinear"):
        PiecewiseLinear(1.0, points)


def test_warmup_linear():
    schedule = warmup_linear(1.0, total_steps=100, warmup=0.1, floor=0.2)
    assert [round(float(schedule(s)), 5) for s in (0, 5, 10, 55, 100, 200)] == [0.0, 0.5, 1.0, 0.6, 0.2, 0.2]
    assert float(warmup_linear(1.0, 100, warmup=0.0)(0)) == 1.0
    for wrong in ({"total_steps": 0}, {"total_steps": 5, "warmup": 1.0}):
        with pytest.raises(ConfigError, match="warmup_linear"):
            warmup_linear(1.0, **wrong)


def model_with_norm():
    inputs = keras.Input((3,))
    x = keras.layers.Dense(3, name="alphabet_beta", bias_initializer="ones")(inputs)
    return keras.Model(inputs, keras.layers.LayerNormalization(name="norm")(x))


def test_biases_and_norms_do_not_decay():
    model = model_with_norm()
    before = {v.path: np.array(keras.ops.convert_to_numpy(v)) for v in model.trainable_variables}
    optimizer = adamw(0.1, weight_decay=0.5)
    optimizer.build(model.trainable_variables)
    zeros = [keras.ops.zeros(v.shape) for v in model.trainable_variables]
    optimizer.apply(zeros, model.trainable_variables)
    for v in model.trainable_variables:
        factor = 1 - 0.1 * 0.5 if v.path.endswith("kernel") else 1.0
        np.testing.assert_allclose(keras.ops.convert_to_numpy(v), before[v.path] * factor, rtol=1e-6)


def test_defaults_and_options():
    assert (adamw().global_clipnorm, adamw().epsilon) == (1.0, 1e-6)
    assert adamw(clipnorm=3.0).global_clipnorm is None
    assert adamw(warmup_linear(1e-3, 10), beta_2=0.98).beta_2 == 0.98


def test_training_follows_the_schedule():
    model = model_with_norm()
    model.compile(adamw(PiecewiseLinear(0.1, {0: 0.0, 100: 0.0}), weight_decay=0.5), "mse")
    before = model.get_weights()
    model.fit(np.ones((4, 3)), np.zeros((4, 3)), verbose=0)
    for old, new in zip(before, model.get_weights()):
        np.testing.assert_array_equal(old, new)
