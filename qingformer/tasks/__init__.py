"""What a user fits: each task reads its data, trains, scores, predicts, saves and loads."""

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
