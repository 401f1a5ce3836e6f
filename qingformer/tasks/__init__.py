"""What a user fits: each task reads its data, trains, scores, predicts, saves and loads."""

from qingformer.tasks.classifier import TextClassifier
from qingformer.tasks.examples import Columns
from qingformer.tasks.prediction import Prediction
from qingformer.tasks.registry import load
from qingformer.tasks.scratch import SIZES, count_vocabulary

__all__ = ["SIZES", "Columns", "Prediction", "TextClassifier", "count_vocabulary", "load"]
