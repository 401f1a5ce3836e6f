"""Training that can be watched, stopped and resumed exactly."""

from qingformer.training.averages import SwapAverages, keep_averages, weights_to_keep
from qingformer.training.best import BestCheckpoint
from qingformer.training.curve import LearningCurve, plot_curve, read_curve
from qingformer.training.errors import PlotError, TrainingInterrupted, TrainingStateError
from qingformer.training.interrupt import Interruptible
from qingformer.training.run import RunResult, run
from qingformer.training.seeds import seed_everything
from qingformer.training.state import TrainingState
from qingformer.training.steps import OrderedSteps, Progress, ProgressEvent

__all__ = [
    "BestCheckpoint",
    "Interruptible",
    "LearningCurve",
    "OrderedSteps",
    "PlotError",
    "Progress",
    "ProgressEvent",
    "RunResult",
    "SwapAverages",
    "TrainingInterrupted",
    "TrainingState",
    "TrainingStateError",
    "keep_averages",
    "plot_curve",
    "read_curve",
    "run",
    "seed_everything",
    "weights_to_keep",
]
