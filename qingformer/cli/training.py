"""The work of `qingformer train`; imported only when it runs."""

import dataclasses
import time
from pathlib import Path
from typing import Any

from qingformer.cli.console import note, results, status
from qingformer.cli.kind import Kind
from qingformer.cli.kinds import kind_named, refuse
from qingformer.cli.progress import counting, training
from qingformer.cli.running import new_task, prepare
from qingformer.cli.settings import RunDirectory, Settings, check_begun, parse_transforms
from qingformer.errors import ConfigError
from qingformer.files import write_json
from qingformer.tasks import Task
from qingformer.tasks.task_registry import BEST
from qingformer.training import PlotError, TrainingInterrupted, locked, plot_curve

__all__ = ["Settings", "train_task"]


def train_task(settings: Settings, output: Path, *, save_every: int | None, resume: bool, overwrite: bool) -> None:
    """Read everything that can be wrong first, then train, draw, and score; the folder is locked all the while."""
    kind, options = kind_named(settings.task), dataclasses.asdict(settings)
    refuse(kind, options)
    transforms = parse_transforms(settings.transforms)
    fitting = kind.fitting(options)
    if resume and overwrite:
        raise ConfigError("--resume continues the run in --output, --overwrite replaces it; choose one")
    if output.exists() and not output.is_dir():
        raise ConfigError(f"{output}: is a file; choose another --output")
    if resume:
        check_begun(output)
    with locked(output):
        directory = RunDirectory(output, settings, resume=resume, overwrite=overwrite)
        directory.check()
        parts = {
            name: kind.read(path, options)
            for name, path in (("train", settings.train), ("dev", settings.dev), ("test", settings.test))
            if path is not None
        }
        prepare()
        task = _new_task(kind, settings)
        task.check_data(parts["train"], *(parts[name] for name in ("dev", "test") if name in parts))
        out = results()
        out.print(_opening(settings, parts, kind.unit), markup=False)
        began = time.perf_counter()
        try:
            with training(out, status()) as progress:
                task.fit(
                    parts["train"], parts.get("dev"), epochs=settings.epochs, batch_size=settings.batch_size,
                    learning_rate=settings.learning_rate, transforms=transforms, seed=settings.seed,
                    monitor=settings.monitor, patience=settings.patience,
                    directory=directory, save_every=save_every, resume=resume, progress=progress, **fitting,
                )  # fmt: skip
        except TrainingInterrupted as stop:
            message = f"stopped; to continue where it was, run the same command with --resume ({output})"
            raise TrainingInterrupted(message, stop.signal) from None
        except OSError as problem:  # NumPy's writers do not say which file it was
            raise OSError(problem.errno, problem.strerror or str(problem), problem.filename or str(output)) from problem
        out.print(f"trained in {time.perf_counter() - began:.1f} s", markup=False)
        _finish(kind, task, parts.get("test"), output, settings.batch_size)


def _new_task(kind: Kind, settings: Settings) -> Task:
    dtype = None if settings.precision == "float32" else settings.precision
    common: dict[str, Any] = {"max_length": settings.max_length, "seed": settings.seed, "dtype": dtype}
    made: Task = new_task(
        kind.task, settings.source, settings.from_scratch, settings.vocabulary, **common,
        **kind.settings(dataclasses.asdict(settings)),
    )  # fmt: skip
    return made


def _opening(settings: Settings, parts: dict[str, Any], unit: str) -> str:
    start = f"{settings.from_scratch} model from scratch" if settings.from_scratch else f"{settings.source}"
    sizes = ", ".join(f"{len(examples)} {name}" for name, examples in parts.items())
    return f"{start}; {unit}: {sizes}"


def _finish(kind: Kind, task: Any, test: Any, output: Path, batch_size: int) -> None:
    out = results()
    if test is not None:
        with counting(status(), "scoring", len(test), kind.unit) as done:
            report = task.evaluate(test, batch_size=batch_size, done=done)
        write_json(output / "report.json", kind.as_json(report, task, test.name))
        kind.print_report(out, report, task, f"held-out score on {test.name}")
    for cut in task.cut.values():
        note(cut)
    out.print(f"model  {output / BEST}", markup=False)
    try:
        out.print(f"curve  {plot_curve(output / 'curve.jsonl', output / 'curve.png')}", markup=False)
    except PlotError as problem:
        out.print(f"curve  {output / 'curve.jsonl'}", markup=False)
        note(str(problem))
