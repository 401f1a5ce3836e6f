"""Relative positions: clipped distances with a fixed sinusoidal table (NEZHA), and T5's logarithmic buckets."""

import numpy as np
from keras import ops

from qingformer.types import Tensor


def relative_positions(query_length: Tensor, key_length: Tensor) -> Tensor:
    """Distances k - j of key k from query j: (Tq, Tk) int32.

    Example: `relative_positions(2, 3)` gives `[[0, 1, 2], [-1, 0, 1]]`
    """
    return ops.arange(key_length, dtype="int32")[None, :] - ops.arange(query_length, dtype="int32")[:, None]


def clipped_positions(query_length: Tensor, key_length: Tensor, limit: int) -> Tensor:
    """Rows of a table of 2 limit + 1 distances: clip(k - j, -limit, limit) + limit, (Tq, Tk) int32."""
    return ops.clip(relative_positions(query_length, key_length), -limit, limit) + limit


def bucket_of_distance(num_buckets: int, max_distance: int) -> np.ndarray:
    """T5's bucket of each distance 0 ... max_distance (max_distance + 1,) int32, in exact integer arithmetic.

    Half of the buckets are single distances; distance n beyond them is in bucket e + floor(log(n/e) / log(M/e) * m),
    with e = num_buckets // 2, m = num_buckets - e, M = max_distance, capped at num_buckets - 1. The floor is at least
    j exactly if n^m e^j >= M^j e^m, which whole numbers decide without rounding.
    Source: Raffel et al. 2019, arXiv 1910.10683, section 2.1.
    """
    exact = num_buckets // 2
    logarithmic = num_buckets - exact
    buckets = list(range(min(exact, max_distance + 1)))
    for n in range(exact, max_distance + 1):
        # Whole numbers: T5's floating-point logarithm falls on the border of a bucket, and rounds otherwise on each
        # device.
        steps = sum(n**logarithmic * exact**j >= max_distance**j * exact**logarithmic for j in range(1, logarithmic))
        buckets.append(exact + steps)
    return np.array(buckets, "int32")


def relative_buckets(
    query_length: Tensor, key_length: Tensor, num_buckets: int = 32, max_distance: int = 128, bidirectional: bool = True
) -> Tensor:
    """T5's bucket of every pair of query and key: (Tq, Tk) int32.

    Bidirectional: half of the buckets for keys at or before the query, half for keys after it. Otherwise keys after
    the query share bucket 0 with the query itself. Source: Raffel et al. 2019, arXiv 1910.10683.

    Example: `relative_buckets(3, 3)`
    """
    distance = -relative_positions(query_length, key_length)
    if not bidirectional:
        table = ops.convert_to_tensor(bucket_of_distance(num_buckets, max_distance))
        return ops.take(table, ops.clip(distance, 0, max_distance), axis=0)
    half = num_buckets // 2
    table = ops.convert_to_tensor(bucket_of_distance(half, max_distance))
    buckets = ops.take(table, ops.minimum(ops.abs(distance), max_distance), axis=0)
    return buckets + ops.where(distance < 0, half, 0)


def sinusoidal_table(position_ids: Tensor, size: int, base: float = 10000.0) -> Tensor:
    """Vectors [sin p r_0, cos p r_0, sin p r_1, ...] with r_i = base^(-2i/size), interleaved.

    `position_ids` of any shape S, integer or float, also negative or fractional; returns S + (size,) float32.
    Source: Vaswani et al. 2017, arXiv 1706.03762, section 3.5.

    Example: `sinusoidal_table(ops.arange(5), 8)`
    """
    rates = ops.power(ops.cast(base, "float32"), -2.0 * ops.arange(size // 2, dtype="float32") / size)
    angles = ops.expand_dims(ops.cast(position_ids, "float32"), -1) * rates
    waves = ops.stack([ops.sin(angles), ops.cos(angles)], axis=-1)
    return ops.reshape(waves, (*ops.shape(angles)[:-1], size))


def relative_table(length: Tensor, size: int, limit: int) -> Tensor:
    """NEZHA's fixed vectors of the distances -l ... l, l = `limit` or T - 1 if that is less: (2l + 1, size) float32.

    Distance r has the sinusoidal vector of position r + limit; longer distances count as l or -l, so that the table
    does not grow with the text. A length known only at run time leaves l = limit.
    Source: Wei et al. 2019, arXiv 1909.00204.

    Example: `relative_table(512, 64, limit=64)`
    """
    reach = max(1, min(limit, length - 1)) if isinstance(length, int) else limit
    return sinusoidal_table(ops.arange(-reach, reach + 1, dtype="int32") + limit, size)


def distances_to_keys(values: Tensor) -> Tensor:
    """From values by clipped distance to values by key: out[..., j, k] = values[..., j, clip(k - j, -l, l) + l].

    `values` (..., T, 2l + 1), its last axis the distances -l ... l; returns (..., T, T). Distances below l lie in a
    band that one pad and two reshapes shift by j in row j (the skew of Huang et al. 2018, arXiv 1809.04281), without a
    gather, whose gradient is slow.

    Example: `distances_to_keys(ops.ones((3, 5)))`
    """
    lead, rows, reach = ops.shape(values)[:-2], ops.shape(values)[-2], values.shape[-1] // 2
    # A row more than the width, read with a row less: each row comes out shifted by one, without a gather.
    width = rows + 2 * reach - 1
    wider = ops.concatenate([values[..., 1:-1], ops.zeros((*lead, rows, rows + 1), values.dtype)], axis=-1)
    flat = ops.reshape(wider, (*lead, rows * (width + 1)))[..., : rows * width]
    band = ops.reshape(flat, (*lead, rows, width))[..., reach - 1 : reach - 1 + rows]
    distance = relative_positions(rows, rows)
    after = ops.where(distance >= reach, values[..., -1:], band)
    return ops.where(distance <= -reach, values[..., :1], after)


def keys_to_distances(values: Tensor, reach: int) -> Tensor:
    """The transpose of `distances_to_keys`: out[..., j, r + l] sums values[..., j, k] over clip(k - j, -l, l) = r.

    `values` (..., T, T), l = `reach`; returns (..., T, 2l + 1), the sums beyond the band in float32 on the way.

    Example: `keys_to_distances(ops.ones((3, 3)), 2)`
    """
    lead, rows = ops.shape(values)[:-2], ops.shape(values)[-1]
    width = rows + 2 * reach - 1
    ends = [ops.zeros((*lead, rows, count), values.dtype) for count in (reach - 1, reach)]
    flat = ops.reshape(ops.concatenate([ends[0], values, ends[1]], axis=-1), (*lead, rows * width))
    flat = ops.concatenate([flat, ops.zeros((*lead, rows), values.dtype)], axis=-1)
    band = ops.reshape(flat, (*lead, rows, width + 1))[..., : 2 * reach - 1]
    distance, wide = relative_positions(rows, rows), ops.cast(values, "float32")
    before, after = (
        ops.cast(ops.sum(ops.where(beyond, wide, 0.0), axis=-1, keepdims=True), values.dtype)
        for beyond in (distance <= -reach, distance >= reach)
    )
    return ops.concatenate([before, band, after], axis=-1)
