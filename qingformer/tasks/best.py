"""Keeping the weights of the best epoch, in memory or on disk."""

import math
from pathlib import Path
from typing import Any

import keras

from qingformer.errors import QingFormerError
from qingformer.files import read_json, write_json
from qingformer.tasks import storage


class KeepBest(keras.callbacks.Callback):
    """After every epoch whose `monitor` is the best so far, keep the weights; `restore` puts the best ones back.

    With a directory the model is saved there as `model/` (whole or as it was before) and its score in `best.json`,
    which a resumed run reads to know what it has to beat.
    """

    def __init__(self, classifier: Any, monitor: str, directory: Path | None, *, resume: bool) -> None:
        super().__init__()
        self.classifier, self.monitor, self.directory = classifier, monitor, directory
        self.sign = -1.0 if monitor.endswith("loss") else 1.0
        self.best, self.best_epoch = -math.inf, None
        self._arrays: list[Any] | None = None
        if directory is not None and resume and (directory / "best.json").exists():
            kept = read_json(directory / "best.json", QingFormerError)
            self.best, self.best_epoch = self.sign * kept["value"], kept["epoch"]

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Compare, and keep the weights if this epoch is better; the first of equals stays."""
        value = self.sign * float((logs or {}).get(self.monitor, math.nan))
        if not value > self.best:
            return
        self.best, self.best_epoch = value, epoch + 1
        model = self.model  # on JAX, asking for it brings the trained values back into the variables
        if self.directory is None:
            self._arrays = [keras.ops.convert_to_numpy(variable.value) for variable in model.variables]
        else:
            self.classifier.save(self.directory / "model")
            write_json(
                self.directory / "best.json",
                {"epoch": self.best_epoch, "monitor": self.monitor, "value": self.sign * value},
            )

    def restore(self) -> None:
        """Put the best weights back; without a finite score so far the last ones stay."""
        if self._arrays is not None:
            for variable, array in zip(self.classifier.model.variables, self._arrays):
                variable.assign(array)
        elif self.directory is not None and self.best_epoch is not None:
            storage.read_weights(self.classifier, self.directory / "model")
