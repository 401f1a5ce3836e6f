"""The work of `qingformer train`, and what all verbs that run a model do first; imported only when they run."""

import time
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from qingformer import backend
from qingformer.cli.console import note, results, status
from qingformer.cli.options import refuse_others
from qingformer.cli.progress import counting, training
from qingformer.cli.run_directory import RunDirectory, check_begun, parse_transforms, settings_of
from qingformer.errors import ConfigError, HeadWarning
from qingformer.files import write_json
from qingformer.tasks import Task, load
from qingformer.tasks.task_options import TaskEntry, task_entries
from qingformer.tasks.task_registry import BEST
from qingformer.training import PlotError, TrainingInterrupted, locked, plot_curve
from qingformer.types import Config, Values

if TYPE_CHECKING:
    from rich.console import Console

T = TypeVar("T", bound=Task)


def train_task(values: Config, output: Path, *, save_every: int | None, resume: bool, overwrite: bool) -> None:
    """Read everything that can be wrong first, then train, draw, and score; the folder is locked all the while."""
    if values["task"] not in task_entries():
        raise ConfigError(f"--task is {values['task']!r}; choose one of {', '.join(task_entries())}")
    entry = task_entries()[values["task"]]
    settings = settings_of(values, entry.max_length)
    refuse_others(entry, "train", values, f"--task {entry.name}")
    cls = entry.task_class()
    # What the name of the task fixes about reading (words, not entities), below what was given.
    reading = {**cls.saved_options(entry.fixed), **values}
    transforms, more = parse_transforms(settings["transforms"]), cls.fit_arguments(values)
    if resume and overwrite:
        raise ConfigError("--resume continues the run in --output, --overwrite replaces it; choose one")
    if output.exists() and not output.is_dir():
        raise ConfigError(f"{output}: is a file; choose another --output")
    if resume:
        check_begun(output)
    # From before the settings are compared until the score is written: a second start finds the folder taken.
    with locked(output):
        directory = RunDirectory(output, settings, resume=resume, overwrite=overwrite)
        directory.check()
        parts = {
            name: cls.read_file(settings[name], reading)
            for name in ("train", "dev", "test")
            if settings[name] is not None
        }
        prepare()
        task = _new_task(entry, values, settings)
        # Labels that only the test file has are found now, and not after hours of training.
        task.check_data(parts["train"], *(parts[name] for name in ("dev", "test") if name in parts))
        out = results()
        out.print(_opening(settings, parts, entry.unit), markup=False)
        began = time.perf_counter()
        try:
            with training(out, status()) as progress:
                common = {
                    name: values[name] for name in "epochs batch_size learning_rate seed monitor patience".split()
                }
                task.fit(
                    parts["train"], parts.get("dev"), transforms=transforms, directory=directory,
                    save_every=save_every, resume=resume, progress=progress, **common, **more,
                )  # fmt: skip
        except TrainingInterrupted as stop:
            message = f"stopped; to continue where it was, run the same command with --resume ({output})"
            raise TrainingInterrupted(message, stop.signal) from None
        except OSError as problem:  # NumPy's writers do not say which file it was
            raise OSError(problem.errno, problem.strerror or str(problem), problem.filename or str(output)) from problem
        out.print(f"trained in {time.perf_counter() - began:.1f} s", markup=False)
        _finish(entry, task, parts.get("test"), output, values["batch_size"])


def _new_task(entry: TaskEntry, values: Values, settings: Values) -> Task:
    dtype = None if settings["precision"] == "float32" else settings["precision"]
    cls = entry.task_class()
    return new_task(
        cls, settings["source"], settings["from_scratch"], settings["vocabulary"], max_length=settings["max_length"],
        seed=settings["seed"], dtype=dtype, **entry.constructor_arguments(values), **cls.more_arguments(values),
    )  # fmt: skip


def _opening(settings: Values, parts: Config, unit: str) -> str:
    start = f"{settings['from_scratch']} model from scratch" if settings["from_scratch"] else str(settings["source"])
    sizes = ", ".join(f"{len(examples)} {name}" for name, examples in parts.items())
    return f"{start}; {unit}: {sizes}"


def _finish(entry: TaskEntry, task: Any, test: Any, output: Path, batch_size: int) -> None:
    out = results()
    if test is not None:
        with counting(status(), "scoring", len(test), entry.unit) as done:
            report = task.evaluate(test, batch_size=batch_size, done=done)
        write_json(output / "report.json", task.report_dict(report, test.name))
        print_report(out, task.report_sections(report), f"held-out score on {test.name}")
    for cut in task.cut.values():
        note(cut)
    out.print(f"model  {output / BEST}", markup=False)
    try:
        out.print(f"curve  {plot_curve(output / 'curve.jsonl', output / 'curve.png')}", markup=False)
    except PlotError as problem:
        out.print(f"curve  {output / 'curve.jsonl'}", markup=False)
        note(str(problem))


def print_report(out: "Console", sections: Iterable[tuple[str, str]], title: str) -> None:
    """A score as text."""
    out.print(title, markup=False, style="bold")
    for heading, text in sections:
        if heading:
            out.print(heading, markup=False, style="bold")
        out.print(text, markup=False)


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

    def told_as_note(message: Warning | str, category: type[Warning], *place: object, **more: object) -> None:
        if issubclass(category, HeadWarning):
            note(str(message))
        else:
            show(message, category, *place, **more)

    return told_as_note


def new_task(
    task: type[T], source: str | None, from_scratch: str | None, vocabulary: str | Path | None, **options: object
) -> T:
    """A task that starts from pretrained weights or from random ones; one of the two is given."""
    if from_scratch is not None:
        return task.from_scratch(from_scratch, vocabulary, **options)
    assert source is not None
    with warnings.catch_warnings(record=True) as caught:
        # Warnings of loading become notes with the name of the source, in its order among the other lines.
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
