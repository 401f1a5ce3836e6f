"""The adapters of a task on disk: what its training changed, without the encoder that it started from."""

import os
from pathlib import Path
from typing import Any

from qingformer.adapters import adapter_files
from qingformer.adapters.adapter_state import gather
from qingformer.checkpoints import finite_weights, own_files
from qingformer.errors import CheckpointError, ConfigError
from qingformer.files import write_json
from qingformer.folders import finish_update, updated_directory
from qingformer.json_files import read_object
from qingformer.tasks import peft_heads
from qingformer.tasks.storage import read_settings, settings_of
from qingformer.tasks.task_registry import TASK_FILE


def save(task: Any, directory: str | os.PathLike[str], check_finite: bool) -> Path:
    """See `Task.save_adapters`."""
    if task.model is None:
        raise ConfigError("there is nothing to save yet: call fit, or give labels")
    adapters = gather(task.model, task.backbone)
    if check_finite:
        finite_weights.check_finite(adapter_files.arrays_of(adapters))

    def superseded(folder: Path) -> list[str]:
        own_files.check_same_task(folder, settings_of(task), own_files.HEAD, "the model")
        return own_files.of_earlier_adapters(folder, own_files.ADAPTERS)

    with updated_directory(directory, superseded) as folder:
        adapter_files.write(folder, adapters)
        write_json(folder / TASK_FILE, settings_of(task))
    return Path(directory)


def load(task: Any, directory: str | os.PathLike[str], strict: bool) -> list[str]:
    """See `Task.load_adapters`."""
    folder = Path(directory)
    finish_update(folder)
    if not (folder / TASK_FILE).is_file() and (folder / own_files.PEFT[0]).is_file():
        return peft_heads.load(task, folder, strict)
    kind = read_object(folder / TASK_FILE, ConfigError, {"task": str}).get("task")
    if kind != task.task_name:
        raise CheckpointError(f"{folder}: the adapters are those of a {kind}, not of a {task.task_name}")
    settings = read_settings(folder / TASK_FILE, task.settings_types, task.later_settings)
    if task.backbone is None:
        raise ConfigError("load_adapters: this task has no encoder yet; make it with from_pretrained")
    theirs = {key: settings[key] for key in task.identity}
    ours = {key: getattr(task, key) for key in task.identity}
    differing = [key for key in task.identity if ours[key] is not None and ours[key] != theirs[key]]
    if differing:
        shown = "; ".join(f"{key} {_plain(theirs[key])} where this task has {_plain(ours[key])}" for key in differing)
        raise CheckpointError(
            f"{folder}: the adapters were trained for the {shown}; make the task with what the file has (labels may be "
            "left out)"
        )
    for key, value in theirs.items():
        setattr(task, key, value)
    made = task.model is None
    try:
        task.build()
        found: list[str] = adapter_files.load(task.model, task.backbone, folder, strict)
    except Exception:
        for key, value in ours.items():
            setattr(task, key, value)
        if made:
            task.discard_network()
        raise
    return found


def _plain(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
