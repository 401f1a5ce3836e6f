"""Attention and block written out in float64 NumPy, one head and one row at a time."""

import math

import numpy as np


def softmax(row: np.ndarray) -> np.ndarray:
    powers = np.exp(row - row.max())
    return powers / powers.sum()


def attend(x, weights, num_heads, mask=None):
    """`x` (B, T, d); `weights` name to array as in MultiHeadAttention; `mask` (B, T, T) bool. Returns (B, T, d)."""
    x = x.astype("float64")
    query, key, value = (x @ weights[f"{n}/kernel"] + weights[f"{n}/bias"] for n in ("query", "key", "value"))
    key_size, head_size = query.shape[-1] // num_heads, value.shape[-1] // num_heads
    joined = np.zeros((*x.shape[:2], num_heads * head_size))
    for batch in range(x.shape[0]):
        for head in range(num_heads):
            keys = slice(head * key_size, (head + 1) * key_size)
            values = slice(head * head_size, (head + 1) * head_size)
            for row in range(x.shape[1]):
                scores = key[batch, :, keys] @ query[batch, row, keys] / math.sqrt(key_size)
                if mask is not None:
                    scores = np.where(mask[batch, row], scores, -1e30)
                joined[batch, row, values] = softmax(scores) @ value[batch, :, values]
    return joined @ weights["output/kernel"] + weights["output/bias"]
