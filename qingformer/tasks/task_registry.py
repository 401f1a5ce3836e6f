"""Which class reads a saved task: `task.json` names it."""

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from qingformer.checkpoints import own_files
from qingformer.errors import CheckpointError, HeadWarning
from qingformer.files import is_path
from qingformer.folders import finish_update
from qingformer.json_files import read_object
from qingformer.models.fine_tuned import own_parameters, stated_kind, stated_labels
from qingformer.tasks.task_options import task_entries
from qingformer.training import holds_run, read_whole, whole_folder
from qingformer.types import Config, Options

if TYPE_CHECKING:
    from qingformer.tasks.task import Task

TASK_FILE = "task.json"
BEST = "best"  # where a run keeps the model to use
TASKS: Config = {}
Kind = TypeVar("Kind", bound=type)


def register_task(name: str) -> Callable[[Kind], Kind]:
    """Enter a task class under the name that its `task.json` carries."""

    def enter(cls: Kind) -> Kind:
        cls.task_name = name  # type: ignore[attr-defined]
        TASKS[name] = cls
        return cls

    return enter


def known_tasks() -> Config:
    """Every task class by the name in its `task.json`: those of this package, and those registered by others."""
    for entry in task_entries().values():
        entry.task_class()  # its import registers it
    return TASKS


def load(directory: str | os.PathLike[str], **options: object) -> "Task":
    """Read a task saved by `save`, or the best model of a run's output folder, whatever its class.

    A folder of `transformers` with a fine-tuned head (`BertForSequenceClassification`, ...) is read as well.

    Raises:
        CheckpointError: no task there, or one that this version does not know.

    Example: `classifier = load("runs/demo")`
    """
    task: Task = read_whole(lambda: task_directory(directory), lambda path: _load(path, options))
    return task


def _load(path: Path, options: Options) -> Any:
    if not (path / TASK_FILE).is_file():
        return _load_fine_tuned(path, options)
    name = read_object(path / TASK_FILE, CheckpointError, {"task": str}).get("task")
    known = known_tasks()
    if name not in known:
        raise CheckpointError(f"{path / TASK_FILE}: task {name!r} is not known; known tasks: {', '.join(known)}")
    return known[name].load(path, **options)


def _load_fine_tuned(path: Path, options: Options) -> Any:
    """The task for the head in a folder of `transformers`. Errors: `CheckpointError` where it cannot be used."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HeadWarning)  # what it says is raised
        task = known_tasks()[str(_fine_tuned_task(path))].from_pretrained(path, **options)
    if task.left_out:
        raise CheckpointError(f"{task.left_out}; make the task with from_pretrained and train it")
    return task


def _fine_tuned_task(path: Path) -> str | None:
    """The name of the task whose head the configuration in a folder names, None for another or none."""
    kind = stated_kind(own_files.json_object(path / own_files.CONFIG))
    return next(
        (name for name, cls in known_tasks().items() if kind is not None and cls.huggingface_head == kind), None
    )


def saved_settings(path: Path) -> Config:
    """What `task.json` in a task's folder holds, or what a folder of `transformers` says of the same.

    Raises:
        CheckpointError: the file cannot be read.
    """
    if (path / TASK_FILE).is_file() or _fine_tuned_task(path) is None:
        settings: Options = read_object(path / TASK_FILE, CheckpointError, {"task": str})
        return settings
    values = own_files.json_object(path / own_files.CONFIG)
    found: Config = {"task": _fine_tuned_task(path)}
    found["multi_label"] = values.get("problem_type") == "multi_label_classification"
    if set(stated_labels(values) or ()) == set("BMES"):
        found |= {"scheme": "bmes", "labels": ["word"]}
    return {**found, **own_parameters(values)}


def task_directory(directory: str | os.PathLike[str]) -> Path:
    """`directory` itself if a task was saved there, or its `best` folder if `fit` wrote it."""
    if not is_path(directory):
        raise CheckpointError(
            f"the folder is {repr(directory)[:80]}; give the path that train --output or save() wrote"
        )
    path = Path(directory)
    for candidate in (path, path / BEST):
        found = whole_folder(candidate)
        finish_update(found)
        if (found / TASK_FILE).is_file():
            return found
    if _fine_tuned_task(path) is not None:
        return path
    what = "holds no saved model (no task.json)" if path.is_dir() else "no such directory"
    if (path / "run.json").is_file() or holds_run(path):
        raise CheckpointError(
            f"{path}: this run has no model yet: its first epoch is not over; wait, or continue it with train --resume"
        )
    raise CheckpointError(f"{path}: {what}; give the folder that train --output or save() wrote")
