"""Keep the best weights of a training."""

import math
import os
from collections.abc import Callable
from pathlib import Path

import keras

from qingformer.errors import ConfigError
from qingformer.training.averages import weights_to_keep
from qingformer.training.finite import check_weights, located
from qingformer.training.kept import KeptFolder
from qingformer.training.steps import Logs
from qingformer.training.training_errors import TrainingStateError
from qingformer.types import Config

_SMALLER_IS_BETTER = ("loss", "error", "mse", "mae", "perplexity")


class BestCheckpoint(keras.callbacks.Callback):
    """After each epoch whose monitored value is the best so far, replace a directory; files of others in it stay.

    Where the optimizer keeps averages of the weights, these are saved; `SwapAverages` has the validation see them too.
    Among the `companions` of a `TrainingState` the directory is replaced once the state knows of the epoch: then a kill
    at any moment leaves the best epoch of the saved state. A value that is not finite is never the best.

    Args:
        directory: where the best is kept.
        monitor: name in the epoch's logs, for instance "val_accuracy".
        mode: "min", "max", or "auto" (smaller is better for names that end in loss, error, mse, mae, perplexity).
        save: called with an empty directory to fill; by default writes `model.weights.h5` there.

    Raises:
        ConfigError: an unknown mode, or a monitored value that is not in the logs.
        DivergenceError: weights that are not finite.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        monitor: str = "val_loss",
        mode: str = "auto",
        save: Callable[[Path], None] | None = None,
    ) -> None:
        super().__init__()
        if mode not in ("auto", "min", "max"):
            raise ConfigError(f"BestCheckpoint: mode is {mode!r}; it must be auto, min or max")
        self.directory, self.monitor, self.save = Path(directory), monitor, save
        self.smaller = monitor.endswith(_SMALLER_IS_BETTER) if mode == "auto" else mode == "min"
        self.best: float | None = None
        self.best_epoch: int | None = None
        self.awaits_state = False  # a state says when it knows of the epoch
        self._kept = KeptFolder(self.directory)

    def get_state(self) -> Config:
        """The best value, its epoch, and what was monitored."""
        return {"best": self.best, "best_epoch": self.best_epoch, "monitor": self.monitor}

    def set_state(self, state: Config) -> None:
        """Go on from `get_state`.

        Raises:
            TrainingStateError: the best value is one of another score, with which this one cannot be compared.
        """
        before = state.get("monitor", self.monitor)
        if before != self.monitor:
            raise TrainingStateError(
                f"{self.directory}: its best epoch was chosen by {before}, but monitor is now {self.monitor}; resume "
                f"with monitor={before!r}, or begin a new run"
            )
        self.best, self.best_epoch = state["best"], state["best_epoch"]

    def state_saved(self) -> None:
        """Called when the state with this epoch is on disk."""
        if self.best_epoch is not None:
            self._kept.publish(self.best_epoch)

    def recover(self) -> None:
        """Bring the directory to what the restored state says, whenever the process before was killed.

        Raises:
            TrainingStateError: somebody has removed the best epoch; a training could not give it back at its end.
        """
        self._kept.recover(self.best_epoch)
        missing = [] if self.best_epoch is None else self._kept.missing()
        if missing:
            raise TrainingStateError(
                f"{missing[0]}: missing, a part of the best epoch ({(self.best_epoch or 0) + 1}) of the run to resume; "
                "put it back, or begin the run anew (overwrite)"
            )

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        if self.monitor not in (logs or {}):
            names = ", ".join(sorted(logs or {}))
            raise ConfigError(f"BestCheckpoint: no {self.monitor!r} in the logs of epoch {epoch + 1}, only {names}")
        value = float((logs or {})[self.monitor])
        worse = self.best is not None and (value >= self.best if self.smaller else value <= self.best)
        if worse or not math.isfinite(value):
            return
        model = self.model
        with located(f"epoch {epoch + 1}"), weights_to_keep(model):
            check_weights([*model.trainable_variables, *model.non_trainable_variables])
            self._kept.write(epoch, self.save or (lambda folder: model.save_weights(folder / "model.weights.h5")))
        self.best, self.best_epoch = value, epoch
        if not self.awaits_state:
            self.state_saved()
