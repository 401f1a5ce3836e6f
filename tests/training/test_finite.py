"""What is not finite stops a training in one line, and nothing of it is kept."""

import math

import keras
import numpy as np
import pytest

from qingformer.tasks.best_in_memory import BestInMemory
from qingformer.training import BestCheckpoint, DivergenceError, FiniteTraining
from tests.training.program import batches, make_model, train

STEPS = len(batches())


class Spoil(keras.callbacks.Callback):
    """Make a weight NaN before the step of this number."""

    def __init__(self, at):
        super().__init__()
        self.left = at

    def on_train_batch_begin(self, batch, logs=None):
        if self.left == 0:
            variable = self.model.trainable_variables[0]
            variable.assign(np.full(variable.shape, np.nan))
        self.left -= 1


def test_a_loss_that_is_not_finite_stops_with_its_step_and_keeps_the_best_and_the_state_before(tmp_path):
    train(tmp_path / "whole", epochs=1)
    with pytest.raises(DivergenceError, match=r"^epoch 2, step 3: (loss|accuracy) is nan; what was kept before is in"):
        train(tmp_path / "run", callbacks=[Spoil(STEPS + 2)], save_every_steps=0)
    whole, kept = (tmp_path / name / "best" / "model.weights.h5" for name in ("whole", "run"))
    assert kept.stat().st_size == whole.stat().st_size
    (state,) = (tmp_path / "run" / "state").iterdir()
    assert state.name == "epoch-00001-batch-000000000"
    with np.load(state / "values.npz") as values:
        assert all(np.isfinite(values[name]).all() for name in values.files if name.startswith("trainable"))
    _, result = train(tmp_path / "run", resume=True, epochs=3)
    assert all(math.isfinite(value) for logs in result.history for value in logs.values())


def test_weights_spoilt_in_the_last_step_become_no_best(tmp_path):
    class AfterLast(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            variable = self.model.trainable_variables[0]
            variable.assign(np.full(variable.shape, np.nan))

    with pytest.raises(DivergenceError, match=r"^epoch 1: weight .*embeddings: 180 of 180 values are not finite"):
        train(tmp_path, epochs=1, callbacks=[AfterLast()])
    assert not (tmp_path / "best").exists()
    assert not list(tmp_path.rglob("*.part"))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("monitor", ["val_loss", "val_f1"])
def test_a_value_that_is_not_finite_is_never_the_best(tmp_path, value, monitor):
    model = make_model()
    for best in (BestCheckpoint(tmp_path / "best", monitor), BestInMemory(monitor)):
        best.set_model(model)
        best.on_epoch_end(0, {monitor: value})
        assert best.best in (None, -math.inf)
        best.on_epoch_end(1, {monitor: 0.5})
        assert abs(best.best) == 0.5


@pytest.mark.parametrize("name", ["val_f1", "loss", "val_loss"])
def test_a_score_that_is_not_finite_stops(name):
    guard = FiniteTraining("kept in runs/a")
    guard.on_epoch_end(0, {"accuracy": 1.0})
    with pytest.raises(DivergenceError, match=f"epoch 2, step 0: {name.removeprefix('val_')} is inf"):
        guard.on_epoch_end(1, {"accuracy": 1.0, name: math.inf})


def test_weights_that_are_not_finite_become_no_best_in_memory():
    model, best = make_model(), BestInMemory("val_f1")
    best.set_model(model)
    best.on_epoch_end(0, {"val_f1": 0.5})
    model.trainable_variables[0].assign(np.full(model.trainable_variables[0].shape, np.inf))
    with pytest.raises(DivergenceError, match="not finite"):
        best.on_epoch_end(1, {"val_f1": 0.9})
    best.restore(model)
    assert np.isfinite(keras.ops.convert_to_numpy(model.trainable_variables[0])).all()
