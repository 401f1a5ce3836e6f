"""`qingformer evaluate`: compare a model's predictions with the labels of a file."""

from pathlib import Path
from typing import Annotated

import typer

from qingformer.cli import options

NAME = "evaluate"
EPILOG = """[bold]Examples[/bold]

The score:  qingformer evaluate test.jsonl --model runs/first

For a program:  qingformer evaluate test.jsonl --model runs/first --json | jq .accuracy

Entities:  qingformer evaluate test.conll --model runs/ner

Words:  qingformer evaluate pku_test_gold.utf8 --model runs/words --json | jq .micro.f1

Reading, as SQuAD counts:  qingformer evaluate dev-v1.1.json --model runs/reading --metric squad

The data is that of the model's task; qingformer train --help shows each.
"""


def command(
    file: Annotated[
        str,
        typer.Argument(
            help="Labelled data, as for train: JSONL, JSON, CSV, TSV, columns; or - for standard input.",
            show_default=False,
        ),
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
    label_separator: options.LabelSeparator = None,
    no_label: options.NoLabel = None,
    skip_unlabelled: options.SkipUnlabelled = False,
    joiner: options.Joiner = None,
    strict: options.Strict = False,
    digits: options.Digits = None,
    threshold: options.Threshold = None,
    metric: Annotated[
        str | None, typer.Option(help="How answers of reading are compared: cmrc or squad. [dim]cmrc[/dim]")
    ] = None,
    batch_size: options.BatchSize = 32,
) -> None:
    """Score a model on labelled data.

    Classification: accuracy, macro and weighted F1, each label, the confusion matrix. Entities, words and relations:
    precision, recall and F1. Reading: exact match and F1. Multiple choice: accuracy.
    """  # fmt: skip
    from qingformer.cli.console import note, results, status
    from qingformer.cli.kinds import refuse, saved_kind
    from qingformer.cli.output import check_output
    from qingformer.cli.progress import counting
    from qingformer.cli.running import load_model
    from qingformer.files import write_json

    kind, saved = saved_kind(model)
    given = {
        "text_column": text_column, "pair_column": pair_column, "label_column": label_column, "format": format,
        "columns": options.split_names(columns), "quoting": quoting, "skip_empty": skip_empty, "joiner": joiner,
        "strict": strict, "digits": digits, "threshold": threshold, "metric": metric,
        "label_separator": label_separator, "no_label": no_label, "skip_unlabelled": skip_unlabelled,
    }  # fmt: skip
    refuse(kind, given, f"a model for {kind.name}")
    check_output(output, file)
    examples = kind.read(file, {**given, **saved, "encoding": encoding})
    task = load_model(model)
    with counting(status(), "scoring", len(examples), kind.unit) as done:
        report = task.evaluate(examples, batch_size=batch_size, done=done, **kind.evaluating(given))
    for cut in task.cut.values():
        note(cut)
    found = kind.as_json(report, task, examples.name)
    if output is not None:
        write_json(output, found)
    if json:
        from json import dumps

        typer.echo(dumps(found, ensure_ascii=False))
    else:
        kind.print_report(results(), report, task, f"score on {examples.name}")
