"""What a user fits: each task reads its data, trains, scores, predicts, saves and loads.

The names below are loaded when first used: the command line looks into the folders of the tasks without importing
Keras.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qingformer.tasks.choice.multiple_choice import Choice, MultipleChoice
    from qingformer.tasks.classification.classifier import TextClassifier
    from qingformer.tasks.classification.text_examples import Columns
    from qingformer.tasks.predictor import Prediction
    from qingformer.tasks.reading.reading_comprehension import Answer, Reading, ReadingComprehension
    from qingformer.tasks.relations.relation_examples import Extraction, FoundTriple
    from qingformer.tasks.relations.relation_extractor import RelationExtractor
    from qingformer.tasks.scratch import SIZES, count_vocabulary
    from qingformer.tasks.tagging.tagged_texts import Entity, Tagging
    from qingformer.tasks.tagging.tagger import SequenceTagger
    from qingformer.tasks.task import Task
    from qingformer.tasks.task_registry import load, register_task

_MODULES = {
    "SIZES": "scratch",
    "Answer": "reading.reading_comprehension",
    "Choice": "choice.multiple_choice",
    "Columns": "classification.text_examples",
    "Entity": "tagging.tagged_texts",
    "Extraction": "relations.relation_examples",
    "FoundTriple": "relations.relation_examples",
    "MultipleChoice": "choice.multiple_choice",
    "Prediction": "predictor",
    "Reading": "reading.reading_comprehension",
    "ReadingComprehension": "reading.reading_comprehension",
    "RelationExtractor": "relations.relation_extractor",
    "SequenceTagger": "tagging.tagger",
    "Tagging": "tagging.tagged_texts",
    "Task": "task",
    "TextClassifier": "classification.classifier",
    "count_vocabulary": "scratch",
    "load": "task_registry",
    "register_task": "task_registry",
}

__all__ = [
    "SIZES",
    "Answer",
    "Choice",
    "Columns",
    "Entity",
    "Extraction",
    "FoundTriple",
    "MultipleChoice",
    "Prediction",
    "Reading",
    "ReadingComprehension",
    "RelationExtractor",
    "SequenceTagger",
    "Tagging",
    "Task",
    "TextClassifier",
    "count_vocabulary",
    "load",
    "register_task",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
