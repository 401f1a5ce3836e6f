"""Options that several verbs share, so that a column is named the same way everywhere."""

from pathlib import Path
from typing import Annotated

import typer

DATA = "Which part of the file is what"
START = "What to start from"

Model = Annotated[
    Path, typer.Option("--model", "-m", help="What `train --output` wrote: the run's folder.", show_default=False)
]
Source = Annotated[
    str | None,
    typer.Option(help="Pretrained weights: a folder, a .ckpt or hf://org/name.", rich_help_panel=START),
]
FromScratch = Annotated[
    str | None, typer.Option(help="Random weights of a size: tiny, small or base.", rich_help_panel=START)
]
Vocabulary = Annotated[
    Path | None,
    typer.Option(help="vocab.txt; [dim]else the source's own, or counted from the data.[/dim]", rich_help_panel=START),
]
MultiLabel = Annotated[
    bool,
    typer.Option(
        "--multi-label", help="A text has any number of labels: a list, or a,b,c in a table.", rich_help_panel=DATA
    ),
]
TextColumn = Annotated[
    str | None,
    typer.Option(
        help="Field with the text; for ner and cws the number of the column of tokens, from 1. "
        "[dim]Found by itself: text, sentence, sentence1, ...[/dim]",
        rich_help_panel=DATA,
    ),
]
PairColumn = Annotated[
    str | None, typer.Option(help="Field with the second text, for tasks on pairs.", rich_help_panel=DATA)
]
LabelColumn = Annotated[
    str | None,
    typer.Option(
        help="Field with the label; for ner and cws the number of the column of tags, -1 the last. "
        "[dim]Found by itself: label, labels, ...[/dim]",
        rich_help_panel=DATA,
    ),
]
Format = Annotated[
    str | None,
    typer.Option(
        help="jsonl, json, csv or tsv; for ner and cws bio, json, csv, words, brat or text. "
        "[dim]By the file's ending if not given (.gz and .xz too), for ner by its first lines.[/dim]",
        rich_help_panel=DATA,
    ),
]
Columns = Annotated[
    str | None,
    typer.Option(
        help="Names for a CSV or TSV file without header line: text,label or text,pair,label.", rich_help_panel=DATA
    ),
]
Encoding = Annotated[str, typer.Option(help="Of the file, such as gb18030.", rich_help_panel=DATA)]
Quoting = Annotated[
    bool | None,
    typer.Option(
        help='Whether " encloses fields. [dim]In CSV yes, in TSV no.[/dim]', rich_help_panel=DATA, show_default=False
    ),
]
SkipEmpty = Annotated[bool, typer.Option("--skip-empty", help="Leave out rows without a text.", rich_help_panel=DATA)]
LabelSeparator = Annotated[
    str | None,
    typer.Option(
        help="What divides several labels in a cell: any of these characters, or a word. [dim]A comma.[/dim]",
        rich_help_panel=DATA, show_default=False,
    ),
]  # fmt: skip
NoLabel = Annotated[
    str | None,
    typer.Option(
        help='A value that means "no label", such as - ; rows with it are left out.',
        rich_help_panel=DATA, show_default=False,
    ),
]  # fmt: skip
SkipUnlabelled = Annotated[
    bool, typer.Option("--skip-unlabelled", help="Leave out rows without a label.", rich_help_panel=DATA)
]
Joiner = Annotated[
    str | None,
    typer.Option(
        help="What stands between the tokens of a text in ner and cws files. "
        "[dim]Nothing in Chinese, else a space.[/dim]",
        rich_help_panel=DATA, show_default=False,
    ),
]  # fmt: skip
Strict = Annotated[
    bool,
    typer.Option(
        "--strict/--no-strict",
        help="An impossible row of tags, or a triple whose names are not in its text, is an error. "
        "[dim]Else it is repaired or left out, and noted.[/dim]",
        rich_help_panel=DATA, show_default=False,
    ),
]  # fmt: skip
Digits = Annotated[
    bool | None,
    typer.Option(
        "--digits/--no-digits",
        help="Whether tokens of column files end in a segmentation digit (Weibo). [dim]Found by itself.[/dim]",
        rich_help_panel=DATA, show_default=False,
    ),
]  # fmt: skip
Threshold = Annotated[
    float | None,
    typer.Option(
        min=0.0, max=1.0, help="Least probability of a label, for models with several labels a text. [dim]0.5[/dim]"
    ),
]
BatchSize = Annotated[int, typer.Option(min=1, help="Texts per step.")]


def split_names(columns: str | None) -> list[str] | None:
    """`text,label` as a list."""
    return None if columns is None else [name.strip() for name in columns.split(",")]
