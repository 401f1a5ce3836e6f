"""The parts of a task that has a network, and what a task gives to training."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import keras

from qingformer.data import PaddedBatches
from qingformer.models import Backbone
from qingformer.objectives import TrainableModel
from qingformer.tasks.predictor import Predictor
from qingformer.tokenization import Tokenizer


@dataclass(frozen=True, slots=True)
# One object that is there or not, where five attributes could be None each for itself.
class Built:
    """Everything that exists once the network of a task is made; before that a task has none of it for sure."""

    backbone: Backbone
    tokenizer: Tokenizer
    model: TrainableModel
    predictor: Predictor


@dataclass(frozen=True, slots=True)
class TrainingSetup:
    """The batches of a training set, and the loss and metrics on the outputs of the network."""

    batches: PaddedBatches
    loss: Any  # a loss, or losses by the name of the output
    loss_weights: Mapping[str, float] | None = None
    metrics: tuple[keras.metrics.Metric, ...] = ()
