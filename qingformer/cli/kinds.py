"""The kinds of tasks that the command line knows."""

from pathlib import Path
from typing import Any

from qingformer.cli.kind import Kind, Options, refuse_others
from qingformer.cli.kind_answering import ChoiceKind, ReadingKind
from qingformer.cli.kind_classification import ClassificationKind
from qingformer.cli.kind_extraction import RelationKind
from qingformer.cli.kind_tagging import EntityKind, SegmentationKind
from qingformer.errors import CheckpointError, ConfigError
from qingformer.tasks.task_registry import TASK_FILE, saved_settings, task_directory
from qingformer.training import read_whole

KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (ClassificationKind(), EntityKind(), SegmentationKind(), RelationKind(), ReadingKind(), ChoiceKind())
}


def kind_named(name: str) -> Kind:
    """The kind of `--task name`.

    Raises:
        ConfigError: there is none of that name.
    """
    if name not in KINDS:
        raise ConfigError(f"--task is {name!r}; choose one of {', '.join(KINDS)}")
    return KINDS[name]


def saved_kind(model: Path) -> tuple[Kind, dict[str, Any]]:
    """The kind of a saved model, and what its settings say about reading data for it.

    Raises:
        CheckpointError: there is no model, or one that this version does not know.
    """
    path, settings = read_whole(lambda: task_directory(model), lambda found: (found / TASK_FILE, saved_settings(found)))
    found = [kind for kind in KINDS.values() if kind.task.task_name == settings.get("task") and kind.is_saved(settings)]
    if not found:
        known = ", ".join(dict.fromkeys(kind.task.task_name for kind in KINDS.values()))
        raise CheckpointError(f"{path}: task {settings.get('task')!r} is not known; known tasks: {known}")
    return found[0], found[0].saved(settings)


def refuse(kind: Kind, options: Options, whose: str | None = None) -> None:
    """Refuse options that do not go with a kind, or with each other; `whose` says what was chosen.

    Raises:
        ConfigError: names the option, and the tasks that have it.
    """
    refuse_others(kind, options, KINDS.values(), whose or f"--task {kind.name}")
