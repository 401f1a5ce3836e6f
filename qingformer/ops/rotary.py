"""Rotary positions: queries and keys turned by angles, so that their product knows only the distance."""

from keras import ops

from qingformer.errors import ConfigError
from qingformer.types import Tensor


def rotary_table(
    position_ids: Tensor, size: int, base: float = 10000.0, scaling: float = 1.0, limit: int | None = None
) -> Tensor:
    """Cosines and sines of the angles p_t * base^(-2i/size), i = 0 ... size/2 - 1.

    `position_ids` (..., T) integer or float; returns (..., T, 2, size/2) float32, cosines first. `scaling` divides the
    positions (interpolation beyond the trained length), `limit` clips them at `limit - 1`.
    Sources: Su et al. 2021, arXiv 2104.09864; Chen et al. 2023 (interpolation), arXiv 2306.15595.

    Example: `rotary_table(ops.arange(5), 8)`
    """
    positions = ops.cast(position_ids, "float32")
    if limit is not None:
        positions = ops.minimum(positions, float(limit - 1))
    rates = ops.power(ops.cast(base, "float32"), -2.0 * ops.arange(size // 2, dtype="float32") / size)
    angles = ops.expand_dims(positions / scaling, -1) * rates
    return ops.stack([ops.cos(angles), ops.sin(angles)], axis=-2)


def apply_rotary(x: Tensor, table: Tensor, interleaved: bool = True) -> Tensor:
    """Turn pairs of components of `x` (B, T, N, D) by the angles of `table` (B or 1, T, 2, D/2), as `rotary_table`.

    (a, b) becomes (a cos - b sin, b cos + a sin); the pairs are neighbours (0, 1), (2, 3), ... if `interleaved`, as
    the author has them, and otherwise the two halves (0, D/2), (1, D/2 + 1), ... as LLaMA's ports have them. <R_m q,
    R_n k> depends on m - n only, and lengths stay. Source: Su et al. 2021, arXiv 2104.09864; 科学空间 archives/8265.

    Example: `apply_rotary(ops.ones((1, 5, 2, 8)), rotary_table(ops.arange(5), 8)[None])`
    """
    table = ops.expand_dims(ops.cast(table, x.dtype), 2)
    cosine, sine = table[..., 0, :], table[..., 1, :]
    if interleaved:
        pairs = ops.reshape(x, (*ops.shape(x)[:-1], x.shape[-1] // 2, 2))
        first, second = pairs[..., 0], pairs[..., 1]
        turned = ops.stack([first * cosine - second * sine, second * cosine + first * sine], axis=-1)
        return ops.reshape(turned, ops.shape(x))
    first, second = ops.split(x, 2, axis=-1)
    return ops.concatenate([first * cosine - second * sine, second * cosine + first * sine], axis=-1)


def turned(x: Tensor, table: Tensor, interleaved: bool, name: str) -> Tensor:
    """`apply_rotary`, after `ConfigError` for a table of another length or size; `name` is that of the layer.

    Without the check a table of one position would be stretched over all, or one vector over all positions.

    Example: `turned(ops.ones((1, 5, 2, 8)), rotary_table(ops.arange(5), 8)[None], True, "attention")`
    """
    length, size, positions, pairs = x.shape[1], x.shape[-1], table.shape[1], table.shape[-1]
    if 2 * pairs != size or (None not in (length, positions) and length != positions):
        raise ConfigError(
            f"{name} turns {length} vectors of size {size}, but the rotary table has {positions} positions and serves "
            f"size {2 * pairs}"
        )
    return apply_rotary(x, table, interleaved)
