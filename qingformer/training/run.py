"""One call that trains: position, curve, best weights, saved state, Ctrl-C."""

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras

from qingformer.errors import ConfigError
from qingformer.training.averages import SwapAverages
from qingformer.training.best import BestCheckpoint
from qingformer.training.curve import LearningCurve
from qingformer.training.finite import FiniteTraining
from qingformer.training.folder import clear_leftovers
from qingformer.training.interrupt import Interruptible
from qingformer.training.kept import KeptFolder
from qingformer.training.lock import locked
from qingformer.training.state import TrainingState
from qingformer.training.steps import Logs
from qingformer.training.training_errors import TrainingInterrupted, TrainingStateError


@dataclass(frozen=True)
class RunResult:
    """What a training did.

    `history` has the logs of every finished epoch, those before a resume included. `interrupted` says that Ctrl-C or
    SIGTERM (`signal`) ended it. `resumed_from` is the (epoch, batch) it began with. `best` and `best_epoch` (from 0)
    are of the monitored value.
    """

    history: list[Logs]
    interrupted: bool
    resumed_from: tuple[int, int]
    best: float | None = None
    best_epoch: int | None = None
    signal: int | None = None


class _OneRun(keras.callbacks.CallbackList):
    """Callbacks for whom several calls of `fit` are one training."""

    def __init__(self, callbacks: list[keras.callbacks.Callback], **options: object) -> None:
        super().__init__(callbacks, **options)
        self._begun, self._last_logs = False, None

    def on_train_begin(self, logs: object = None) -> None:
        if not self._begun:
            self._begun = True
            super().on_train_begin(logs)

    def on_train_end(self, logs: Any = None) -> None:
        self._last_logs = logs

    def finish(self) -> None:
        if self._begun:
            super().on_train_end(self._last_logs)


def run(
    model: keras.Model,
    dataset: Any,
    *,
    epochs: int,
    directory: str | os.PathLike[str],
    resume: bool = False,
    validation_data: Any = None,
    callbacks: Iterable[keras.callbacks.Callback] = (),
    monitor: str | None = None,
    save_best: Callable[[Path], None] | None = None,
    save_every_steps: int = 500,
    curve_every_steps: int = 10,
    verbose: int = 0,
    held_out: Any = None,
) -> RunResult:
    """Train a compiled model and keep, in `directory`, all that is needed to look at it and to go on.

    Written are `curve.jsonl` (`LearningCurve`), `best/` (`BestCheckpoint`, if `monitor` is given) and `state/`
    (`TrainingState`). With `resume` training goes on from the saved state, if there is one, and gives what an
    uninterrupted one would have given; without, an old state is deleted. Ctrl-C or SIGTERM ends the training after the
    current step; the result then says `interrupted`. While it lasts the directory is locked: another process is
    refused. A loss or score that is not finite ends it, and the state and the best before that stay. If the optimizer
    keeps averages of the weights (`averages_of`), these are validated and kept as the best.

    Args:
        model: compiled with an optimizer.
        dataset: `PaddedBatches`, or another `PyDataset` with `start_at(epoch, batch)` and a length.
        epochs: number of epochs in all, those before a resume included. With more than the saved state was made for, it
            goes on from there; a schedule of learning rates that depends on their number then is the new one from that
            step on. A training that has ended stays as it is with as many, or fewer.
        validation_data: as in `fit`.
        callbacks: more callbacks; they must use `self.model`, never a model from outside (on JAX it is empty within an
            epoch). For all of them one training begins and ends once, in spite of a resume.
        monitor: name in the logs by which the best epoch is chosen, such as "val_accuracy".
        save_best: fills a directory with the best model, instead of weights alone.
        save_every_steps: steps between saved states within an epoch; 0 for none.
        curve_every_steps: steps per line of the curve; 0 for lines per epoch only.
        verbose: Keras' own progress bar (0 for none).
        held_out: what a callback scores in the place of `validation_data`, so that a resume notices other data.

    Raises:
        ConfigError: the model is not compiled, or `epochs` is not positive.
        TrainingStateError: the state to resume does not fit or is damaged.
        RunInUseError: another process trains in this directory.
        DivergenceError: a loss, a score or a weight is not finite.

    Example:
        >>> result = run(model, batches, epochs=3, directory="runs/first", resume=True)
        >>> result.history[-1]["loss"]
    """
    if epochs < 1 or not getattr(model, "compiled", False):
        raise ConfigError("training needs a compiled model" if epochs > 0 else f"epochs is {epochs}, must be 1 or more")
    folder = Path(directory)
    best = None if monitor is None else BestCheckpoint(folder / "best", monitor, save=save_best)
    guard = FiniteTraining(f"what was kept before is in {folder}")
    companions = [*callbacks, guard, LearningCurve(folder / "curve.jsonl", curve_every_steps, dataset)]
    if best is not None:
        best.awaits_state = True
        companions.append(best)
    scored = validation_data if held_out is None else held_out
    state = TrainingState(folder / "state", save_every_steps, dataset, tuple(companions), scored, epochs)
    options = {"add_history": True, "add_progbar": verbose != 0, "verbose": verbose, "steps": len(dataset)}
    with locked(folder):
        clear_leftovers(folder, ("curve.", "report.", "run."))
        if not resume:
            state.clear()
        epoch, batch = state.restore(model)
        if best is None and state.remembers(BestCheckpoint):
            raise TrainingStateError(
                f"{folder}: the run chose its best epoch on validation data, of which there are none now; give them "
                "again, or begin a new run"
            )
        state.remember()
        state.tidy()
        best.recover() if best is not None else KeptFolder(folder / "best").recover(None)
        stopper = Interruptible(state)
        once = _OneRun([SwapAverages(), *companions, state, stopper], model=model, epochs=epochs, **options)
        stopped = not (state.ended or _ended_early(companions)) and _fit(
            model, dataset, (epoch, batch), epochs, validation_data, once
        )
    found = (None, None) if best is None else (best.best, best.best_epoch)
    return RunResult(list(state.epoch_logs), stopped or stopper.requested, (epoch, batch), *found, stopper.received)


def _ended_early(companions: list[keras.callbacks.Callback]) -> bool:
    """Whether early stopping has ended the training that is resumed."""
    return any(isinstance(each, keras.callbacks.EarlyStopping) and each.stopped_epoch > 0 for each in companions)


def _fit(
    model: keras.Model,
    dataset: object,
    start: tuple[int, int],
    epochs: int,
    validation_data: object,
    callbacks: _OneRun,
) -> bool:
    epoch, batch = start
    # Keras asks for the number of batches once in a fit: the rest of an epoch is one of its own.
    # The rest of a half-done epoch, then whole ones.
    parts = [(epoch, epoch + 1), (epoch + 1, epochs)] if batch else [(epoch, epochs)]
    try:
        for number, (first, last) in enumerate(parts):
            if first >= last:
                continue
            if hasattr(dataset, "start_at"):
                dataset.start_at(first, batch if number == 0 else 0)
            model.fit(
                dataset,
                initial_epoch=first,
                epochs=last,
                validation_data=validation_data,
                callbacks=callbacks,
                shuffle=False,
                verbose=callbacks.params.get("verbose", 0) if callbacks.params else 0,
            )
            if model.stop_training:
                break
    except TrainingInterrupted:
        return True
    finally:
        callbacks.finish()
        _release(callbacks)
    return False


def _release(callbacks: _OneRun) -> None:
    for callback in callbacks.callbacks:
        if isinstance(callback, Interruptible):
            callback.release()
