"""The weights of the best epoch, where no directory was given to keep them in."""

import math
from typing import Any

import keras

from qingformer.training import check_weights, weights_to_keep
from qingformer.training.finite import located
from qingformer.types import Config


class BestInMemory(keras.callbacks.Callback):
    """After every epoch whose `monitor` is the best so far, copy the weights; the first of equals stays.

    What is not finite is never the best; weights that are not are refused by a `DivergenceError`. Smaller
    is better for names that end in "loss", larger for the others.
    """

    def __init__(self, monitor: str) -> None:
        super().__init__()
        self.monitor, self.sign = monitor, -1.0 if monitor.endswith("loss") else 1.0
        self.best = -math.inf
        self._arrays: list[Any] | None = None

    def on_epoch_end(self, epoch: int, logs: Config | None = None) -> None:
        value = self.sign * float((logs or {}).get(self.monitor, math.nan))
        if value > self.best and math.isfinite(value):
            # Asking for `self.model` brings the trained values back into the variables on JAX.
            model = self.model
            with located(f"epoch {epoch + 1}"), weights_to_keep(model):
                check_weights(model.trainable_variables)
                self.best = value
                self._arrays = [keras.ops.convert_to_numpy(variable.value).copy() for variable in model.variables]

    def restore(self, model: keras.Model) -> None:
        """Put the best weights into `model`; without a finite score so far the last ones stay."""
        for variable, array in zip(model.variables, self._arrays or []):
            variable.assign(array)
