"""Two sets of weights: fast ones that explore, slow ones that follow."""

import keras
from keras import ops

from qingformer.errors import ConfigError
from qingformer.optimizers.wrapper import Wrapper, assign_when, snapshot
from qingformer.types import Config, Tensor


@keras.saving.register_keras_serializable("qingformer")
class Lookahead(Wrapper):
    """After every `steps` updates go back part of the way to where the last such point was.

        slow <- slow + step_size * (theta - slow),   theta <- slow      after every `steps` updates of theta

    The slow weights start as the weights before the first update. (In the original they start at 0 and are first
    synchronised in the first step, which shrinks all weights once.)

    Source: Zhang et al. 2019, arXiv 1907.08610.

    Args:
        optimizer: the optimizer to wrap.
        steps: updates between two synchronisations, >= 1.
        step_size: how far the slow weights follow, in (0, 1]; 1 is the inner optimizer itself.
        name: of the wrapper.

    Raises:
        ConfigError: an argument that cannot be.

    Example:
        >>> optimizer = Lookahead(keras.optimizers.Adam(1e-3), steps=5, step_size=0.5)
    """

    def __init__(
        self, optimizer: keras.optimizers.Optimizer, steps: int = 5, step_size: float = 0.5, name: str | None = None
    ) -> None:
        super().__init__(optimizer, name)
        if steps < 1 or steps != int(steps):
            raise ConfigError(f"Lookahead: steps is {steps}; it must be a whole number of 1 or more")
        if not 0 < step_size <= 1:
            raise ConfigError(f"Lookahead: step_size is {step_size}; it must be more than 0 and at most 1")
        self.steps, self.step_size = int(steps), float(step_size)

    def build_state(self, variables: list[keras.Variable]) -> None:
        """The slow weights; they are filled in the first step, because weights may be loaded until then."""
        self._slow = self.add_optimizer_variables(variables, "slow")

    def update(self, gradients: list[Tensor], variables: list[keras.Variable]) -> None:
        """The inner step, and the synchronisation where one is due."""
        pairs = [(fast, slow) for fast, slow in zip(self._trainable_variables, self._slow) if slow is not None]
        fast, slow = [f for f, _ in pairs], [s for _, s in pairs]
        before = snapshot(self.iterations)
        assign_when(ops.equal(before, 0), slow, lambda: [snapshot(variable) for variable in fast])
        self.update_inner(gradients, variables)
        due = ops.logical_and(self.iterations > before, ops.equal(ops.mod(self.iterations, self.steps), 0))

        def synchronised() -> list[Tensor]:
            values = [s + self.step_size * (f - s) for f, s in pairs]
            return [ops.cast(value, s.dtype) for value, s in zip(values, slow)] * 2

        assign_when(due, [*slow, *fast], synchronised)

    def get_config(self) -> Config:
        """The constructor's arguments."""
        return super().get_config() | {"steps": self.steps, "step_size": self.step_size}
