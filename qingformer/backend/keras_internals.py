"""Parts of Keras that its public modules do not export; a change in Keras' own layout is mended here."""

from keras.src.backend import get_keras_mask
from keras.src.losses.loss import unscale_loss_for_distribution
from keras.src.losses.losses import LossFunctionWrapper
from keras.src.trainers.compile_utils import CompileLoss
from keras.src.utils.tracking import no_automatic_dependency_tracking

__all__ = [
    "CompileLoss",
    "LossFunctionWrapper",
    "get_keras_mask",
    "no_automatic_dependency_tracking",
    "unscale_loss_for_distribution",
]
