"""Learning-rate schedules and optimizers as fine-tuning uses them."""

from qingformer.optimizers.adamw import adamw
from qingformer.optimizers.schedules import PiecewiseLinear, warmup_linear

__all__ = ["PiecewiseLinear", "adamw", "warmup_linear"]
