"""Which class reads a saved task: `task.json` names it."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from qingformer.errors import CheckpointError
from qingformer.files import read_json
from qingformer.folders import finish_update
from qingformer.training import holds_run, read_whole, whole_folder

TASK_FILE = "task.json"
BEST = "best"  # where a run keeps the model to use
TASKS: dict[str, Any] = {}
Task = TypeVar("Task", bound=type)


def register_task(name: str) -> Callable[[Task], Task]:
    """Enter a task class under the name that its `task.json` carries."""

    def enter(cls: Task) -> Task:
        cls.task_name = name  # type: ignore[attr-defined]
        TASKS[name] = cls
        return cls

    return enter


def load(directory: str | os.PathLike[str], **options: Any) -> Any:
    """Read a task saved by `save`, or the best model of a run's output folder, whatever its class.

    Raises:
        CheckpointError: no task there, or one that this version does not know.

    Example: `classifier = load("runs/demo")`
    """
    return read_whole(lambda: task_directory(directory), lambda path: _load(path, options))


def _load(path: Path, options: dict[str, Any]) -> Any:
    name = read_json(path / TASK_FILE, CheckpointError).get("task")
    if name not in TASKS:
        raise CheckpointError(f"{path / TASK_FILE}: task {name!r} is not known; known tasks: {', '.join(TASKS)}")
    return TASKS[name].load(path, **options)


def task_directory(directory: str | os.PathLike[str]) -> Path:
    """`directory` itself if a task was saved there, or its `best` folder if `fit` wrote it."""
    path = Path(directory)
    for candidate in (path, path / BEST):
        found = whole_folder(candidate)
        finish_update(found)
        if (found / TASK_FILE).is_file():
            return found
    what = "holds no saved model (no task.json)" if path.is_dir() else "no such directory"
    if (path / "run.json").is_file() or holds_run(path):
        raise CheckpointError(
            f"{path}: this run has no model yet: its first epoch is not over; wait, or continue it with train --resume"
        )
    raise CheckpointError(f"{path}: {what}; give the folder that train --output or save() wrote")
