"""Attention without a (T, T) matrix: Q (K^T V), its causal form by chunks, and the chunks themselves."""

from keras import ops

from qingformer.errors import ConfigError
from qingformer.types import Tensor


def key_mask(attention_mask: Tensor | None, name: str) -> Tensor | None:
    """The mask of the keys alone, (B or 1, T) bool, from (B, T) or (B, 1, 1, T); `ConfigError` for any other shape.

    `name` is that of the layer, for the message. Linear attention sums over keys before it meets a query, so that no
    query can have keys of its own.

    Example: `key_mask(ops.ones((2, 1, 1, 5), "bool"), "attention")`
    """
    if attention_mask is None:
        return None
    shape = tuple(attention_mask.shape)
    if len(shape) == 4 and shape[1:3] == (1, 1):
        return ops.cast(attention_mask[:, 0, 0], "bool")
    if len(shape) == 2:
        return ops.cast(attention_mask, "bool")
    raise ConfigError(
        f"{name} takes a mask of keys, (B, 1, 1, T) or (B, T), not {shape}: it cannot hide a key from some queries "
        "only; for a language model set causal=True and pass the padding mask"
    )


def split_chunks(x: Tensor, size: int) -> Tensor:
    """(B, T, ...) to (B, G, size, ...), G = ceil(T / size), the end filled with zeros.

    Example: `split_chunks(ops.ones((2, 5, 3)), 4)` has the shape (2, 2, 4, 3)
    """
    batch, length, *rest = ops.shape(x)
    missing = -length % size
    if not isinstance(missing, int) or missing:
        x = ops.concatenate([x, ops.zeros((batch, missing, *rest), x.dtype)], axis=1)
    return ops.reshape(x, (batch, (length + missing) // size, size, *rest))


def join_chunks(x: Tensor, length: Tensor) -> Tensor:
    """The reverse of `split_chunks`: (B, G, size, ...) to (B, length, ...)."""
    batch, chunks, size, *rest = ops.shape(x)
    return ops.reshape(x, (batch, chunks * size, *rest))[:, :length]


def sums_before(x: Tensor) -> Tensor:
    """The sum of all earlier chunks, zero for the first: out[:, g] = sum over h < g of x[:, h]; shape of `x`."""
    # Of chunks before this one; what is within it is computed as quadratic attention.
    return ops.concatenate([ops.zeros_like(x[:, :1]), ops.cumsum(x, axis=1)[:, :-1]], axis=1)


def key_values(key: Tensor, value: Tensor) -> Tensor:
    """K^T V in float32: `key` (..., T, s), `value` (..., T, e), to (..., s, e)."""
    # Kept in float32: the sums grow with the length of the text.
    return ops.cast(ops.matmul(ops.swapaxes(key, -1, -2), value), "float32")


def linear_product(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """out_j = sum over all k of <q_j, k_k> v_k, computed as Q (K^T V) in time linear in T.

    `query` and `key` (..., T, s), `value` (..., T, e) float; returns (..., T, e). Keys that are not to count are zero.
    Source: Katharopoulos et al. 2020, arXiv 2006.16236.

    Example: `linear_product(ops.ones((2, 5, 3)), ops.ones((2, 5, 3)), ops.ones((2, 5, 4)))`
    """
    return ops.matmul(query, ops.cast(key_values(key, value), query.dtype))


def causal_linear_product(query: Tensor, key: Tensor, value: Tensor, chunk_size: int) -> Tensor:
    """out_j = sum over k <= j of <q_j, k_k> v_k: the sum over earlier chunks, and the triangle inside the own chunk.

    `query` and `key` (B, T, ..., s), `value` (B, T, ..., e) float, the axes between T and the last alike; returns
    (B, T, ..., e). Time T (chunk_size + s) e, memory (T / chunk_size) s e. Keys that are not to count are zero.
    Source: Hua et al. 2022, arXiv 2202.10447, section 3.2 (chunks).

    Example: `causal_linear_product(ops.ones((2, 5, 3)), ops.ones((2, 5, 3)), ops.ones((2, 5, 4)), chunk_size=2)`
    """
    length = ops.shape(query)[1]
    query, key, value = (time_last(split_chunks(x, chunk_size)) for x in (query, key, value))
    before = ops.cast(sums_before(key_values(key, value)), query.dtype)
    inside = ops.tril(ops.matmul(query, ops.swapaxes(key, -1, -2)))
    return join_chunks(time_first(ops.matmul(query, before) + ops.matmul(inside, value)), length)


def time_last(x: Tensor) -> Tensor:
    """(B, G, c, ..., s) to (B, G, ..., c, s)."""
    return ops.moveaxis(x, 2, -2)


def time_first(x: Tensor) -> Tensor:
    """(B, G, ..., c, s) to (B, G, c, ..., s)."""
    return ops.moveaxis(x, -2, 2)
