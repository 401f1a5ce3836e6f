"""Training tricks as functions from objective to objective, and the model that trains with them."""

from qingformer.objectives.fgm import FGM
from qingformer.objectives.flooding import Flooding
from qingformer.objectives.gradient_normalization import GradientNormalization
from qingformer.objectives.label_smoothing import LabelSmoothing
from qingformer.objectives.model import TrainableModel
from qingformer.objectives.noise import EmbeddingNoise
from qingformer.objectives.objective import (
    Aux,
    Batch,
    ModelObjective,
    Objective,
    State,
    Transform,
    TransformedObjective,
)
from qingformer.objectives.r_drop import RDrop
from qingformer.objectives.random_replacement import RandomReplacement
from qingformer.objectives.scale_shift_invariance import ScaleShiftInvariance
from qingformer.objectives.weight_penalty import L2Regularization, WeightPenalty

__all__ = [
    "FGM",
    "Aux",
    "Batch",
    "EmbeddingNoise",
    "Flooding",
    "GradientNormalization",
    "L2Regularization",
    "LabelSmoothing",
    "ModelObjective",
    "Objective",
    "RDrop",
    "RandomReplacement",
    "ScaleShiftInvariance",
    "State",
    "TrainableModel",
    "Transform",
    "TransformedObjective",
    "WeightPenalty",
]
