"""Losses, scores and weights that are not finite stop a training before anything of them is kept."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np

from qingformer.checkpoints.examination import count_not_finite
from qingformer.training.steps import Logs, OrderedSteps
from qingformer.training.training_errors import DivergenceError

REMEDY = "lower the learning rate, clip the gradients (transforms=[ClipGradients(1.0)]), or train in float32"


def check_values(path: str, values: np.ndarray) -> None:
    """Refuse the values of a weight if some are not finite.

    Raises:
        DivergenceError: names the weight.
    """
    # Counted, so that the message tells a single overflow from a model that is lost.
    bad = count_not_finite(values)
    if bad:
        raise DivergenceError(f"weight {path}: {bad} of {values.size} values are not finite (nan or inf)")


def check_weights(variables: list[Any]) -> None:
    """`check_values` for every variable of floating-point numbers."""
    for variable in variables:
        if "float" in keras.backend.standardize_dtype(variable.dtype):
            check_values(variable.path, np.asarray(keras.ops.convert_to_numpy(variable.value)))


@contextmanager
def located(where: str) -> Iterator[None]:
    """Add to an error about weights at which point of the training they were checked, and what helps."""
    try:
        yield
    except DivergenceError as problem:
        raise DivergenceError(f"{where}: {problem}; {REMEDY}") from None


class FiniteTraining(OrderedSteps):
    """Stop a training whose loss, or a score of an epoch, is not a finite number.

    The step is the first whose loss is not finite. Must stand before the callbacks that keep weights, so that they keep
    none of that step.

    Raises:
        DivergenceError: from `fit`, one line with epoch, step, and what was kept.

    Example:
        >>> model.fit(x, y, callbacks=[FiniteTraining()])
    """

    def __init__(self, kept: str = "") -> None:
        super().__init__()
        self.kept = kept
        self._found: str | None = None

    def on_step(self, logs: Logs) -> None:
        if self._found is None:  # told by the thread that trains, which knows where it can stop
            self._found = _not_finite(logs, f"epoch {self.epoch + 1}, step {self.batch}")

    def on_train_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        self.check()

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        self.check()
        self._found = _not_finite(logs or {}, f"epoch {epoch + 1}, step {self.batch}")
        self.check()

    def check(self) -> None:
        """Raise the error if there is anything to stop for."""
        if self._found is not None:
            raise DivergenceError("; ".join(part for part in (self._found, self.kept, REMEDY) if part))


def _not_finite(logs: Logs, where: str) -> str | None:
    for name, value in logs.items():
        if isinstance(value, float | np.floating) and not math.isfinite(value):
            return f"{where}: {name.removeprefix('val_')} is {value}" + (
                " on the held-out data" if name.startswith("val_") else ""
            )
    return None
