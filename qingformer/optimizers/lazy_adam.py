"""Adam that leaves alone the rows that a batch did not use."""

from collections.abc import Iterable, Sequence
from typing import Any

import keras
from keras import ops

from qingformer.optimizers.adam import Adam
from qingformer.optimizers.patterns import EMBEDDINGS, checked_patterns
from qingformer.types import Config, Tensor


@keras.saving.register_keras_serializable("qingformer")
class LazyAdam(Adam):
    """Adam that changes a row of an embedding only in steps whose gradient has a non-zero element in that row.

        used_i = any_j(g_ij != 0);   rows with used_i: Adam's step and decay;   other rows: nothing

    With Adam, a rare token moves on for a long time after it was seen, driven by its old momentum. Rows keep their two
    means as well as their weights while they are unused; with `freeze_moments=False` the means go on decaying, as in
    the original toolkit, and only the weights stand still.

    This changes what is learned, not how long a step takes: gradients are dense here, and all rows are looked at. With
    tied embeddings (a language model's output) every row has a gradient in every step, and this is Adam.

    Args:
        lazy: regular expressions of paths whose rows are treated so; variables of one axis never are.
        freeze_moments: see above.
        options: those of `Adam`.

    Raises:
        ConfigError: an argument that cannot be.

    Source: 科学空间 archives/6869.

    Example:
        >>> model.compile(LazyAdam(1e-3), "sparse_categorical_crossentropy")
    """

    def __init__(
        self,
        learning_rate: Any = 1e-3,
        lazy: Iterable[str] = EMBEDDINGS,
        freeze_moments: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(learning_rate, **options)
        self._lazy_patterns = checked_patterns("LazyAdam", "lazy", lazy)
        self.freeze_moments = freeze_moments

    def build(self, variables: Sequence[keras.Variable]) -> None:
        """Make the two means for each variable."""
        if self.built:
            return
        super().build(variables)
        chosen = self.matching("lazy", self._lazy_patterns, variables)
        self._lazy = [match and len(v.shape) > 1 for v, match in zip(variables, chosen)]

    def change(self, gradient: Tensor, value: Tensor, index: int) -> Tensor:
        """Adam's step and decay, or zeros for rows that are not used."""
        change = super().change(gradient, value, index)
        return ops.where(used_rows(gradient), change, 0.0) if self._lazy[index] else change

    def targets(self, gradient: Tensor, index: int) -> tuple[Tensor, Tensor]:
        """Adam's, or for rows that are not used the means themselves."""
        if not (self._lazy[index] and self.freeze_moments):
            return super().targets(gradient, index)
        used = used_rows(gradient)
        mean, square = (
            ops.where(used, target, ops.convert_to_tensor(slot))
            for target, slot in zip(super().targets(gradient, index), (self._means[index], self._squares[index]))
        )
        return mean, square

    def get_config(self) -> Config:
        """The constructor's arguments."""
        return super().get_config() | {"lazy": list(self._lazy_patterns), "freeze_moments": self.freeze_moments}


def used_rows(gradient: Tensor) -> Tensor:
    """`(V, 1, ...)` bool: whether a row of `(V, ...)` has a non-zero element; for a vector `(V,)`."""
    used, axes = ops.not_equal(gradient, 0), tuple(range(1, len(gradient.shape)))
    return ops.any(used, axis=axes, keepdims=True) if axes else used
