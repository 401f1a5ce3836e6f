"""Embeddings of which only the rows in the batch move."""

from collections.abc import Iterable

import keras
from keras import ops

from qingformer import backend
from qingformer.optimizers.lazy_adam import used_rows
from qingformer.optimizers.patterns import check_all_match, checked_patterns, matches
from qingformer.optimizers.wrapper import Change, UpdateWrapper, snapshot
from qingformer.types import Config, Tensor


@keras.saving.register_keras_serializable("qingformer")
class LazyUpdates(UpdateWrapper):
    """Move only those rows of the chosen variables whose gradient has an element that is not zero.

        theta[i] <- inner step of theta[i]  where any(g[i] != 0),   theta[i] otherwise

    Adam moves a word's vector by momentum long after the word was seen; with this it rests. The inner optimizer's
    statistics of resting rows go on decaying, as in the original; with `hold_state` they rest too (those of the inner
    optimizer's variables that have the shape of the variable and are named after it).

    Source: the lazy optimization of bert4keras, 科学空间.

    Args:
        optimizer: the optimizer to wrap.
        patterns: regular expressions, searched in the path.
        hold_state: whether the inner optimizer's statistics of resting rows rest too.
        name: of the wrapper.

    Raises:
        ConfigError: a pattern that cannot be; in `build`, one that matches no variable.

    Example:
        >>> optimizer = LazyUpdates(keras.optimizers.Adam(1e-3), ["token_embedding"])
    """

    def __init__(
        self,
        optimizer: keras.optimizers.Optimizer,
        patterns: Iterable[str],
        hold_state: bool = False,
        name: str | None = None,
    ) -> None:
        super().__init__(optimizer, name)
        self.patterns = checked_patterns("LazyUpdates", "patterns", patterns)
        self.hold_state = hold_state

    def build_state(self, variables: list[keras.Variable]) -> None:
        """Find the variables, and what the inner optimizer keeps for each."""
        check_all_match(self.patterns, variables, "LazyUpdates")
        self._lazy = [matches(self.patterns, variable) for variable in variables]
        self._slots: list[list[keras.Variable]] = [[] for _ in variables]
        for slot in self.inner_optimizer.variables if self.hold_state else []:
            owners = [
                (len(v.path), i)
                for i, v in enumerate(variables)
                if slot.shape == v.shape and slot.name.startswith(v.path.replace("/", "_") + "_")
            ]
            if owners and self._lazy[max(owners)[1]]:  # "a_b" also begins "a_b_c": the longest path is meant
                self._slots[max(owners)[1]].append(slot)

    def concerns(self, index: int) -> bool:
        """Whether the variable is lazy."""
        lazy: bool = self._lazy[index]
        return lazy

    def change(self, change: Change) -> Tensor:
        """The old rows where there was no gradient."""
        return ops.where(used_rows(backend.dense(change.gradient)), change.new, change.old)

    def update_inner(self, gradients: list[Tensor], variables: list[keras.Variable]) -> None:
        """The inner step, after which the statistics of resting rows are put back."""
        held = []
        for variable, gradient in zip(variables, gradients):
            if gradient is not None:
                slots = self._slots[self._get_variable_index(variable)]
                held += [(slot, snapshot(slot), gradient) for slot in slots]
        super().update_inner(gradients, variables)
        for slot, old, gradient in held:
            slot.assign(ops.where(used_rows(backend.dense(gradient)), ops.convert_to_tensor(slot), old))

    def get_config(self) -> Config:
        """The constructor's arguments."""
        return super().get_config() | {"patterns": list(self.patterns), "hold_state": self.hold_state}
