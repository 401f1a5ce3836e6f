"""`qingformer evaluate`: compare a model's predictions with the labels of a file."""

from pathlib import Path
from typing import Annotated

import typer

from qingformer.cli import options

NAME = "evaluate"
EPILOG = """[bold]Examples[/bold]

The score:  qingformer evaluate test.jsonl --model runs/first

For a program:  qingformer evaluate test.jsonl --model runs/first --json | jq .accuracy
"""


def command(
    file: Annotated[
        str, typer.Argument(help="Labelled data: JSONL, JSON, CSV or TSV, or - for standard input.", show_default=False)
    ],
    model: options.Model,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write the report here too, as JSON.")] = None,
    json: Annotated[
        bool, typer.Option("--json", help="Print the report as one line of JSON instead of tables.")
    ] = False,
    text_column: options.TextColumn = None,
    pair_column: options.PairColumn = None,
    label_column: options.LabelColumn = None,
    format: options.Format = None,
    columns: options.Columns = None,
    encoding: options.Encoding = "utf-8",
    quoting: options.Quoting = None,
    skip_empty: options.SkipEmpty = False,
    threshold: Annotated[
        float,
        typer.Option(min=0.0, max=1.0, help="Least probability of a label, for models with several labels a text."),
    ] = 0.5,
    batch_size: options.BatchSize = 32,
) -> None:
    """Score a model on labelled texts: accuracy, macro and weighted F1, each label, the confusion matrix."""
    from qingformer.cli.console import note, results, status
    from qingformer.cli.progress import counting
    from qingformer.cli.report import as_json, print_report
    from qingformer.cli.running import load_model
    from qingformer.files import write_json
    from qingformer.tasks import Columns
    from qingformer.tasks.examples import read_examples

    where = Columns(
        text_column, pair_column, label_column, options.split_names(columns), format,
        encoding=encoding, quoting=quoting, skip_empty=skip_empty,
    )  # fmt: skip
    classifier = load_model(model)
    examples = read_examples(file, where, multi_label=classifier.multi_label)
    with counting(status(), "scoring", len(examples)) as done:
        report = classifier.evaluate(examples, batch_size=batch_size, threshold=threshold, done=done)
    for cut in classifier.cut.values():
        note(cut)
    assert classifier.labels is not None
    found = as_json(report, classifier.labels, examples.name)
    if output is not None:
        write_json(output, found)
    if json:
        from json import dumps

        typer.echo(dumps(found, ensure_ascii=False))
    else:
        print_report(results(), report, classifier.labels, f"score on {examples.name}")
