"""Seeds that are arrays, for functions that must not count up a generator."""

import keras

from qingformer.types import Tensor

# Spreads the streams of one seed over the first word of the key. Any odd number would do; the recorded numbers of the
# tests, and runs that are resumed, hold this one.
_STREAM_STEP = 7919


class FixedSeed(keras.random.SeedGenerator):
    """A seed that is an array: what `keras.random.*(seed=...)` takes inside a pure or recomputed function.

    Keras accepts seed arrays on JAX only. This wraps one for all three: every draw gives the same numbers, nothing is
    counted up, so running the function twice (as `remat` does) drops the same units.

    Example:
        >>> seed = fresh_seed(keras.random.SeedGenerator(0))
        >>> keras.random.dropout(keras.ops.ones(4), 0.5, seed=FixedSeed(seed)).shape
    """

    def __init__(self, seed: Tensor) -> None:  # the parent would create a variable, which a traced function must not
        self.seed = seed
        self._initial_seed = 0  # on torch, dropout ignores generators that were made without a seed

    def next(self, ordered: bool = True) -> Tensor:
        """The seed itself, every time."""
        return self.seed

    def for_site(self, site: int) -> "FixedSeed":
        """The seed of another, independent stream of the same call."""
        return FixedSeed(self.seed + keras.ops.convert_to_tensor([site * _STREAM_STEP, 0], dtype=self.seed.dtype))

    def uniform(self, shape: tuple[int, ...]) -> Tensor:
        """Uniform numbers in [0, 1) of `shape`, the same every time."""
        return keras.random.uniform(shape, seed=self)
