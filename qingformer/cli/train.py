"""`qingformer train`: from a data file and a model source to a model that predicts."""

from pathlib import Path
from typing import Annotated

import typer

from qingformer.cli import options

NAME = "train"
EPILOG = """[bold]Examples[/bold]

First run, no downloads:  qingformer train --train train.jsonl --dev dev.jsonl --from-scratch tiny --output runs/first

Fine-tune a BERT:  qingformer train --train train.jsonl --source chinese_L-12_H-768_A-12 --output runs/bert

Pairs in a TSV without header:  qingformer train --train a.tsv --columns text,pair,label --from-scratch small -o runs/a

Adversarial training:  qingformer train --train train.jsonl --source my-bert --transform fgm -o runs/fgm

Entities:  qingformer train --task ner --train train.conll --dev dev.conll --source my-bert -o runs/ner

Nested entities:  qingformer train --task ner --head efficient_global_pointer --train a.jsonl --source my-bert -o runs/n

Words:  qingformer train --task cws --train pku_training.utf8 --source my-bert --max-length 256 -o runs/words

Relations:  qingformer train --task relations --train duie.json --schema schema.json --source my-bert -o runs/triples

Reading:  qingformer train --task reading --train cmrc2018_train.json --source my-bert --max-length 512 -o runs/reading

Multiple choice:  qingformer train --task choice --train c3.json --source my-bert --max-length 512 -o runs/choice

After Ctrl-C:  the same command and --resume

[bold]Data[/bold]  JSONL has one object a line: {"text": "今天天气不错", "label": "weather"}; CSV and TSV name their
columns in the first line. .gz and .xz are read as they are. Entities: a token and its tag a line, or {"text": ...,
"entities": [{"start": 0, "end": 2, "label": "PER"}]}; words: a text a line, spaces between the words; relations:
{"text": ..., "triples": [["subject", "relation", "object"]]}; reading: SQuAD's JSON or {"context": ..., "question":
..., "answer": ...}; choice: {"context": ..., "question": ..., "choices": [...], "answer": 0}.

[bold]What lands in --output[/bold]  best/ (the model of the best epoch, for evaluate and predict), curve.jsonl and
curve.png (the learning curve), report.json (the score on --test), state/ (the resume point), run.json (the settings).
"""
LEARN, RUN, TASKS = "How to learn", "The run", "Structured tasks"


def command(
    train: Annotated[Path, typer.Option(help="Training data.", show_default=False)],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for everything this run writes.", show_default=False)
    ],
    dev: Annotated[
        Path | None, typer.Option(help="Held-out data scored after every epoch; the best epoch is kept.")
    ] = None,
    test: Annotated[Path | None, typer.Option(help="Held-out data scored once, at the end.")] = None,
    task: Annotated[
        str, typer.Option(help="classification, ner, cws, relations, reading or choice.")
    ] = "classification",
    source: options.Source = None,
    from_scratch: options.FromScratch = None,
    vocabulary: options.Vocabulary = None,
    text_column: options.TextColumn = None,
    pair_column: options.PairColumn = None,
    label_column: options.LabelColumn = None,
    format: options.Format = None,
    columns: options.Columns = None,
    encoding: options.Encoding = "utf-8",
    quoting: options.Quoting = None,
    skip_empty: options.SkipEmpty = False,
    multi_label: options.MultiLabel = False,
    labels: Annotated[
        str | None,
        typer.Option(
            help="All labels, a,b,c; those that only held-out data have too. [dim]Found in the training data.[/dim]",
            rich_help_panel=options.DATA,
        ),
    ] = None,
    label_separator: options.LabelSeparator = None,
    no_label: options.NoLabel = None,
    skip_unlabelled: options.SkipUnlabelled = False,
    joiner: options.Joiner = None,
    strict: options.Strict = False,
    digits: options.Digits = None,
    head: Annotated[
        str | None,
        typer.Option(
            help="ner, cws: crf, memm, softmax, global_pointer or efficient_global_pointer (nested spans). "
            "[dim]crf[/dim]",
            rich_help_panel=TASKS,
        ),
    ] = None,
    scheme: Annotated[
        str | None, typer.Option(help="ner: tags bio, bioes or bmes. [dim]bio[/dim]", rich_help_panel=TASKS)
    ] = None,
    lr_multiplier: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            help="ner, cws: rate of the transitions of crf and memm, times that of the encoder. [dim]100[/dim]",
            rich_help_panel=TASKS,
        ),
    ] = None,
    design: Annotated[
        str | None, typer.Option(help="relations: gplinker or cascade. [dim]gplinker[/dim]", rich_help_panel=TASKS)
    ] = None,
    pointer: Annotated[
        str | None,
        typer.Option(
            help="relations: of gplinker, efficient_global_pointer or global_pointer. "
            "[dim]efficient_global_pointer[/dim]",
            rich_help_panel=TASKS,
        ),
    ] = None,
    schema: Annotated[
        Path | None,
        typer.Option(
            help="relations: file with their names; another one in the data is an error. [dim]Found in the data.[/dim]",
            rich_help_panel=TASKS,
        ),
    ] = None,
    stride: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="ner, cws, relations, reading: tokens that the windows of a long text share. "
            "[dim]16, reading 128[/dim]",
            rich_help_panel=TASKS,
        ),
    ] = None,
    max_question_length: Annotated[
        int | None,
        typer.Option(min=1, help="reading: tokens of a question. [dim]64[/dim]", rich_help_panel=TASKS),
    ] = None,
    max_answer_length: Annotated[
        int | None,
        typer.Option(min=1, help="reading: tokens of an answer. [dim]64[/dim]", rich_help_panel=TASKS),
    ] = None,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the training data.", rich_help_panel=LEARN)] = 3,
    batch_size: Annotated[int, typer.Option(min=1, help="Texts per step.", rich_help_panel=LEARN)] = 32,
    learning_rate: Annotated[
        float | None,
        typer.Option(
            help="Peak rate. [dim]5e-5 for pretrained weights, 1e-3 tiny, 5e-4 small, 1e-4 base.[/dim]",
            rich_help_panel=LEARN,
        ),
    ] = None,
    max_length: Annotated[
        int | None, typer.Option(help="Longest input in tokens. [dim]128, reading 384[/dim]", rich_help_panel=LEARN)
    ] = None,
    transform: Annotated[
        list[str] | None,
        typer.Option(
            help="A training trick, may be given several times: fgm, fgm=30%, pgd, vat, gradient_penalty, r_drop=4, "
            "child_tuning=0.2, child_tuning_d, flooding, label_smoothing, "
            "embedding_noise, l2, weissi, accumulation, clip.",
            rich_help_panel=LEARN,
        ),
    ] = None,
    loss: Annotated[
        str | None,
        typer.Option(
            help="focal, dice, label_smoothing or logit_adjustment; [dim]cross-entropy if not given.[/dim]",
            rich_help_panel=LEARN,
        ),
    ] = None,
    class_weights: Annotated[
        str | None,
        typer.Option(help="balanced, sqrt, effective, or label=weight,label=weight.", rich_help_panel=LEARN),
    ] = None,
    monitor: Annotated[
        str | None,
        typer.Option(
            help="The score on --dev that picks the best epoch: accuracy, loss, macro_f1, weighted_f1; f1, "
            "precision or recall of ner, cws and relations; f1 or exact of reading.",
            rich_help_panel=LEARN,
        ),
    ] = None,
    patience: Annotated[
        int | None,
        typer.Option(min=1, help="Stop after so many epochs without a better score on --dev.", rich_help_panel=LEARN),
    ] = None,
    precision: Annotated[str, typer.Option(help="float32 or mixed_bfloat16.", rich_help_panel=LEARN)] = "float32",
    seed: Annotated[int, typer.Option(help="The same seed and data give the same run.", rich_help_panel=RUN)] = 0,
    save_every: Annotated[
        int | None,
        typer.Option(min=1, help="Steps between resume points. [dim]One after each epoch.[/dim]", rich_help_panel=RUN),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on exactly where a stopped run was.", rich_help_panel=RUN)
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the run that is in --output.", rich_help_panel=RUN)
    ] = False,
) -> None:
    """Train a text classifier, or with --task another model, and score it.

    Needs a data file and something to start from: --source or --from-scratch.
    """
    from qingformer.cli.kinds import kind_named
    from qingformer.cli.training import Settings, train_task

    train_task(
        Settings(
            train=str(train), dev=_text(dev), test=_text(test), source=source, from_scratch=from_scratch,
            vocabulary=_text(vocabulary), text_column=text_column, pair_column=pair_column, label_column=label_column,
            format=format, columns=options.split_names(columns), encoding=encoding,
            quoting=quoting, skip_empty=skip_empty, multi_label=multi_label, epochs=epochs,
            batch_size=batch_size, learning_rate=learning_rate,
            max_length=kind_named(task).max_length if max_length is None else max_length, transforms=transform or [],
            loss=loss, class_weights=class_weights, precision=precision, seed=seed, task=task,
            head=head, scheme=scheme, lr_multiplier=lr_multiplier, design=design, pointer=pointer,
            schema=_text(schema), stride=stride, max_question_length=max_question_length,
            max_answer_length=max_answer_length, joiner=joiner, strict=strict, digits=digits,
            labels=options.split_names(labels), monitor=monitor, patience=patience,
            label_separator=label_separator, no_label=no_label, skip_unlabelled=skip_unlabelled,
        ),
        output, save_every=save_every, resume=resume, overwrite=overwrite,
    )  # fmt: skip


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)
