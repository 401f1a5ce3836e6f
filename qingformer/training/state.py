"""Stop anywhere, go on exactly there."""

import os
from pathlib import Path
from typing import Any

import keras

from qingformer.files import write_json
from qingformer.optimizers import chain
from qingformer.training.finite import FiniteTraining, located
from qingformer.training.folder import clear_leftovers, new_folder
from qingformer.training.memory import (
    FORMAT,
    check_dataset,
    describe_data,
    memory_of,
    read_info,
    remember_all,
)
from qingformer.training.run_files import STATE_FILES, drop_state, states_in
from qingformer.training.state_files import (
    check_same,
    describe,
    optimizer_name,
    read_values,
    variables_of,
    write_values,
)
from qingformer.training.steps import Logs, OrderedSteps
from qingformer.training.training_errors import TrainingStateError
from qingformer.types import Config

_VALUES, _INFO = STATE_FILES


class TrainingState(OrderedSteps):
    """Write everything a training needs to go on: every so many steps, after every epoch, and on request.

    Saved are weights, optimizer, metrics, dropout seeds, the position (epoch, batch) in the data, the logs of the
    epochs so far, and what the `companions` remember (curve, best checkpoint, early stopping). A kill at any moment
    leaves a whole state behind; after `restore` training gives the numbers it would have given without the kill,
    on JAX on the CPU to the bit. Only the newest state is kept. Should stand behind its companions in `callbacks`.

    Args:
        directory: holds one folder, named after epoch and batch.
        every_steps: steps between two states within an epoch; 0 for the ends of epochs only.
        dataset: a `keras.utils.PyDataset` with `start_at(epoch, batch)`, whose order is a function of its seed and the
            epoch (`qingformer.data.PaddedBatches`). Without one only whole epochs can be resumed.
        companions: callbacks whose memory is saved too: those with `get_state` and `set_state`, and Keras' own
            EarlyStopping (not the weights it keeps), ReduceLROnPlateau and ModelCheckpoint.
        held_out: the data that epochs are scored on; only its `fingerprint` is kept, to notice other data.
        epochs: number of epochs in all, if it is known. A training that has not ended needs as many to go on.

    Raises:
        TrainingStateError: in `restore`, a damaged state, or one of another model, optimizer or data set.
        DivergenceError: in `save`, weights that are not finite.

    Example:
        >>> state = TrainingState("run/state", every_steps=500, dataset=batches)
        >>> epoch, batch = state.restore(model)
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        every_steps: int = 500,
        dataset: Any = None,
        companions: tuple[keras.callbacks.Callback, ...] = (),
        held_out: Any = None,
        epochs: int | None = None,
    ) -> None:
        super().__init__()
        self.directory, self.every_steps, self.dataset = Path(directory), every_steps, dataset
        self.companions, self.held_out, self.epochs = tuple(companions), held_out, epochs
        self.ended = False  # of a restored state: nothing is left to train, whatever the number of epochs
        self.epoch_logs: list[Logs] = []
        self.position = (0, 0)
        self._begun_at = self._saved_at = 0  # steps of the whole training
        self._folder: Path | None = None  # of a restored state, until training goes on from it
        self._restored: Path | None = None  # the same, until another state is written
        self._memories: list[Config] = []

    # --- saving -------------------------------------------------------------------------------------------------------

    def save(self) -> Path:
        """Write the state of this moment, between two steps, and remove older ones; returns its folder."""
        epoch, batch = self.position
        # Digits enough for names to sort as the states follow each other.
        folder = self.directory / f"epoch-{epoch:05d}-batch-{batch:09d}"
        if folder == self._restored:  # nothing has been trained since
            return folder
        for callback in (self, *self.companions):
            if isinstance(callback, OrderedSteps) and batch:
                callback.wait_for(batch)
            if isinstance(callback, FiniteTraining):
                callback.check()
        variables = variables_of(self.model)  # on JAX this takes the state out of the running loop
        info = {
            "format": FORMAT,
            "epoch": epoch,
            "batch": batch,
            "step": self.step,
            "epoch_logs": self.epoch_logs,
            "epochs": self.epochs,
            "ended": bool(self._model.stop_training),
            "optimizer": optimizer_name(self._model),
            "dataset": describe_data(self.dataset, self.held_out),
            "companions": [memory_of(c) for c in self.companions],
            "variables": describe(variables),
        }
        if folder.exists():
            drop_state(folder)
        where = f"epoch {epoch + 1 if batch else epoch}, after step {batch or self.batch}"
        with located(where), new_folder(folder) as temporary:
            write_values(temporary / _VALUES, variables)
            write_json(temporary / _INFO, info)
        for companion in self.companions:
            if hasattr(companion, "state_saved"):
                companion.state_saved()
        # Only now, when the new state is whole: a kill in between leaves the older one.
        self._remove_all_but(folder)
        self._saved_at, self._restored = self.step, None
        return folder

    def clear(self) -> None:
        """Remove what an earlier training left in the directory."""
        self._remove_all_but(None)

    def tidy(self) -> None:
        """Remove what a killed process left beside the restored state."""
        self._remove_all_but(self._restored)

    def _remove_all_but(self, keep: Path | None) -> None:
        clear_leftovers(self.directory, ("epoch-",))  # half-written when a process was killed
        for folder in states_in(self.directory):
            if folder != keep:
                drop_state(folder)

    # --- going on -----------------------------------------------------------------------------------------------------

    def restore(self, model: keras.Model) -> tuple[int, int]:
        """Put the newest state into a compiled model and its data set; returns (epoch, batch) to go on with.

        Without a saved state nothing happens and the result is (0, 0). Then train as `qingformer.training.run` does.

        Raises:
            TrainingStateError: the state is damaged, or the model, optimizer or data set is another one.
        """
        folders = states_in(self.directory)
        if not folders:
            return 0, 0
        folder = folders[-1]
        info = read_info(folder / _INFO)
        epoch, batch = info["epoch"], info["batch"]
        # In the middle of an epoch the data must be the same, batch for batch.
        check_dataset(info["dataset"], self.dataset, self.held_out, folder, within_epoch=batch > 0)
        self._check_epochs(info, folder)
        self._build(model)
        variables = variables_of(model)
        if info["optimizer"] != optimizer_name(model):
            raise TrainingStateError(f"{folder}: saved with {info['optimizer']}, the model has {optimizer_name(model)}")
        check_same(info["variables"], variables, str(folder))
        read_values(folder / _VALUES, variables, ("trainable", "non_trainable", "optimizer"))
        self.start_from(info["step"], batch)
        self.epoch_logs, self._memories, self._folder = list(info["epoch_logs"]), info["companions"], folder
        self.position, self._restored = (epoch, batch), folder
        if self.dataset is not None:
            self.dataset.start_at(epoch, batch)
        return epoch, batch

    def _check_epochs(self, info: Config, folder: Path) -> None:
        begun, epoch = info.get("epochs"), info["epoch"]
        self.ended = bool(info.get("ended")) or (isinstance(begun, int) and epoch >= begun >= (self.epochs or begun))
        if not self.ended and self.epochs is not None and isinstance(begun, int) and self.epochs < begun:
            raise TrainingStateError(
                f"{folder}: {epoch} of {begun} epochs are done; to go on give epochs={begun} or more, not {self.epochs}"
            )

    def remembers(self, kind: type[keras.callbacks.Callback]) -> bool:
        """Whether a callback of this class was among the companions of the restored state."""
        return any(memory["class"] == kind.__name__ for memory in self._memories)

    def remember(self) -> None:
        """Give the companions what they remembered in the restored state."""
        if self._folder is not None:
            remember_all(self.companions, self._memories)

    def _build(self, model: keras.Model) -> None:
        if any(getattr(optimizer, "use_ema", False) for optimizer in chain(model.optimizer)):
            raise TrainingStateError(
                f"{self.directory}: an optimizer with use_ema replaces the weights at the end of fit and cannot go on "
                "exactly; wrap the optimizer in qingformer.optimizers.ExponentialMovingAverage instead"
            )
        # Metrics and optimizer have no variables before the first step, which is too late for restoring them.
        if self.dataset is not None:
            model._symbolic_build(data_batch=self.dataset[0])
        if not model.optimizer.built:
            model.optimizer.build(model.trainable_variables)

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self.remember()  # the companions have just forgotten everything
        if self._folder is not None:
            for companion in self.companions:
                if isinstance(companion, OrderedSteps):
                    companion.start_from(self.step, self.position[1])

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        super().on_epoch_begin(epoch, logs)
        self.position, self._begun_at, self._saved_at = (epoch, self.batch), self.step, self.step
        if hasattr(self.dataset, "start_at"):
            self.dataset.start_at(epoch, self.batch)
        if self._folder is not None:  # fit has just reset the metrics, which the rest of an epoch goes on with
            read_values(self._folder / _VALUES, variables_of(self.model), ("metrics",) if self.batch else ())
            self._folder = self._folder if self.batch else None

    def on_train_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        if not batch:
            if self._folder is not None:  # torch draws a random number for the data between epoch and first step
                read_values(self._folder / _VALUES, {}, ())
                self._folder = None
            return
        self.position = (self.position[0], self._first + batch)
        if self.every_steps and (self._begun_at + batch) // self.every_steps > self._saved_at // self.every_steps:
            self.save()

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        self.epoch_logs.append(dict(logs or {}))
        self.position = (epoch + 1, 0)
        self.save()
