"""Relation extraction: the triples (subject, relation, object) that a text states."""

from pathlib import Path

from qingformer.tasks import task_options as shared
from qingformer.tasks.task_options import TASKS, Option, TaskEntry

ENTRIES = (
    TaskEntry(
        name="relations", order=3,
        location="qingformer.tasks.relations.relation_extractor:RelationExtractor", task_name="relation-extractor",
        summary='relations: {"text": ..., "triples": [["subject", "relation", "object"]]}',
        train=(
            shared.FORMAT, shared.STRICT,
            Option("design", str, "relations: gplinker or cascade. [dim]gplinker[/dim]", TASKS, argument="design"),
            Option(
                "pointer", str,
                "relations: of gplinker, efficient_global_pointer or global_pointer. "
                "[dim]efficient_global_pointer[/dim]", TASKS, argument="pointer",
            ),
            Option(
                "schema", Path,
                "relations: file with their names; another one in the data is an error. "
                "[dim]Found in the data.[/dim]", TASKS,
            ),
            shared.STRIDE,
        ),
        evaluate=(shared.FORMAT, shared.STRICT), predict=(shared.FORMAT,),
        examples={
            "train": (
                ("Relations",
                 "train --task relations --train duie.json --schema schema.json --source my-bert -o runs/triples"),
            ),
            "predict": (("Triples", "predict texts.txt --model runs/triples | jq -c '.triples[]'"),),
        },
    ),
)  # fmt: skip
