"""A learning-rate schedule that callbacks can change, as they change a rate that is a number."""

from typing import Any

import keras
from keras import ops

from qingformer.errors import ConfigError
from qingformer.optimizers.wrapper import chain
from qingformer.types import Config, Nest


@keras.saving.register_keras_serializable("qingformer")
class AdjustableRate:
    """A schedule s(t) that goes on, scaled, when a callback such as `ReduceLROnPlateau` sets the rate of its optimizer.

        rate(t) = factor * s(t) + constant,   at first s(t)

    Setting the rate to r while it is c scales both by r / c: half the rate stays half of what the schedule says. A rate
    set while it is 0, as before the first step of a warm-up, stays as it is set: the schedule has no part in it then.
    Setting what is the rate already changes nothing. Both numbers are variables of the optimizer, so that they are
    saved with it and a resumed training goes on with them.

    Args:
        schedule: any of Keras' or of ours.

    Example:
        >>> optimizer = keras.optimizers.AdamW(AdjustableRate(warmup_linear(2e-5, total_steps=3000)))
        >>> model.compile(optimizer)  # then optimizer.learning_rate = ... may be set
    """

    def __init__(self, schedule: keras.optimizers.schedules.LearningRateSchedule) -> None:
        self.schedule = schedule
        self._optimizer: keras.optimizers.Optimizer | None = None

    def bind(self, optimizer: keras.optimizers.Optimizer) -> None:
        """Make the variables in `optimizer`, whose steps are counted; models do so when they are compiled."""
        if self._optimizer is not None:
            return
        self._optimizer = optimizer
        self._factor = optimizer.add_variable((), initializer="ones", dtype="float32", name="rate_factor")
        self._constant = optimizer.add_variable((), initializer="zeros", dtype="float32", name="rate_constant")

    def __call__(self) -> Nest:
        """The rate of the next step, float32 scalar."""
        if self._optimizer is None:
            raise ConfigError("AdjustableRate: it belongs to no optimizer yet; compile a model with it, or call bind")
        scheduled = ops.cast(self.schedule(self._optimizer._iterations), "float32")
        return self._factor * scheduled + self._constant

    def assign(self, rate: Any) -> None:
        """Set the rate, as Keras does for `optimizer.learning_rate = rate`."""
        if not 0 <= float(rate) < float("inf"):
            raise ConfigError(f"learning rate {rate}: expected a finite number that is not negative")
        rate, now = ops.cast(rate, "float32"), ops.convert_to_tensor(self())
        if float(rate) == float(now):
            return
        scale = rate / now if float(now) > 0 else 0.0
        self._factor.assign(self._factor * scale)
        self._constant.assign(self._constant * scale if float(now) > 0 else rate)

    def at_present(self) -> keras.optimizers.schedules.LearningRateSchedule:
        """The schedule with what is set now, as a function of the step that reads no variable."""
        return _Scaled(self.schedule, float(self._factor), float(self._constant))

    def get_config(self) -> Config:
        """The constructor's argument."""
        return {"schedule": keras.optimizers.schedules.serialize(self.schedule)}

    @classmethod
    def from_config(cls, config: Config) -> "AdjustableRate":
        """The inverse of `get_config`."""
        return cls(keras.optimizers.schedules.deserialize(config["schedule"]))


class _Scaled(keras.optimizers.schedules.LearningRateSchedule):
    def __init__(self, schedule: Any, factor: float, constant: float) -> None:
        self.schedule, self.factor, self.constant = schedule, factor, constant

    def __call__(self, step: Any) -> Any:
        return self.factor * self.schedule(step) + self.constant


def bind_rates(optimizer: keras.optimizers.Optimizer) -> None:
    """Bind an `AdjustableRate` of an optimizer, or of one inside of it.

    Example: `bind_rates(model.optimizer)`
    """
    for each in chain(optimizer):
        rate = getattr(each, "_learning_rate", None)
        if isinstance(rate, AdjustableRate):
            rate.bind(each)
