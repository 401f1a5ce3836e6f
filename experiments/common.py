"""What the experiments share: reading their arguments, and a table of several methods over several seeds."""

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

SAMPLE = Path(__file__).resolve().parent.parent / "samples" / "intents"


def arguments(
    description: str,
    *,
    epochs: int,
    train_size: int | None = None,
    max_length: int | None = None,
    batch_size: int | None = None,
    seeds: int = 3,
) -> argparse.ArgumentParser:
    """The options of every experiment, and those of `fit` that it passes on; the bundled sample is the default."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--train", default=str(SAMPLE / "train.jsonl"), help="training data")
    parser.add_argument("--test", default=str(SAMPLE / "test.jsonl"), help="held-out data")
    parser.add_argument("--train-size", type=int, default=train_size, help="use only so many training rows")
    parser.add_argument("--seeds", type=int, default=seeds, help="runs of each method")
    parser.add_argument("--epochs", type=int, default=epochs, help="passes over the training data")
    if max_length is not None:
        parser.add_argument("--max-length", type=int, default=max_length, help="longest text in tokens")
    if batch_size is not None:
        parser.add_argument("--batch-size", type=int, default=batch_size, help="texts a step")
    parser.add_argument("--output", help="write the table as JSON here")
    return parser


def read(path: str, size: int | None = None) -> list[dict[str, str]]:
    """Rows of a JSONL, JSON, CSV or TSV file, at most `size` of them, as `{"text": ..., "label": ...}`."""
    from qingformer.tasks.classification.text_examples import read_examples

    examples = read_examples(path)
    if any(example.labels is None or example.pair is not None for example in examples):
        raise SystemExit(f"{path}: expected single texts with labels")
    rows = [{"text": example.text, "label": example.label or ""} for example in examples]
    return rows if size is None else rows[:size]


def pretrained_arguments(description: str, **options: Any) -> argparse.ArgumentParser:
    """`arguments` of an experiment that trains on other texts first and then fine-tunes on few labels."""
    parser = arguments(description, epochs=10, train_size=200, max_length=48, batch_size=16, **options)
    parser.add_argument("--pretrain", help="labelled texts for the first training; its labels may be others")
    parser.add_argument("--pretrain-size", type=int, default=8000, help="rows of it")
    parser.add_argument("--pretrain-epochs", type=int, default=3, help="passes over it")
    parser.add_argument("--learning-rate", type=float, default=5e-4, help="of the fine-tuning")
    return parser


class FineTuning:
    """A tiny classifier that is trained once, on the texts of `--pretrain`, and then fine-tuned again and again.

    Without that file one half of the labels of the training data serves for the first training, and the fine-tuning
    learns the other half. Texts of the test are in neither training.
    """

    def __init__(self, given: argparse.Namespace) -> None:
        import qingformer as qf

        self.given = given
        train, self.test = read(given.train), read(given.test)
        if given.pretrain:
            first = read(given.pretrain)
        else:
            labels = sorted({row["label"] for row in train})[::2]
            first = [row for row in train if row["label"] in labels]
            train, self.test = ([row for row in rows if row["label"] not in labels] for rows in (train, self.test))
        seen = {row["text"] for row in self.test}
        first, self.train = ([row for row in rows if row["text"] not in seen] for rows in (first, train))
        self.labels = sorted({row["label"] for row in self.train})
        first = first[: given.pretrain_size]
        pretrained = qf.TextClassifier.from_scratch("tiny", max_length=given.max_length)
        curve = pretrained.fit(first, epochs=given.pretrain_epochs, batch_size=32, verbose=0)
        print(f"pre-trained on {len(first)} texts; accuracy in the last epoch {curve['accuracy'][-1]:.3f}")
        assert pretrained.backbone is not None
        self.tokenizer, self.weights = pretrained.tokenizer, pretrained.backbone.get_weights()
        size = min(given.train_size, len(self.train))
        self.title = f"{size} of {len(self.train)} texts, {len(self.labels)} classes, test {len(self.test)}"

    def score(self, seed: int, transforms: Sequence[Any], factor: float = 1.0, passes: int = 1) -> dict[str, float]:
        """Held-out accuracy and macro F1 after fine-tuning on the texts that `seed` draws.

        With `factor` times the learning rate and `passes` times the epochs.
        """
        import qingformer as qf

        given = self.given
        rows = [self.train[i] for i in np.random.default_rng(seed).permutation(len(self.train))[: given.train_size]]
        settings = {"labels": self.labels, "max_length": given.max_length, "seed": seed}
        classifier = qf.TextClassifier.from_scratch("tiny", self.tokenizer, **settings)
        assert classifier.backbone is not None
        classifier.backbone.set_weights(self.weights)
        classifier.fit(
            rows, epochs=passes * given.epochs, batch_size=given.batch_size, seed=seed, verbose=0,
            learning_rate=factor * given.learning_rate, transforms=transforms,
        )  # fmt: skip
        report = classifier.evaluate(self.test)
        return {"accuracy": report.accuracy, "macro F1": report.macro.f1}


def compare(
    title: str,
    methods: Mapping[str, Callable[[int], float | Mapping[str, float]]],
    seeds: int,
    output: str | None = None,
    measure: str = "accuracy",
) -> dict[str, dict[str, list[float]]]:
    """Run every method with the seeds 0, 1, ...; print mean and deviation of each measure, and the difference.

    A method is a function of the seed that gives one number or several by name. The same seed stands for the same
    start and order of the data in every method, so that differences are paired: the column behind a measure is the
    mean difference to the first method and its standard error.
    """
    from qingformer import backend

    backend.enable_compilation_cache()  # all seeds of a method run the same programs
    backend.keep_freed_memory()
    found: dict[str, dict[str, list[float]]] = {name: {} for name in methods}
    seconds = dict.fromkeys(methods, 0.0)
    console = Console()
    with Progress(console=console, transient=True) as progress:
        bar = progress.add_task(title, total=seeds * len(methods))
        for seed in range(seeds):  # method after method for each seed, so that a slow minute falls on all of them
            for name, method in methods.items():
                progress.update(bar, description=f"{name}, seed {seed}")
                began = time.perf_counter()
                result = method(seed)
                seconds[name] += time.perf_counter() - began
                for key, value in (result if isinstance(result, Mapping) else {measure: result}).items():
                    found[name].setdefault(key, []).append(float(value))
                progress.advance(bar)
    table = Table(title=f"{title} ({seeds} seeds: mean ± deviation; difference ± standard error)")
    table.add_column("method")
    measures = list(dict.fromkeys(key for values in found.values() for key in values))
    for key in measures:
        table.add_column(key, justify="right")
        table.add_column("difference", justify="right")
    table.add_column("s a run", justify="right")
    first = next(iter(found.values()))
    for name, values in found.items():
        cells = [name]
        for key in measures:
            cells += [_spread(values.get(key)), "" if values is first else _difference(values.get(key), first.get(key))]
        table.add_row(*cells, f"{seconds[name] / seeds:.0f}")
    console.print(table)
    if output:
        Path(output).write_text(json.dumps(found, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    return found


def _spread(values: list[float] | None) -> str:
    if not values:
        return ""
    deviation = np.std(values, ddof=1) if len(values) > 1 else float("nan")
    return f"{np.mean(values):.4f} ± {deviation:.4f}"


def _difference(values: list[float] | None, first: list[float] | None) -> str:
    if not values or not first or len(values) != len(first):
        return ""
    gaps = np.subtract(values, first)
    error = np.std(gaps, ddof=1) / np.sqrt(len(gaps)) if len(gaps) > 1 else float("nan")
    return f"{gaps.mean():+.4f} ± {error:.4f}"
