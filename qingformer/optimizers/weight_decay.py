"""Decoupled weight decay around any optimizer."""

from collections.abc import Iterable

import keras

from qingformer.errors import ConfigError
from qingformer.optimizers.patterns import checked_patterns, matches
from qingformer.optimizers.wrapper import Change, UpdateWrapper
from qingformer.types import Config, Tensor


@keras.saving.register_keras_serializable("qingformer")
class WeightDecay(UpdateWrapper):
    """Let weights decay in proportion to themselves, beside the step of the inner optimizer.

        theta <- theta' - lr * rate * theta,    theta' = what the inner optimizer makes of theta

    with the learning rate `lr` of the same step, schedules included. Keras' AdamW does the same faster for Adam
    (`qingformer.optimizers.adamw`); this is for optimizers without decay of their own, and for `LayerAdaptation`.

    Source: Loshchilov, Hutter 2017, arXiv 1711.05101.

    Args:
        optimizer: the optimizer to wrap.
        rate: decay per step and unit of learning rate, >= 0.
        exclude: regular expressions; a variable in whose path one is found does not decay.
        name: of the wrapper.

    Raises:
        ConfigError: a rate or pattern that cannot be.

    Example:
        >>> optimizer = WeightDecay(keras.optimizers.Lion(1e-4), 0.1, exclude=["norm", "bias"])
    """

    uses_rate = True

    def __init__(
        self,
        optimizer: keras.optimizers.Optimizer,
        rate: float = 0.01,
        exclude: Iterable[str] = (),
        name: str | None = None,
    ) -> None:
        super().__init__(optimizer, name)
        if not 0 <= rate < float("inf"):
            raise ConfigError(f"WeightDecay: rate is {rate}; it must be a finite number that is not negative")
        self.rate = float(rate)
        self.exclude = checked_patterns("WeightDecay", "exclude", exclude)

    def build_state(self, variables: list[keras.Variable]) -> None:
        """Find out which variables decay."""
        self._decays = [not matches(self.exclude, variable) for variable in variables]

    def concerns(self, index: int) -> bool:
        """Whether the variable decays."""
        decays: bool = self._decays[index]
        return decays

    def change(self, change: Change) -> Tensor:
        """Subtract the decay of the old value."""
        return change.new - change.rate * self.rate * change.old

    def get_config(self) -> Config:
        """The constructor's arguments."""
        return super().get_config() | {"rate": self.rate, "exclude": list(self.exclude)}
