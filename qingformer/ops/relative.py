"""Relative positions: clipped distances with a fixed sinusoidal table (NEZHA), and T5's logarithmic buckets."""

from typing import Any

import numpy as np
from keras import ops

Tensor = Any


def relative_positions(query_length: Any, key_length: Any) -> Tensor:
    """Distances k - j of key k from query j: (Tq, Tk) int32.

    Example: `relative_positions(2, 3)` gives `[[0, 1, 2], [-1, 0, 1]]`
    """
    return ops.arange(key_length, dtype="int32")[None, :] - ops.arange(query_length, dtype="int32")[:, None]


def clipped_positions(query_length: Any, key_length: Any, limit: int) -> Tensor:
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
        steps = sum(
            n**logarithmic * exact**j >= max_distance**j * exact**logarithmic for j in range(1, logarithmic)
        )
        buckets.append(exact + steps)
    return np.array(buckets, "int32")


def relative_buckets(
    query_length: Any, key_length: Any, num_buckets: int = 32, max_distance: int = 128, bidirectional: bool = True
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


def relative_table(length: Any, size: int, limit: int) -> Tensor:
    """NEZHA's fixed vectors of the distances -(T - 1) ... T - 1, clipped at `limit`: (2T - 1, size) float32.

    Distance r has the sinusoidal vector of position clip(r, -limit, limit) + limit.
    Source: Wei et al. 2019, arXiv 1909.00204.
    """
    distances = ops.arange(2 * length - 1, dtype="int32") - (length - 1)
    return sinusoidal_table(ops.clip(distances, -limit, limit) + limit, size)


def distances_to_keys(values: Tensor) -> Tensor:
    """From values by distance to values by key: out[..., j, k] = values[..., j, k - j + T - 1].

    `values` (..., T, 2T - 1), its last axis the distances -(T - 1) ... T - 1; returns (..., T, T). One pad and two
    reshapes, which shift row j by j, instead of a gather (the skew of Huang et al. 2018, arXiv 1809.04281).

    Example: `distances_to_keys(ops.ones((3, 5)))`
    """
    lead, (rows, width) = ops.shape(values)[:-2], ops.shape(values)[-2:]
    wider = ops.concatenate([values, ops.zeros((*lead, rows, 1), values.dtype)], axis=-1)
    flat = ops.reshape(wider, (*lead, rows * (width + 1)))[..., rows - 1 : rows - 1 + rows * width]
    return ops.reshape(flat, (*lead, rows, width))[..., :rows]


def keys_to_distances(values: Tensor) -> Tensor:
    """The reverse of `distances_to_keys`, zero where a distance has no key: (..., T, T) to (..., T, 2T - 1).

    Example: `keys_to_distances(ops.ones((3, 3)))`
    """
    lead, rows = ops.shape(values)[:-2], ops.shape(values)[-1]
    width = 2 * rows - 1
    wider = ops.concatenate([values, ops.zeros((*lead, rows, rows - 1), values.dtype)], axis=-1)
    flat = ops.reshape(wider, (*lead, rows * width))
    ends = [ops.zeros((*lead, count), values.dtype) for count in (rows - 1, 1)]
    flat = ops.concatenate([ends[0], flat, ends[1]], axis=-1)
    return ops.reshape(flat, (*lead, rows, width + 1))[..., :width]
