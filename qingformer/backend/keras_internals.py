"""The parts of Keras that its public modules do not export, all in one place: a move within Keras is followed here."""

from keras.src.backend import (
    get_keras_mask,
    in_stateless_scope,
    random_seed_dtype,
    result_type,
    set_keras_mask,
)
from keras.src.backend.common import global_state
from keras.src.losses.loss import unscale_loss_for_distribution
from keras.src.losses.losses import LossFunctionWrapper
from keras.src.trainers.compile_utils import CompileLoss
from keras.src.trainers.data_adapters.array_slicing import train_validation_split
from keras.src.utils.tracking import no_automatic_dependency_tracking

__all__ = [
    "CompileLoss",
    "LossFunctionWrapper",
    "get_keras_mask",
    "global_state",
    "in_stateless_scope",
    "no_automatic_dependency_tracking",
    "random_seed_dtype",
    "result_type",
    "set_keras_mask",
    "train_validation_split",
    "unscale_loss_for_distribution",
]
