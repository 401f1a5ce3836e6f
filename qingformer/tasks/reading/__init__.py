"""Reading comprehension: the part of a text that answers a question, or that there is none."""

from qingformer.tasks import task_options as shared
from qingformer.tasks.task_options import TASKS, Option, TaskEntry

ENTRIES = (
    TaskEntry(
        name="reading", order=4,
        location="qingformer.tasks.reading.reading_comprehension:ReadingComprehension",
        task_name="reading-comprehension", max_length=384, unit="questions", echoed=("id", "question"),
        summary='reading: SQuAD\'s JSON or {"context": ..., "question": ..., "answer": ...}',
        train=(
            shared.STRIDE,
            Option(
                "max_question_length", int, "reading: tokens of a question. [dim]64[/dim]", TASKS, least=1,
                argument="max_question_length",
            ),
            Option(
                "max_answer_length", int, "reading: tokens of an answer. [dim]64[/dim]", TASKS, least=1,
                argument="max_answer_length",
            ),
        ),
        evaluate=(Option("metric", str, "How answers of reading are compared: cmrc or squad. [dim]cmrc[/dim]"),),
        predict=(Option("n_best", int, "Answers to a question, for reading. [dim]1[/dim]", least=1),),
        examples={
            "train": (
                ("Reading",
                 "train --task reading --train cmrc2018_train.json --source my-bert --max-length 512 -o runs/reading"),
            ),
            "evaluate": (("Reading, as SQuAD counts", "evaluate dev-v1.1.json --model runs/reading --metric squad"),),
            "predict": (("Answers", "predict questions.jsonl --model runs/reading --n-best 3"),),
        },
    ),
)  # fmt: skip
