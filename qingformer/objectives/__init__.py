"""Training tricks as functions from objective to objective, and the model that trains with them."""

from qingformer.objectives.fgm import FGM
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

__all__ = [
    "FGM",
    "Aux",
    "Batch",
    "ModelObjective",
    "Objective",
    "State",
    "TrainableModel",
    "Transform",
    "TransformedObjective",
]
