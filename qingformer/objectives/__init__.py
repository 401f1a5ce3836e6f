"""Training tricks as functions from objective to objective, and the model that trains with them."""

from qingformer.objectives.child_tuning import ChildTuningF
from qingformer.objectives.child_tuning_fisher import ChildTuningD
from qingformer.objectives.clipping import ClipGradients
from qingformer.objectives.fgm import FGM
from qingformer.objectives.fisher import fisher_information
from qingformer.objectives.flooding import Flooding
from qingformer.objectives.freezing import Freeze, gradual_unfreezing
from qingformer.objectives.gradient_accumulation import GradientAccumulation
from qingformer.objectives.gradient_normalization import GradientNormalization
from qingformer.objectives.gradient_penalty import GradientPenalty
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
from qingformer.objectives.pgd import PGD
from qingformer.objectives.r_drop import RDrop
from qingformer.objectives.random_replacement import RandomReplacement
from qingformer.objectives.scale_shift_invariance import ScaleShiftInvariance
from qingformer.objectives.scaling import ScaleGradients
from qingformer.objectives.smoothed_labels import LabelSmoothing
from qingformer.objectives.vat import VAT, VirtualAdversarialTraining
from qingformer.objectives.weight_penalty import L2Regularization, WeightPenalty

__all__ = [
    "FGM",
    "PGD",
    "VAT",
    "Aux",
    "Batch",
    "ChildTuningD",
    "ChildTuningF",
    "ClipGradients",
    "EmbeddingNoise",
    "Flooding",
    "Freeze",
    "GradientAccumulation",
    "GradientNormalization",
    "GradientPenalty",
    "L2Regularization",
    "LabelSmoothing",
    "ModelObjective",
    "Objective",
    "RDrop",
    "RandomReplacement",
    "ScaleGradients",
    "ScaleShiftInvariance",
    "State",
    "TrainableModel",
    "Transform",
    "TransformedObjective",
    "VirtualAdversarialTraining",
    "WeightPenalty",
    "fisher_information",
    "gradual_unfreezing",
]
