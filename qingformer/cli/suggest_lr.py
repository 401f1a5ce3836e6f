"""`qingformer suggest-lr`: how the learning rate should follow the batch size, from the noise of real gradients."""

from pathlib import Path
from typing import Annotated

import typer

from qingformer.cli import options

NAME = "suggest-lr"
EPILOG = """[bold]Examples[/bold]

A run at 32, now at 256:  qingformer suggest-lr train.jsonl --model runs/first --learning-rate 5e-5 --batch-size 32
--new-batch-size 256

Before any training:  qingformer suggest-lr train.jsonl --source my-bert --learning-rate 5e-5

With a picture:  qingformer suggest-lr train.jsonl --model runs/first --learning-rate 5e-5 --plot rates.png

[bold]What is measured[/bold]  The gradient noise scale, the batch size at which the noise of a gradient is as large as
the gradient: far below it a larger batch wants a larger rate, far above it the rate stays. It changes
as the model learns, so measure at the weights that matter. The rate in use is taken to be a good one.
"""
WORK = "The measurement"


def command(
    file: Annotated[
        str, typer.Argument(help="Labelled data: JSONL, JSON, CSV or TSV, or - for standard input.", show_default=False)
    ],
    learning_rate: Annotated[float, typer.Option(help="The rate in use.", show_default=False)],
    batch_size: Annotated[int, typer.Option(min=1, help="The batch size it is used at.")] = 32,
    new_batch_size: Annotated[
        list[int] | None,
        typer.Option(min=1, help="May be given several times. [dim]A half, 2, 4 and 16 times --batch-size.[/dim]"),
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option(
            "--model", "-m", help="What `train --output` wrote: the run's folder.", rich_help_panel=options.START
        ),
    ] = None,
    source: options.Source = None,
    from_scratch: options.FromScratch = None,
    vocabulary: options.Vocabulary = None,
    multi_label: options.MultiLabel = False,
    max_length: Annotated[
        int | None,
        typer.Option(
            help="Longest input in tokens. [dim]128; a trained model has its own.[/dim]", rich_help_panel=options.START
        ),
    ] = None,
    texts: Annotated[int, typer.Option(min=1, help="Texts drawn for it.", rich_help_panel=WORK)] = 512,
    rows: Annotated[int, typer.Option(min=1, help="Texts per gradient.", rich_help_panel=WORK)] = 4,
    dropout: Annotated[
        bool, typer.Option("--dropout/--no-dropout", help="Whether dropout's noise counts.", rich_help_panel=WORK)
    ] = True,
    seed: Annotated[int, typer.Option(help="Of the draw and of dropout.", rich_help_panel=WORK)] = 0,
    layers: Annotated[bool, typer.Option("--layers", help="List the noise scale of every layer.")] = False,
    plot: Annotated[Path | None, typer.Option(help="Draw the curves into this PNG.", show_default=False)] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object instead of tables.")] = False,
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
) -> None:
    """Measure the noise of the gradient and say which learning rate goes with another batch size.

    Needs a data file, the rate in use, and one of --model, --source and --from-scratch.
    """
    from qingformer.cli.rates import Request, suggest
    from qingformer.tasks import Columns

    where = Columns(
        text_column, pair_column, label_column, options.split_names(columns), format,
        encoding=encoding, quoting=quoting, skip_empty=skip_empty, separator=label_separator,
        no_label=() if no_label is None else no_label, skip_unlabelled=skip_unlabelled,
    )  # fmt: skip
    suggest(
        Request(
            file=file, columns=where, learning_rate=learning_rate, batch_size=batch_size,
            new_batch_sizes=tuple(new_batch_size or ()), model=model, source=source, from_scratch=from_scratch,
            vocabulary=vocabulary, multi_label=multi_label, max_length=max_length, texts=texts, rows=rows,
            dropout=dropout, seed=seed,
        ),
        layers=layers, plot=plot, json=json,
    )  # fmt: skip
