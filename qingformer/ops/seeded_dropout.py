"""Dropout as a pure function of an explicit seed, so that a recomputed forward pass drops the same units."""

from keras import ops

from qingformer import backend
from qingformer.types import Tensor


def dropout(x: Tensor, rate: float, seed: Tensor | None, site: int = 0) -> Tensor:
    """Zero each element with probability `rate` and scale the others by 1 / (1 - rate); without a seed, return `x`.

    `x` float of any shape; `seed` (2,) uint32 as `keras.random.SeedGenerator.next()` gives it; `site` an integer that
    makes several uses of one seed independent. Source: Srivastava et al. 2014, JMLR 15.

    Example: `dropout(ops.ones((2, 3)), 0.1, keras.random.SeedGenerator(0).next())`
    """
    if seed is None or rate == 0.0:
        return x
    keep = backend.keep_mask(seed, ops.shape(x), rate, site)
    return ops.where(keep, x * ops.cast(1.0 / (1.0 - rate), x.dtype), ops.cast(0.0, x.dtype))
