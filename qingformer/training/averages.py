"""Validation and the best checkpoint with averaged weights, where the optimizer keeps averages."""

from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import Any

import keras

from qingformer.optimizers import averages_of
from qingformer.training.steps import Logs


def weights_to_keep(model: keras.Model) -> AbstractContextManager[Any]:
    """A context in which the model has the weights that evaluation, prediction and storage are meant to see.

    These are the averages if the optimizer is, or holds, an `ExponentialMovingAverage` that has begun; otherwise the
    weights as they are.

    Example:
        >>> with weights_to_keep(model):
        ...     model.save_weights("best.weights.h5")
    """
    averages = averages_of(getattr(model, "optimizer", None))
    return nullcontext() if averages is None or not averages.begun else averages.averaged(model)


def keep_averages(model: keras.Model) -> None:
    """At the end of a training: put the averages, if the optimizer keeps any, into the model for good."""
    averages = averages_of(getattr(model, "optimizer", None))
    if averages is not None and averages.begun:
        averages.apply_averages(model)


class SwapAverages(keras.callbacks.Callback):
    """Let the validation within `fit` see the averaged weights; training goes on with its own.

    Does nothing where the optimizer keeps no averages. What is saved at the end of an epoch is another matter:
    `BestCheckpoint` and the tasks save averages by themselves, other callbacks may use `weights_to_keep`.

    Example:
        >>> optimizer = ExponentialMovingAverage(keras.optimizers.Adam(1e-3))
        >>> model.compile(optimizer, loss)
        >>> _ = model.fit(x, y, validation_data=(x_dev, y_dev), callbacks=[SwapAverages()])
    """

    def __init__(self) -> None:
        super().__init__()
        self._within = ExitStack()

    def on_test_begin(self, logs: Logs | None = None) -> None:
        self._within.enter_context(weights_to_keep(self.model))

    def on_test_end(self, logs: Logs | None = None) -> None:
        self._within.close()
