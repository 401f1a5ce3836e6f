"""Steps as long as the weights they change (the second half of LAMB and LARS)."""

from collections.abc import Iterable

import keras
from keras import ops

from qingformer.optimizers.patterns import checked_patterns, matches
from qingformer.optimizers.wrapper import Change, UpdateWrapper
from qingformer.types import Config, Tensor


@keras.saving.register_keras_serializable("qingformer")
class LayerAdaptation(UpdateWrapper):
    """Give each variable's step the length of the variable itself, times the learning rate.

        theta <- theta + ||theta|| / ||delta / lr|| * delta,    delta = step of the inner optimizer

    where a norm is zero the step stays as it is. `LayerAdaptation(WeightDecay(Adam))` is LAMB, `LayerAdaptation(SGD)`
    is LARS. Factors of a `LayerwiseLearningRate` inside cancel out; put that one around this.

    Source: You et al. 2019, arXiv 1904.00962.

    Args:
        optimizer: the optimizer to wrap.
        exclude: regular expressions; a variable in whose path one is found keeps its step.
        name: of the wrapper.

    Raises:
        ConfigError: a pattern that cannot be.

    Example:
        >>> lamb = LayerAdaptation(WeightDecay(keras.optimizers.Adam(1e-3), 0.01, ["norm", "bias"]), ["norm", "bias"])
    """

    uses_rate = True

    def __init__(
        self, optimizer: keras.optimizers.Optimizer, exclude: Iterable[str] = (), name: str | None = None
    ) -> None:
        super().__init__(optimizer, name)
        self.exclude = checked_patterns("LayerAdaptation", "exclude", exclude)

    def build_state(self, variables: list[keras.Variable]) -> None:
        """Find out which variables are adapted."""
        self._adapts = [not matches(self.exclude, variable) for variable in variables]

    def concerns(self, index: int) -> bool:
        """Whether the variable is adapted."""
        adapts: bool = self._adapts[index]
        return adapts

    def change(self, change: Change) -> Tensor:
        """Scale the difference."""
        delta = change.new - change.old
        length, wanted = _norm(delta), _norm(change.old) * ops.cast(change.rate, delta.dtype)
        usable = ops.logical_and(length > 0, wanted > 0)
        ratio = ops.where(usable, wanted / ops.where(usable, length, 1.0), 1.0)
        return change.old + ratio * delta

    def get_config(self) -> Config:
        """The constructor's arguments."""
        return super().get_config() | {"exclude": list(self.exclude)}


def _norm(x: Tensor) -> Tensor:
    return ops.sqrt(ops.sum(ops.square(x)))
