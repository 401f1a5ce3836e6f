"""Multiple choice: which of several answers goes with a question and a text."""

from qingformer.tasks.task_options import TaskEntry

ENTRIES = (
    TaskEntry(
        name="choice", order=5,
        location="qingformer.tasks.choice.multiple_choice:MultipleChoice", task_name="multiple-choice",
        unit="questions", echoed=("id",),
        summary='choice: {"context": ..., "question": ..., "choices": [...], "answer": 0}',
        examples={
            "train": (
                ("Multiple choice",
                 "train --task choice --train c3.json --source my-bert --max-length 512 -o runs/choice"),
            ),
        },
    ),
)  # fmt: skip
