"""What a saved training state holds besides arrays: what callbacks remember, and which data set it was."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras

from qingformer.json_files import read_object
from qingformer.training.training_errors import TrainingStateError
from qingformer.types import Config

FORMAT = 1

_KEYS = {"format": int, "epoch": int, "batch": int, "step": int, "epoch_logs": list, "companions": list}
_KEYS |= {"optimizer": str, "variables": list}
# What these callbacks of Keras remember between epochs; they forget it in `on_train_begin`.
_MEMORY = {
    keras.callbacks.EarlyStopping: ("wait", "best", "best_epoch", "stopped_epoch"),
    keras.callbacks.ReduceLROnPlateau: ("wait", "best", "cooldown_counter"),
    keras.callbacks.ModelCheckpoint: ("best",),
}
_TRAIN, _HELD_OUT = "training data", "validation data"
_DATASET = ("batches_per_epoch", "batch_size", "seed", "shuffle", "num_examples")


def memory_of(callback: keras.callbacks.Callback) -> Config:
    """The class of a callback and what it remembers, ready for JSON."""
    if hasattr(callback, "get_state"):
        values = callback.get_state()
    else:
        names = _MEMORY.get(type(callback), ())
        values = {name: _plain(getattr(callback, name)) for name in names if hasattr(callback, name)}
    return {"class": type(callback).__name__, "values": values}


def remember(callback: keras.callbacks.Callback, memory: Config) -> None:
    """The inverse of `memory_of`."""
    if hasattr(callback, "set_state"):
        callback.set_state(memory["values"])
        return
    for name, value in memory["values"].items():
        setattr(callback, name, value)


def _plain(value: object) -> Any:
    return value.item() if hasattr(value, "item") else value


def remember_all(callbacks: Sequence[keras.callbacks.Callback], memories: list[Config]) -> None:
    """Give every callback the memory of the saved one of its class (the first to the first); others start anew."""
    left = list(memories)
    for callback in callbacks:
        memory = next((m for m in left if m["class"] == type(callback).__name__), None)
        if memory is not None:
            left.remove(memory)
            remember(callback, memory)


def describe_data(dataset: object, held_out: object = None) -> Config | None:
    """The numbers that fix the order of batches, and the hashes of the data, as far as the data sets have them."""
    if dataset is None:
        return None
    found = {name: _plain(getattr(dataset, name)) for name in _DATASET if hasattr(dataset, name)}
    hashes = {_TRAIN: getattr(dataset, "fingerprint", None), _HELD_OUT: getattr(held_out, "fingerprint", None)}
    return found | {name: value for name, value in hashes.items() if isinstance(value, str)}


def check_dataset(saved: Config | None, dataset: object, held_out: object, where: Path, within_epoch: bool) -> None:
    """Raise `TrainingStateError` unless the data set goes on as the saved one would have."""
    if within_epoch and not hasattr(dataset, "start_at"):
        raise TrainingStateError(f"{where}: to go on within an epoch, the data set needs start_at(epoch, batch)")
    present = describe_data(dataset, held_out) or {}
    for name, value in (saved or {}).items():
        if name in present and present[name] != value:
            if name in (_TRAIN, _HELD_OUT):
                raise TrainingStateError(
                    f"{where}: the {name} are not those that the run began with (their content has changed); "
                    "put the old ones back to go on, or begin a new run"
                )
            raise TrainingStateError(f"{where}: the data had {name}={value}, now it has {name}={present[name]}")


def read_info(path: Path) -> Config:
    """The JSON part of a state, checked; raises `TrainingStateError`."""
    info = read_object(path, TrainingStateError)
    wrong = [k for k, kind in _KEYS.items() if not isinstance(info, dict) or not isinstance(info.get(k), kind)]
    if wrong:
        raise TrainingStateError(f"{path}: not a training state (field {wrong[0]!r} is missing or of the wrong type)")
    if info["format"] != FORMAT:
        raise TrainingStateError(f"{path}: format {info['format']}, this version reads format {FORMAT}")
    return info
