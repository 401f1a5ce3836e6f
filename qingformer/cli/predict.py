"""`qingformer predict`: labels for the texts of a file or of standard input, one JSON object a line."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qingformer.cli import options

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import IO

NAME = "predict"
EPILOG = """[bold]Examples[/bold]

One sentence:  echo 今天天气不错 | qingformer predict --model runs/first

A file:  qingformer predict texts.jsonl --model runs/first --output answers.jsonl

Only the labels:  qingformer predict texts.txt -m runs/first | jq -r .label
"""


def command(
    model: options.Model,
    file: Annotated[
        str, typer.Argument(help="JSONL, JSON, CSV, TSV or plain text (a text a line), or - for standard input.")
    ] = "-",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write here instead of to standard output.")
    ] = None,
    text_column: options.TextColumn = None,
    pair_column: options.PairColumn = None,
    format: options.Format = None,
    columns: options.Columns = None,
    encoding: options.Encoding = "utf-8",
    quoting: options.Quoting = None,
    skip_empty: options.SkipEmpty = False,
    all_probabilities: Annotated[
        bool, typer.Option("--all/--best", help="Give the probability of every label, or of the best one only.")
    ] = False,
    threshold: Annotated[
        float,
        typer.Option(min=0.0, max=1.0, help="Least probability of a label, for models with several labels a text."),
    ] = 0.5,
    batch_size: options.BatchSize = 32,
) -> None:
    """Name the labels of texts: JSON lines with text, label and probability on standard output.

    Standard output holds nothing else, so it can be piped; bars and notes go to standard error.
    """
    from qingformer.cli.console import note, status
    from qingformer.cli.progress import counting
    from qingformer.cli.running import load_model
    from qingformer.tasks.examples import Columns, read_examples

    where = Columns(
        text_column, pair_column, None, options.split_names(columns), format,
        encoding=encoding, quoting=quoting, skip_empty=skip_empty,
    )  # fmt: skip
    examples = read_examples(file, where, labelled=False)
    classifier = load_model(model)
    with counting(status(), "predicting", len(examples)) as done:
        predictions = classifier.predict(
            examples, return_probabilities=all_probabilities, batch_size=batch_size, threshold=threshold, done=done
        )
    for cut in classifier.cut.values():
        note(cut)
    _write((_row(example, found, classifier.multi_label) for example, found in zip(examples, predictions)), output)


def _row(example: Any, prediction: Any, multi_label: bool) -> dict[str, Any]:
    row: dict[str, Any] = {"text": example.text}
    if example.pair is not None:
        row["pair"] = example.pair
    if multi_label:
        row["labels"] = list(prediction.labels)
    else:
        row["label"] = prediction.label
    row["probability"] = round(prediction.probability, 6)
    if prediction.probabilities is not None:
        row["probabilities"] = {label: round(value, 6) for label, value in prediction.probabilities.items()}
    return row


def _write(rows: "Iterator[dict[str, Any]]", output: Path | None) -> None:
    import sys

    from qingformer.files import atomic_file

    if output is None:
        _write_lines(rows, sys.stdout)
        return
    with atomic_file(output) as temporary, temporary.open("w", encoding="utf-8") as stream:
        _write_lines(rows, stream)


def _write_lines(rows: "Iterable[dict[str, Any]]", stream: "IO[str]") -> None:
    import json

    for row in rows:
        stream.write(json.dumps(row, ensure_ascii=False) + "\n")
    stream.flush()
