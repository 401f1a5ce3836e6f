"""Text classification: one text or a pair, one label or several."""

from qingformer.tasks import task_options as shared
from qingformer.tasks.task_options import LEARN, Option, TaskEntry

_READING = (
    shared.TEXT_COLUMN, shared.PAIR_COLUMN, shared.LABEL_COLUMN, shared.FORMAT, shared.COLUMNS, shared.QUOTING,
    shared.SKIP_EMPTY,
)  # fmt: skip
_LABELS = (shared.LABEL_SEPARATOR, shared.NO_LABEL, shared.SKIP_UNLABELLED)
_THRESHOLD = Option(
    "threshold", float, "Least probability of a label, for models with several labels a text. [dim]0.5[/dim]",
    least=0.0, most=1.0,
)  # fmt: skip
LABELLED_TEXTS = (*_READING, *_LABELS)  # of whatever reads a file for classification

ENTRIES = (
    TaskEntry(
        name="classification", order=0,
        location="qingformer.tasks.classification.classifier:TextClassifier", task_name="text-classifier",
        summary='texts: {"text": "今天天气不错", "label": "weather"} a line, CSV or TSV with names in the first line',
        echoed=("text", "pair"),
        train=(
            *_READING, shared.MULTI_LABEL, shared.LABELS, *_LABELS,
            Option(
                "loss", str,
                "focal, dice, label_smoothing or logit_adjustment; [dim]cross-entropy if not given.[/dim]", LEARN,
            ),
            Option("class_weights", str, "balanced, sqrt, effective, or label=weight,label=weight.", LEARN),
        ),
        evaluate=(*_READING, *_LABELS, _THRESHOLD),
        predict=(
            *(option for option in _READING if option is not shared.LABEL_COLUMN),
            Option(
                "all_probabilities", bool, "Give the probability of every label, or of the best one only.",
                default=False, flags=("--all/--best",),
            ),
            _THRESHOLD,
        ),
        examples={
            "train": (
                ("First run, no downloads",
                 "train --train train.jsonl --dev dev.jsonl --from-scratch tiny --output runs/first"),
                ("Fine-tune a BERT", "train --train train.jsonl --source chinese_L-12_H-768_A-12 --output runs/bert"),
                ("Pairs in a TSV without header",
                 "train --train a.tsv --columns text,pair,label --from-scratch small -o runs/a"),
                ("Adversarial training", "train --train train.jsonl --source my-bert --transform fgm -o runs/fgm"),
            ),
            "evaluate": (
                ("The score", "evaluate test.jsonl --model runs/first"),
                ("For a program", "evaluate test.jsonl --model runs/first --json | jq .accuracy"),
            ),
            "predict": (
                ("A file", "predict texts.jsonl --model runs/first --output answers.jsonl"),
                ("Only the labels", "predict texts.txt -m runs/first | jq -r .label"),
            ),
        },
    ),
)  # fmt: skip
