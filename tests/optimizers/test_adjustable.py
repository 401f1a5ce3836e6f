"""AdjustableRate: a schedule that goes on, scaled, when its optimizer's rate is set."""

import keras
import numpy as np
import pytest

from qingformer.errors import ConfigError
from qingformer.objectives import TrainableModel
from qingformer.optimizers import AdamW, AdjustableRate, ExponentialMovingAverage, adamw, warmup_linear

RATE, STEPS = 0.1, 20  # rises over 2 steps, then falls


def made(optimizer):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((2,))
    model = TrainableModel(inputs, keras.layers.Dense(1)(inputs))
    model.compile(optimizer, "mse")
    return model


def trained(optimizer, callbacks, epochs=5):
    model, x = made(optimizer), np.ones((8, 2), "float32")
    seen = []
    read = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda e, logs: seen.append(float(model.optimizer.learning_rate))
    )
    history = model.fit(x, x[:, :1], batch_size=2, epochs=epochs, verbose=0, callbacks=[*callbacks, read])
    return seen, history.history, model


def scheduled(step):
    return float(warmup_linear(RATE, STEPS)(step))


@pytest.mark.parametrize(
    "optimizer",
    [adamw, AdamW, lambda rate: ExponentialMovingAverage(keras.optimizers.SGD(rate))],
    ids=["keras", "ours", "wrapped"],
)
def test_reduced_on_a_plateau_the_schedule_goes_on_scaled(optimizer):
    """No epoch is better by 10: the rate is halved after the second epoch and each one after it."""
    plateau = keras.callbacks.ReduceLROnPlateau("loss", factor=0.5, patience=1, min_delta=10.0)
    seen, *_ = trained(optimizer(AdjustableRate(warmup_linear(RATE, STEPS))), [plateau])
    np.testing.assert_allclose(seen, [scheduled(4 * n) * 0.5 ** (n - 1) for n in range(1, 6)], rtol=1e-5, atol=1e-9)


def test_a_rate_set_while_it_is_0_stays_and_setting_what_it_is_changes_nothing():
    same = keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate)
    seen, *_ = trained(adamw(AdjustableRate(warmup_linear(RATE, STEPS))), [same])
    np.testing.assert_allclose(seen, [scheduled(4 * n) for n in range(1, 6)], rtol=1e-6)
    given = keras.callbacks.LearningRateScheduler(lambda epoch: 0.03 * 0.5**epoch)
    seen, *_ = trained(adamw(AdjustableRate(warmup_linear(RATE, STEPS))), [given])
    np.testing.assert_allclose(seen, [0.03 * 0.5**n for n in range(5)], rtol=1e-6)


def test_what_was_set_is_in_the_variables_and_in_a_saved_model(tmp_path):
    model = made(adamw(AdjustableRate(warmup_linear(RATE, STEPS))))
    x = np.ones((8, 2), "float32")
    model.fit(x, x[:, :1], batch_size=2, verbose=0)
    model.optimizer.learning_rate = float(model.optimizer.learning_rate) / 4
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert float(again.optimizer.learning_rate) == pytest.approx(scheduled(4) / 4, rel=1e-6)
    for each in (model, again):
        each.fit(x, x[:, :1], batch_size=2, verbose=0, shuffle=False)
    assert float(again.optimizer.learning_rate) == pytest.approx(scheduled(8) / 4, rel=1e-6)


def test_what_cannot_be():
    rate = AdjustableRate(warmup_linear(RATE, STEPS))
    with pytest.raises(ConfigError, match="belongs to no optimizer"):
        rate()
    model = made(adamw(rate))
    with pytest.raises(ConfigError, match="learning rate -1"):
        model.optimizer.learning_rate = -1.0
