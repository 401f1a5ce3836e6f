"""Weights that start to move later."""

from collections.abc import Mapping

import keras
from keras import ops

from qingformer.errors import ConfigError
from qingformer.optimizers.patterns import check_all_match, checked_patterns, matches
from qingformer.optimizers.wrapper import Change, UpdateWrapper
from qingformer.types import Config, Tensor


@keras.saving.register_keras_serializable("qingformer")
class Frozen(UpdateWrapper):
    """Hold chosen variables exactly where they are until a step is reached.

        theta <- theta                     while the count of updates < until
        theta <- inner step of theta       afterwards

    Neither momentum nor decay inside can move them meanwhile (unlike a zeroed gradient), but the inner optimizer keeps
    its statistics, so they are warm when the variables are let go. Of several patterns that match, the last to end
    counts. Setting `trainable = False` is cheaper for what never moves.

    Source: gradual unfreezing, Howard, Ruder 2018, arXiv 1801.06146.

    Args:
        optimizer: the optimizer to wrap.
        until: regular expression, searched in the path, to the number of updates during which the variables rest.
        name: of the wrapper.

    Raises:
        ConfigError: a number or pattern that cannot be; in `build`, a pattern that matches no variable.

    Example:
        >>> optimizer = Frozen(keras.optimizers.Adam(2e-5), {"embedding": 1000, "block_": 300})
    """

    def __init__(
        self, optimizer: keras.optimizers.Optimizer, until: Mapping[str, int], name: str | None = None
    ) -> None:
        super().__init__(optimizer, name)
        if not isinstance(until, Mapping) or not until:
            raise ConfigError(f"Frozen: until is {until!r}; give {{pattern: step}}")
        checked_patterns("Frozen", "until", list(until))
        for pattern, step in until.items():
            if step < 0 or step != int(step):
                raise ConfigError(f"Frozen: {pattern!r} ends at {step}; it must be a whole number of updates, >= 0")
        self.until = {pattern: int(step) for pattern, step in until.items()}

    def build_state(self, variables: list[keras.Variable]) -> None:
        """Find out how long each variable rests."""
        check_all_match(self.until, variables, "Frozen")
        self._until = [max((n for p, n in self.until.items() if matches([p], v)), default=0) for v in variables]

    def concerns(self, index: int) -> bool:
        """Whether the variable rests at all."""
        return self._until[index] > 0

    def change(self, change: Change) -> Tensor:
        """The old value, as long as it rests."""
        return ops.where(change.step < self._until[change.place], change.old, change.new)

    def get_config(self) -> Config:
        """The constructor's arguments."""
        return super().get_config() | {"until": self.until}
