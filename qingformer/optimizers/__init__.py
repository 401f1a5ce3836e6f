"""Learning-rate schedules, optimizers as fine-tuning uses them, and wrappers around any optimizer."""

from qingformer.optimizers.accumulation import AccumulateGradients
from qingformer.optimizers.adamw import adamw
from qingformer.optimizers.averaging import ExponentialMovingAverage, averages_of
from qingformer.optimizers.frozen import Frozen
from qingformer.optimizers.increment_dropout import IncrementDropout
from qingformer.optimizers.layer_adaptation import LayerAdaptation
from qingformer.optimizers.layer_decay import layer_decay
from qingformer.optimizers.layerwise import LayerwiseLearningRate
from qingformer.optimizers.lazy_updates import LazyUpdates
from qingformer.optimizers.lookahead import Lookahead
from qingformer.optimizers.schedules import PiecewiseLinear, warmup_linear
from qingformer.optimizers.weight_decay import WeightDecay
from qingformer.optimizers.wrapper import Wrapper, chain

__all__ = [
    "AccumulateGradients",
    "ExponentialMovingAverage",
    "Frozen",
    "IncrementDropout",
    "LayerAdaptation",
    "LayerwiseLearningRate",
    "LazyUpdates",
    "Lookahead",
    "PiecewiseLinear",
    "WeightDecay",
    "Wrapper",
    "adamw",
    "averages_of",
    "chain",
    "layer_decay",
    "warmup_linear",
]
