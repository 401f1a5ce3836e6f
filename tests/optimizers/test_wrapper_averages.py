"""Averages in evaluation, in the best checkpoint and in tasks; and an exact resume with every wrapper."""

import keras
import numpy as np
import pytest

from qingformer.errors import ConfigError
from qingformer.objectives import FGM
from qingformer.optimizers import ExponentialMovingAverage, averages_of
from qingformer.tasks.best_in_memory import BestInMemory
from qingformer.training import (
    BestCheckpoint,
    SwapAverages,
    TrainingState,
    TrainingStateError,
    keep_averages,
    run,
    weights_to_keep,
)
from qingformer.training.state_files import optimizer_name
from tests.conftest import SLOW_ON_JAX, slow_on_jax
from tests.optimizers.test_wrapper import adam, everything, fit, make_model, rows
from tests.optimizers.toolkit import numbers
from tests.tasks.helpers import FIT, classifier
from tests.tasks.helpers import rows as texts
from tests.training.program import AtStep, batches
from tests.training.program import make_model as make_text_model


def weights(model):
    return [numbers(v) for v in model.trainable_variables]


def same(a, b, **tolerance):
    for ours, theirs in zip(a, b, strict=True):
        np.testing.assert_allclose(ours, theirs, **tolerance or {"rtol": 0, "atol": 0})


def averaging(momentum=0.9):
    return ExponentialMovingAverage(adam(), momentum)


class Weights(keras.callbacks.Callback):
    """The weights after each step."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def on_train_batch_end(self, batch, logs=None):
        self.seen.append(weights(self.model))


class Validations(keras.callbacks.Callback):
    """The weights that the validation sees, and those after each epoch."""

    def __init__(self):
        super().__init__()
        self.tested, self.trained = [], []

    def on_test_begin(self, logs=None):
        self.tested.append(weights(self.model))

    def on_epoch_end(self, epoch, logs=None):
        self.trained.append(weights(self.model))


def test_averages_of_a_training_with_two_fits():
    """Keras' own averages break at the second `fit` on JAX, and replace the weights after the first."""
    model, plain = make_model(), make_model()
    model.compile(averaging(), "mse")
    seen = Weights()
    with pytest.raises(ConfigError, match="has not trained"), model.optimizer.averaged(model):
        pass
    for _ in range(2):
        fit(model, 1, callbacks=[seen])
    trained = weights(model)
    same(trained, seen.seen[-1])
    shares = 0.9 ** np.arange(len(seen.seen))[::-1]
    expected = [sum(s * w[i] for s, w in zip(shares, seen.seen)) / shares.sum() for i in range(len(trained))]
    same([numbers(a) for a in model.optimizer.averages()], expected, rtol=1e-5, atol=1e-6)
    with model.optimizer.averaged(model), model.optimizer.averaged(model):
        same(weights(model), expected, rtol=1e-5, atol=1e-6)
        averaged_loss = model.evaluate(*rows(), verbose=0)
    same(weights(model), trained)
    assert averaged_loss != model.evaluate(*rows(), verbose=0)
    with pytest.raises(KeyError), weights_to_keep(model):
        raise KeyError
    same(weights(model), trained)
    fit(model, 1)
    with pytest.raises(ConfigError, match="has not trained the model"), model.optimizer.averaged(plain):
        pass
    keep_averages(model)
    same(weights(model), [numbers(a) for a in model.optimizer.averages()])


@pytest.mark.parametrize("averaged", [True, pytest.param(False, marks=SLOW_ON_JAX)])
def test_validation_and_best_have_the_averages(tmp_path, averaged):
    model = make_model()
    model.compile(averaging(0.5) if averaged else adam(), "mse")
    tested, best, kept = Validations(), BestCheckpoint(tmp_path / "best"), BestInMemory("val_loss")
    callbacks = [SwapAverages(), tested, best, kept]
    history = fit(model, 2, validation_data=rows(), callbacks=callbacks)
    again = make_model()
    again.load_weights(tmp_path / "best" / "model.weights.h5")
    assert best.best_epoch == 1
    again.compile("sgd", "mse")
    assert again.evaluate(*rows(), verbose=0) == pytest.approx(history["val_loss"][1], rel=1e-5)
    same(weights(again), tested.tested[1])
    kept.restore(again)
    same(weights(again), tested.tested[1])
    same(weights(model), tested.trained[1])
    assert np.any(tested.tested[1][0] != tested.trained[1][0]) == averaged


def test_no_averages_before_the_first_update():
    model = make_model()
    model.compile(averaging(), "mse")
    before = weights(model)
    with weights_to_keep(model):
        same(weights(model), before)
    keep_averages(model)
    same(weights(model), before)
    model.optimizer.build(model.trainable_variables)
    with pytest.raises(ConfigError, match="before the first update"):
        model.optimizer.averages()


@slow_on_jax
@pytest.mark.parametrize("validated", [True, False])
@pytest.mark.parametrize("on_disk", [True, False])
def test_a_classifier_ends_with_the_averages(tmp_path, validated, on_disk):
    options = {"directory": tmp_path / "run"} if on_disk else {}
    settings = {key: value for key, value in FIT.items() if key != "learning_rate"} | {"epochs": 1}
    optimizer = ExponentialMovingAverage(keras.optimizers.Adam(1e-2), 0.9)
    one = classifier(labels=["weather", "music", "food"])
    held_out = texts(24, 100) if validated else None
    curve = one.fit(texts(), held_out, optimizer=optimizer, **settings, **options)
    found = weights(one.model)
    same(found, [numbers(average) for average in optimizer.averages()], rtol=1e-6, atol=1e-7)
    if validated:
        assert one.evaluate(held_out).accuracy == pytest.approx(curve["val_accuracy"][0])
    if on_disk:
        again = type(one).load(tmp_path / "run" / "best")
        same(weights(again.model), found)


def crash():
    raise KeyError


@pytest.mark.slow
def test_resume_is_exact_with_every_wrapper(tmp_path):
    """Killed in the second epoch, between two updates of the accumulation: nine batches were seen."""

    def train(folder, optimizer, callbacks=(), resume=False):
        model = make_text_model(transforms=[FGM(0.2)], optimizer=optimizer)
        options = {"epochs": 2, "save_every_steps": 1, "monitor": "val_loss", "validation_data": batches(1)}
        options |= {"callbacks": callbacks, "resume": resume, "directory": folder}
        return model, run(model, batches(), **options)

    def make():
        return everything(faster="logits", lazy="token_embedding", frozen="gamma")

    whole, result = train(tmp_path / "whole", make())
    with pytest.raises(KeyError):
        train(tmp_path / "killed", make(), [AtStep(10, crash)])
    resumed, again = train(tmp_path / "killed", make(), resume=True)
    assert again.resumed_from == (1, 9 - len(batches()))
    exact = {} if keras.backend.backend() == "jax" else {"rtol": 1e-5, "atol": 1e-6}
    same(*[[numbers(v) for v in [*model.variables, *model.optimizer.variables]] for model in (resumed, whole)], **exact)
    assert [logs["val_loss"] for logs in again.history] == pytest.approx([logs["val_loss"] for logs in result.history])


def test_the_name_of_an_optimizer_says_what_is_inside():
    model = make_model()
    model.compile(keras.optimizers.LossScaleOptimizer(averaging()), "mse")
    inner = type(model.optimizer.inner_optimizer.inner_optimizer).__name__
    assert optimizer_name(model) == f"LossScaleOptimizer(ExponentialMovingAverage({inner}))"
    assert averages_of(model.optimizer) is model.optimizer.inner_optimizer
    assert averages_of(adam()) is None
    model.compile(adam(), "mse")
    assert optimizer_name(model) == inner


def test_resume_refuses_keras_averages_at_any_depth(tmp_path):
    model = make_text_model(optimizer=averaging())
    model.optimizer.inner_optimizer.use_ema = True
    with pytest.raises(TrainingStateError, match="ExponentialMovingAverage"):
        TrainingState(tmp_path)._build(model)
