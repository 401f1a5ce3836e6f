"""Optimizers, wrappers around any optimizer, and learning-rate schedules."""

from qingformer.optimizers.accumulation import AccumulateGradients
from qingformer.optimizers.adafactor import AdaFactor
from qingformer.optimizers.adam import Adam
from qingformer.optimizers.adamw import AdamW, adamw
from qingformer.optimizers.adax import AdaX
from qingformer.optimizers.adjustable import AdjustableRate
from qingformer.optimizers.averaging import ExponentialMovingAverage, averages_of
from qingformer.optimizers.frozen import Frozen
from qingformer.optimizers.increment_dropout import IncrementDropout
from qingformer.optimizers.lamb import LAMB
from qingformer.optimizers.layer_adaptation import LayerAdaptation
from qingformer.optimizers.layer_decay import layer_decay
from qingformer.optimizers.layerwise import LayerwiseLearningRate
from qingformer.optimizers.lazy_adam import LazyAdam
from qingformer.optimizers.lazy_updates import LazyUpdates
from qingformer.optimizers.lion import Lion
from qingformer.optimizers.lookahead import Lookahead
from qingformer.optimizers.low_rank import LowRankUpdates
from qingformer.optimizers.schedules import PiecewiseLinear, warmup_linear
from qingformer.optimizers.tiger import Tiger
from qingformer.optimizers.weight_decay import WeightDecay
from qingformer.optimizers.wrapper import Wrapper, chain

__all__ = [
    "LAMB",
    "AccumulateGradients",
    "AdaFactor",
    "AdaX",
    "Adam",
    "AdamW",
    "AdjustableRate",
    "ExponentialMovingAverage",
    "Frozen",
    "IncrementDropout",
    "LayerAdaptation",
    "LayerwiseLearningRate",
    "LazyAdam",
    "LazyUpdates",
    "Lion",
    "Lookahead",
    "LowRankUpdates",
    "PiecewiseLinear",
    "Tiger",
    "WeightDecay",
    "Wrapper",
    "adamw",
    "averages_of",
    "chain",
    "layer_decay",
    "warmup_linear",
]
