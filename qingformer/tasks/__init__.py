"""What a user fits: each task reads its data, trains, scores, predicts, saves and loads."""

from qingformer.tasks.choice import Choice, MultipleChoice
from qingformer.tasks.classifier import TextClassifier
from qingformer.tasks.examples import Columns
from qingformer.tasks.prediction import Prediction
from qingformer.tasks.reading import Answer, Reading, ReadingComprehension
from qingformer.tasks.registry import load
from qingformer.tasks.relation_examples import Extraction, FoundTriple
from qingformer.tasks.relations import RelationExtractor
from qingformer.tasks.scratch import SIZES, count_vocabulary
from qingformer.tasks.tagged import Entity, Tagging
from qingformer.tasks.tagger import SequenceTagger
from qingformer.tasks.task import Task

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
]
