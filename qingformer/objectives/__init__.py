"""Training tricks as functions from objective to objective, and the model that trains with them."""

from qingformer.objectives.fgm import FGM
from qingformer.objectives.gradient_penalty import GradientPenalty
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
from qingformer.objectives.pgd import PGD
from qingformer.objectives.vat import VAT, VirtualAdversarialTraining

__all__ = [
    "FGM",
    "PGD",
    "VAT",
    "Aux",
    "Batch",
    "GradientPenalty",
    "ModelObjective",
    "Objective",
    "State",
    "TrainableModel",
    "Transform",
    "TransformedObjective",
    "VirtualAdversarialTraining",
]
