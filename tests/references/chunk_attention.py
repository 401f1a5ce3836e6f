"""Mixed chunk attention (FLASH) in float64 NumPy, one token at a time (Hua et al. 2022, arXiv 2202.10447)."""

import math

import numpy as np

from tests.references.gated_attention import affine, dense, swish, turn_all


def inside(query, key, value, j, keys):
    """relu(q_j K^T / sqrt(s))^2 V / l over the tokens `keys` of one chunk."""
    total = np.zeros(value.shape[-1])
    for k in keys:
        total += max(query[j] @ key[k] / math.sqrt(query.shape[-1]), 0.0) ** 2 * value[k]
    return total / max(len(keys), 1)


def between(query, key, value, j, keys):
    """q_j (sum of k v^T over the tokens `keys`) / their number."""
    total = np.zeros((key.shape[-1], value.shape[-1]))
    for k in keys:
        total += np.outer(key[k], value[k])
    return query[j] @ total / max(len(keys), 1)


def mixed_chunk_attention(x, weights, chunk_size, causal=False, keep=None, rotary=False):
    """`x` (B, T, d), `keep` (B, T) bool; `weights` by name as in MixedChunkAttention. Returns (B, T, d)."""
    batch, length, _ = x.shape
    keep = np.ones((batch, length), bool) if keep is None else keep
    size = weights["output/kernel"].shape[0]
    hidden = swish(dense(x, weights, "input"))
    gate, value, shared = hidden[..., :size], hidden[..., size : 2 * size], hidden[..., 2 * size :]
    names = ("quadratic_query", "quadratic_key", "linear_query", "linear_key")
    maps = [affine(shared, weights, f"{name}_scale") for name in names]
    if rotary:
        maps = [turn_all(part, np.arange(length)) for part in maps]
    mixed = np.zeros((batch, length, size))
    for row in range(batch):
        query, key, far_query, far_key = (part[row] for part in maps)
        there = [t for t in range(length) if keep[row, t]]
        for j in range(length):
            chunk = j // chunk_size
            near = [t for t in there if t // chunk_size == chunk and (t <= j or not causal)]
            far = [t for t in there if t // chunk_size < chunk] if causal else there
            mixed[row, j] = inside(query, key, value[row], j, near)
            mixed[row, j] += between(far_query, far_key, value[row], j, far)
    return dense(gate * mixed, weights, "output")
