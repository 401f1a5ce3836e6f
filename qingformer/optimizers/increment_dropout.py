"""Dropout of updates."""

import keras
from keras import ops

from qingformer import backend
from qingformer.backend.keras_internals import random_seed_dtype
from qingformer.errors import ConfigError
from qingformer.optimizers.wrapper import Change, UpdateWrapper
from qingformer.types import Config, Tensor


@keras.saving.register_keras_serializable("qingformer")
class IncrementDropout(UpdateWrapper):
    """Let only a random share of the elements move in each step, those further.

        theta <- theta + M / keep * delta,    M ~ Bernoulli(keep) for each element and step

    Unlike a mask on the gradient (ChildTuning), which momentum undoes, a masked element really rests. The masks are a
    function of seed, step and variable, so a resumed training draws the same.

    Source: 科学空间, archives/8764; the gradient form: Xu et al. 2021, arXiv 2109.05687.

    Args:
        optimizer: the optimizer to wrap.
        keep: the share of elements that move, in (0, 1]; 1 is the inner optimizer itself.
        seed: whole number.
        name: of the wrapper.

    Raises:
        ConfigError: a share that cannot be.

    Example:
        >>> optimizer = IncrementDropout(keras.optimizers.Adam(2e-5), keep=0.3)
    """

    def __init__(
        self, optimizer: keras.optimizers.Optimizer, keep: float = 0.3, seed: int = 0, name: str | None = None
    ) -> None:
        super().__init__(optimizer, name)
        if not 0 < keep <= 1:
            raise ConfigError(f"IncrementDropout: keep is {keep}; it must be more than 0 and at most 1")
        self.keep, self.seed = float(keep), int(seed)

    def concerns(self, index: int) -> bool:
        """All, unless nothing is dropped."""
        return self.keep < 1

    def change(self, change: Change) -> Tensor:
        """Mask and rescale the difference."""
        dtype = random_seed_dtype()
        seed = ops.stack([ops.cast(self.seed % 2**30, dtype), ops.cast(change.step, dtype)])
        mask = backend.keep_mask(seed, tuple(change.old.shape), 1 - self.keep, site=change.place)
        delta = change.new - change.old
        return change.old + ops.where(mask, delta / self.keep, ops.zeros_like(delta))

    def get_config(self) -> Config:
        """The constructor's arguments."""
        return super().get_config() | {"keep": self.keep, "seed": self.seed}
