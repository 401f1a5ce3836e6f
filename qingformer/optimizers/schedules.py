"""Learning rates that go through given points in straight lines."""

from collections.abc import Mapping
from itertools import pairwise

import keras
from keras import ops

from qingformer.errors import ConfigError
from qingformer.types import Config, Nest, Tensor


@keras.saving.register_keras_serializable("qingformer")
class PiecewiseLinear(keras.optimizers.schedules.LearningRateSchedule):
    """Learning rate `learning_rate * m(t)`, where m runs in straight lines through the points `{step: multiplier}`.

    Before the first point m rises from (0, 0), unless step 0 is given; after the last one it stays. `{1000: 1,
    10000: 0.1}` warms up over 1000 steps and falls to a tenth at step 10000. t counts optimizer steps from 0, so the
    first step has multiplier 0 with a warm-up; with gradient accumulation Keras counts every batch.

    Source: the piecewise-linear schedule of bert4keras, 科学空间.

    Args:
        learning_rate: the rate at multiplier 1.
        points: step (whole number, 0 or more) to multiplier (finite, not negative); at least one.

    Raises:
        ConfigError: no points, or one that cannot be.

    Example:
        >>> schedule = PiecewiseLinear(2e-5, {100: 1.0, 1100: 0.0})
        >>> float(schedule(50))
        1e-05
    """

    def __init__(self, learning_rate: float, points: Mapping[int, float]) -> None:
        if not points:
            raise ConfigError("PiecewiseLinear: no points; give at least one step with its multiplier")
        for step, multiplier in points.items():  # keys are text when they come from JSON
            if int(step) < 0 or float(step) != int(step) or not 0 <= float(multiplier) < float("inf"):
                raise ConfigError(
                    f"PiecewiseLinear: {step}: {multiplier} is not a point; steps and multipliers are >= 0"
                )
        self.learning_rate = float(learning_rate)
        self.points = {int(step): float(points[step]) for step in sorted(points, key=int)}

    def __call__(self, step: Tensor) -> Nest:
        """The rate at `step`, a float32 scalar."""
        now = ops.cast(step, "float32")
        knots = list(({0: 0.0} | self.points).items())
        multiplier = ops.cast(knots[0][1], "float32")
        for (left, low), (right, high) in pairwise(knots):
            share = ops.clip((now - left) / (right - left), 0.0, 1.0)
            multiplier = multiplier + share * (high - low)
        return self.learning_rate * multiplier

    def get_config(self) -> Config:
        """The two arguments."""
        return {"learning_rate": self.learning_rate, "points": {str(k): v for k, v in self.points.items()}}


def warmup_linear(
    learning_rate: float, total_steps: int, warmup: float = 0.1, floor: float = 0.0
) -> keras.optimizers.schedules.LearningRateSchedule:
    """Rise to `learning_rate` over the first `warmup` share of the steps, then fall to `floor * learning_rate`.

    Source: Devlin et al. 2018, arXiv 1810.04805, appendix A.2.

    Raises:
        ConfigError: `total_steps` below 1, or a share outside of [0, 1).

    Example:
        >>> model.compile(keras.optimizers.AdamW(warmup_linear(2e-5, total_steps=3000)))
    """
    if total_steps < 1 or not 0 <= warmup < 1:
        raise ConfigError(f"warmup_linear: total_steps={total_steps} must be >= 1 and warmup={warmup} in [0, 1)")
    top = round(total_steps * warmup)
    return PiecewiseLinear(learning_rate, {top: 1.0, total_steps: floor} if top < total_steps else {top: 1.0})
