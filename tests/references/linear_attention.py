"""Linear attention in float64 NumPy, one query, one key and one head at a time (Katharopoulos 2020, 2006.16236)."""

import numpy as np

from tests.references.gated_attention import dense, turn


def elu_plus_one(x):
    return np.where(x > 0, x + 1, np.exp(np.minimum(x, 0)))


def relu(x):
    return np.maximum(x, 0)


def linear_attention(x, weights, num_heads, feature_map=elu_plus_one, causal=False, keep=None, rotary=False):
    """`x` (B, T, d), `keep` (B, T) bool; `weights` by name as in LinearAttention. Returns (B, T, d)."""
    batch, length, _ = x.shape
    keep = np.ones((batch, length), bool) if keep is None else keep
    query, key, value = (dense(x, weights, name) for name in ("query", "key", "value"))
    key_size, head_size = query.shape[-1] // num_heads, value.shape[-1] // num_heads
    joined = np.zeros(value.shape)
    for row, head in np.ndindex(batch, num_heads):
        keys, values = slice(head * key_size, (head + 1) * key_size), slice(head * head_size, (head + 1) * head_size)
        q, k = feature_map(query[row, :, keys]), feature_map(key[row, :, keys])
        for j in range(length):
            numerator, denominator = np.zeros(head_size), 0.0
            for t in range(j + 1 if causal else length):
                if keep[row, t]:
                    product = turn(q[j], j) @ turn(k[t], t) if rotary else q[j] @ k[t]
                    numerator += product * value[row, t, values]
                    denominator += q[j] @ k[t]
            joined[row, j, values] = numerator / max(denominator, 1e-6)
    return dense(joined, weights, "output")
