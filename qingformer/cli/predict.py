"""`qingformer predict`: what a model says about a file or standard input, by default one JSON object a line."""

from pathlib import Path
from typing import Annotated

import typer

from qingformer.cli import options

NAME = "predict"
OUTPUT = "What to write"
EPILOG = """[bold]Examples[/bold]

One sentence:  echo 今天天气不错 | qingformer predict --model runs/first

A file:  qingformer predict texts.jsonl --model runs/first --output answers.jsonl

Only the labels:  qingformer predict texts.txt -m runs/first | jq -r .label

Entities in colour:  echo 叶老桂在北京 | qingformer predict --model runs/ner --color

Entities for brat:  qingformer predict texts.txt --model runs/ner --output-format brat --output annotated

Words:  qingformer predict pku_test.utf8 --model runs/words --output-format words --output words.txt

Triples:  qingformer predict texts.txt --model runs/triples | jq -c '.triples[]'

Answers:  qingformer predict questions.jsonl --model runs/reading --n-best 3

[bold]Data[/bold]  Texts are a line each or {"text": ...}; questions are {"context": ..., "question": ...}, with
"choices" for multiple choice, or the JSON that train takes.
"""


def command(
    model: options.Model,
    file: Annotated[
        str, typer.Argument(help="JSONL, JSON, CSV, TSV or plain text (a text a line), or - for standard input.")
    ] = "-",
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Write here instead of to standard output.", rich_help_panel=OUTPUT),
    ] = None,
    output_format: Annotated[
        str | None,
        typer.Option(
            help="jsonl, or for entities and words conll or brat (a folder), for words also words. [dim]jsonl[/dim]",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    color: Annotated[
        bool | None,
        typer.Option(
            "--color/--no-color",
            help="Entities and words as text to read, in colour. [dim]On a terminal.[/dim]",
            rich_help_panel=OUTPUT,
            show_default=False,
        ),
    ] = None,
    text_column: options.TextColumn = None,
    pair_column: options.PairColumn = None,
    format: options.Format = None,
    columns: options.Columns = None,
    encoding: options.Encoding = "utf-8",
    quoting: options.Quoting = None,
    skip_empty: options.SkipEmpty = False,
    joiner: options.Joiner = None,
    digits: options.Digits = None,
    all_probabilities: Annotated[
        bool, typer.Option("--all/--best", help="Give the probability of every label, or of the best one only.")
    ] = False,
    threshold: options.Threshold = None,
    n_best: Annotated[int | None, typer.Option(min=1, help="Answers to a question, for reading. [dim]1[/dim]")] = None,
    batch_size: options.BatchSize = 32,
) -> None:
    """Say what a model finds in texts: JSON lines on standard output.

    A line has text, label and probability; or text and entities, text and triples, question and answer.

    Standard output holds nothing else, so it can be piped; bars and notes go to standard error. On a terminal entities
    and words are shown in the text itself.
    """  # fmt: skip
    from qingformer.cli.console import note, status
    from qingformer.cli.kinds import refuse, saved_kind
    from qingformer.cli.output import check_output, choose_form, coloured_results
    from qingformer.cli.progress import counting
    from qingformer.cli.running import load_model

    kind, saved = saved_kind(model)
    whose = f"a model for {kind.name}"
    given = {
        "text_column": text_column, "pair_column": pair_column, "format": format, "quoting": quoting,
        "columns": options.split_names(columns), "skip_empty": skip_empty, "joiner": joiner, "digits": digits,
        "all_probabilities": all_probabilities, "threshold": threshold, "n_best": n_best,
    }  # fmt: skip
    refuse(kind, given, whose)
    form = choose_form(kind.formats, kind.coloured, output, output_format, color, whose)
    if form != "brat":
        check_output(output, file)
    examples = kind.read(file, {**given, **saved, "encoding": encoding}, labelled=False)
    task = load_model(model)
    with counting(status(), "predicting", len(examples), kind.unit) as done:
        predictions = task.predict(examples, batch_size=batch_size, done=done, **kind.predicting(given))
    for cut in task.cut.values():
        note(cut)
    if form is None:
        out = coloured_results()
        for prediction in predictions:
            kind.show(out, task, prediction)
        return
    for sentence in kind.write(form, task, examples, predictions, output):
        note(sentence)
