"""What verbs that run a model do first; imported only when they run."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from qingformer import backend
from qingformer.cli.console import note
from qingformer.errors import HeadWarning
from qingformer.tasks import Task, load

T = TypeVar("T", bound=Task)


def prepare() -> None:
    """Keep freed memory for the next step, and compiled programs for the next run.

    A home that cannot be written to is no reason to stop.
    """
    backend.check_device()
    backend.keep_freed_memory()
    # JAX complains when a program cannot be kept or read back; it compiles anew, which is all that matters here.
    warnings.filterwarnings("ignore", message="Error (reading|writing) persistent compilation cache")
    if warnings.showwarning.__name__ != "told_as_note":
        warnings.showwarning = _as_note(warnings.showwarning)
    try:
        backend.enable_compilation_cache()
    except OSError:
        return


def _as_note(show: Callable[..., None]) -> Callable[..., None]:
    """Warnings of ours about heads as lines, all others as Python shows them."""

    def told_as_note(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
        if issubclass(category, HeadWarning):
            note(str(message))
        else:
            show(message, category, *place, **more)

    return told_as_note


def new_task(
    task: type[T], source: str | None, from_scratch: str | None, vocabulary: str | Path | None, **options: Any
) -> T:
    """A task that starts from pretrained weights or from random ones; one of the two is given."""
    if from_scratch is not None:
        return task.from_scratch(from_scratch, vocabulary, **options)
    assert source is not None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        made = task.from_pretrained(source, vocabulary=vocabulary, **options)
    for each in caught:
        if each.category is UserWarning:
            note(f"{source}: {each.message}" if not str(each.message).startswith(source) else str(each.message))
        else:
            warnings.showwarning(each.message, each.category, each.filename, each.lineno)
    return made


def load_model(path: Path) -> Any:
    """The task that `train` wrote, whatever its class."""
    prepare()
    return load(path)
