"""Training that can be watched, stopped and resumed exactly."""

from qingformer.training.averages import SwapAverages, keep_averages, weights_to_keep
from qingformer.training.best import BestCheckpoint
from qingformer.training.curve import LearningCurve, plot_curve, read_curve
from qingformer.training.finite import FiniteTraining, check_weights
from qingformer.training.folder import read_whole
from qingformer.training.interrupt import Interruptible
from qingformer.training.kept import replace_folder, whole_folder
from qingformer.training.lock import locked
from qingformer.training.run import RunResult, run
from qingformer.training.run_files import clear_run, holds_run
from qingformer.training.seeds import seed_everything
from qingformer.training.state import TrainingState
from qingformer.training.steps import OrderedSteps, Progress, ProgressEvent
from qingformer.training.training_errors import (
    DivergenceError,
    PlotError,
    RunInUseError,
    TrainingInterrupted,
    TrainingStateError,
)

__all__ = [
    "BestCheckpoint",
    "DivergenceError",
    "FiniteTraining",
    "Interruptible",
    "LearningCurve",
    "OrderedSteps",
    "PlotError",
    "Progress",
    "ProgressEvent",
    "RunInUseError",
    "RunResult",
    "SwapAverages",
    "TrainingInterrupted",
    "TrainingState",
    "TrainingStateError",
    "check_weights",
    "clear_run",
    "holds_run",
    "keep_averages",
    "locked",
    "plot_curve",
    "read_curve",
    "read_whole",
    "replace_folder",
    "run",
    "seed_everything",
    "weights_to_keep",
    "whole_folder",
]
