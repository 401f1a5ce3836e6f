"""The work of `qingformer train`; imported only when it runs."""

import time
from pathlib import Path
from typing import Any

from qingformer.cli.console import note, results, status
from qingformer.cli.progress import counting, training
from qingformer.cli.report import as_json, print_report
from qingformer.cli.running import new_classifier, prepare
from qingformer.cli.settings import Settings, claim_folder, parse_class_weights, parse_transforms
from qingformer.files import write_json
from qingformer.tasks import Columns, TextClassifier
from qingformer.tasks.examples import read_examples
from qingformer.tasks.registry import BEST
from qingformer.training import PlotError, TrainingInterrupted, plot_curve

__all__ = ["Settings", "train_classifier"]


def train_classifier(
    settings: Settings, output: Path, *, save_every: int | None, resume: bool, overwrite: bool
) -> None:
    """Read everything that can be wrong first, then train, draw, and score."""
    transforms = parse_transforms(settings.transforms)
    class_weights = parse_class_weights(settings.class_weights)
    columns = Columns(
        settings.text_column, settings.pair_column, settings.label_column, settings.columns, settings.format,
        encoding=settings.encoding, quoting=settings.quoting, skip_empty=settings.skip_empty,
    )  # fmt: skip
    parts = {
        name: read_examples(path, columns, multi_label=settings.multi_label)
        for name, path in (("train", settings.train), ("dev", settings.dev), ("test", settings.test))
        if path is not None
    }
    prepare()
    classifier = _new_classifier(settings)
    classifier.check_labels(parts["train"], *(parts[name] for name in ("dev", "test") if name in parts))
    claim_folder(output, settings, resume=resume, overwrite=overwrite)
    out = results()
    out.print(_opening(settings, parts), markup=False)
    began = time.perf_counter()
    try:
        with training(out, status()) as progress:
            classifier.fit(
                parts["train"], parts.get("dev"), epochs=settings.epochs, batch_size=settings.batch_size,
                learning_rate=settings.learning_rate, transforms=transforms, loss=settings.loss,
                class_weights=class_weights, seed=settings.seed, directory=output, save_every=save_every,
                resume=resume, progress=progress,
            )  # fmt: skip
    except TrainingInterrupted:
        raise KeyboardInterrupt(
            f"stopped; to continue where it was, run the same command with --resume ({output})"
        ) from None
    except OSError as problem:  # NumPy's writers do not say which file it was
        raise OSError(problem.errno, problem.strerror or str(problem), problem.filename or str(output)) from problem
    out.print(f"trained in {time.perf_counter() - began:.1f} s", markup=False)
    _finish(classifier, parts.get("test"), output, settings.batch_size)


def _new_classifier(settings: Settings) -> TextClassifier:
    dtype = None if settings.precision == "float32" else settings.precision
    common: dict[str, Any] = {
        "multi_label": settings.multi_label, "max_length": settings.max_length, "seed": settings.seed, "dtype": dtype,
    }  # fmt: skip
    return new_classifier(settings.source, settings.from_scratch, settings.vocabulary, **common)


def _opening(settings: Settings, parts: dict[str, Any]) -> str:
    start = f"{settings.from_scratch} model from scratch" if settings.from_scratch else f"{settings.source}"
    sizes = ", ".join(f"{len(examples)} {name}" for name, examples in parts.items())
    return f"{start}; texts: {sizes}"


def _finish(classifier: TextClassifier, test: Any, output: Path, batch_size: int) -> None:
    out = results()
    if test is not None:
        with counting(status(), "scoring", len(test)) as done:
            report = classifier.evaluate(test, batch_size=batch_size, done=done)
        assert classifier.labels is not None
        write_json(output / "report.json", as_json(report, classifier.labels, test.name))
        print_report(out, report, classifier.labels, f"held-out score on {test.name}")
    for cut in classifier.cut.values():
        note(cut)
    out.print(f"model  {output / BEST}", markup=False)
    try:
        out.print(f"curve  {plot_curve(output / 'curve.jsonl', output / 'curve.png')}", markup=False)
    except PlotError as problem:
        out.print(f"curve  {output / 'curve.jsonl'}", markup=False)
        note(str(problem))
