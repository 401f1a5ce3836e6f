"""Training tricks as functions from objective to objective, and the model that trains with them."""

from qingformer.objectives.accumulation import GradientAccumulation
from qingformer.objectives.child_tuning import ChildTuningF
from qingformer.objectives.child_tuning_fisher import ChildTuningD
from qingformer.objectives.clipping import ClipGradients
from qingformer.objectives.fgm import FGM
from qingformer.objectives.fisher import fisher_information
from qingformer.objectives.freezing import Freeze, gradual_unfreezing
from qingformer.objectives.model import TrainableModel
from qingformer.objectives.objective import (
    Aux,
    Batch,
    ModelObjective,
    Objective,
    State,
    Transform,
    TransformedObjective,
)
from qingformer.objectives.scaling import ScaleGradients

__all__ = [
    "FGM",
    "Aux",
    "Batch",
    "ChildTuningD",
    "ChildTuningF",
    "ClipGradients",
    "Freeze",
    "GradientAccumulation",
    "ModelObjective",
    "Objective",
    "ScaleGradients",
    "State",
    "TrainableModel",
    "Transform",
    "TransformedObjective",
    "fisher_information",
    "gradual_unfreezing",
]
