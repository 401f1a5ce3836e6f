"""Sequence tagging: entities, slots and words, by a chain of tags or by pointers to spans."""

from dataclasses import replace

from qingformer.tasks import task_options as shared
from qingformer.tasks.task_options import DATA, TASKS, Option, TaskEntry

_JOINER = Option(
    "joiner", str,
    "What stands between the tokens of a text in ner and cws files. [dim]Nothing in Chinese, else a space.[/dim]", DATA,
    shows_default=False,
)  # fmt: skip
_DIGITS = Option(
    "digits", bool,
    "Whether tokens of column files end in a segmentation digit (Weibo). [dim]Found by itself.[/dim]", DATA,
    flags=("--digits/--no-digits",), shows_default=False,
)  # fmt: skip
_SCHEME = Option("scheme", str, "ner: tags bio, bioes or bmes. [dim]bio[/dim]", TASKS, argument="scheme")
_NETWORK = (
    Option(
        "head", str,
        "ner, cws: crf, memm, softmax, global_pointer or efficient_global_pointer (nested spans). [dim]crf[/dim]",
        TASKS, argument="head",
    ),
    Option(
        "lr_multiplier", float,
        "ner, cws: rate of the transitions of crf and memm, times that of the encoder. [dim]100[/dim]", TASKS,
        least=0.0, argument="lr_multiplier",
    ),
)  # fmt: skip
_UNLABELLED = (shared.TEXT_COLUMN, shared.FORMAT, _JOINER, _DIGITS)
_LABELLED = (shared.TEXT_COLUMN, shared.LABEL_COLUMN, shared.FORMAT, _JOINER, shared.STRICT, _DIGITS)

_ENTITIES = TaskEntry(
    name="ner", order=1,
    location="qingformer.tasks.tagging.tagger:SequenceTagger", task_name="sequence-tagger",
    summary='entities: a token and its tag a line, or {"text": ..., "entities": [{"start": 0, "end": 2, "label": '
    '"PER"}]}',
    formats=("jsonl", "conll", "brat"), coloured=True,
    train=(*_LABELLED, shared.LABELS, _NETWORK[0], _SCHEME, _NETWORK[1], shared.STRIDE),
    evaluate=_LABELLED, predict=_UNLABELLED,
    examples={
        "train": (
            ("Entities", "train --task ner --train train.conll --dev dev.conll --source my-bert -o runs/ner"),
            ("Nested entities",
             "train --task ner --head efficient_global_pointer --train a.jsonl --source my-bert -o runs/n"),
        ),
        "evaluate": (("Entities", "evaluate test.conll --model runs/ner"),),
        "predict": (
            ("Entities in colour", "predict texts.txt --model runs/ner --color"),
            ("Entities for brat", "predict texts.txt --model runs/ner --output-format brat --output annotated"),
        ),
    },
)  # fmt: skip

ENTRIES = (
    _ENTITIES,
    replace(
        _ENTITIES, name="cws", order=2, fixed={"scheme": "bmes", "labels": ["word"]},
        summary="words: a text a line, spaces between the words",
        formats=("jsonl", "words", "conll", "brat"), train=(*_LABELLED, *_NETWORK, shared.STRIDE),
        examples={
            "train": (
                ("Words",
                 "train --task cws --train pku_training.utf8 --source my-bert --max-length 256 -o runs/words"),
            ),
            "evaluate": (("Words", "evaluate pku_test_gold.utf8 --model runs/words --json | jq .micro.f1"),),
            "predict": (
                ("Words", "predict pku_test.utf8 --model runs/words --output-format words --output words.txt"),
            ),
        },
    ),
)  # fmt: skip
