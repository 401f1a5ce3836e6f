"""Optimizers and learning-rate schedules."""

from qingformer.optimizers.adafactor import AdaFactor
from qingformer.optimizers.adam import Adam
from qingformer.optimizers.adamw import AdamW, adamw
from qingformer.optimizers.adax import AdaX
from qingformer.optimizers.lamb import LAMB
from qingformer.optimizers.lazy_adam import LazyAdam
from qingformer.optimizers.lion import Lion
from qingformer.optimizers.schedules import PiecewiseLinear, warmup_linear
from qingformer.optimizers.tiger import Tiger

__all__ = [
    "LAMB",
    "AdaFactor",
    "AdaX",
    "Adam",
    "AdamW",
    "LazyAdam",
    "Lion",
    "PiecewiseLinear",
    "Tiger",
    "adamw",
    "warmup_linear",
]
