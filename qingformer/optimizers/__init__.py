"""Learning-rate schedules and optimizers as fine-tuning uses them."""

from qingformer.optimizers.adamw import adamw
from qingformer.optimizers.low_rank import LowRankUpdates
from qingformer.optimizers.schedules import PiecewiseLinear, warmup_linear

__all__ = ["LowRankUpdates", "PiecewiseLinear", "adamw", "warmup_linear"]
