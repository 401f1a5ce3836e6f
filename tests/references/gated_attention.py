"""The gated attention unit in float64 NumPy, one query and one key at a time (Hua et al. 2022, arXiv 2202.10447)."""

import math

import numpy as np


def swish(x):
    return x / (1 + np.exp(-x))


def dense(x, weights, name):
    return x @ weights[f"{name}/kernel"] + weights.get(f"{name}/bias", 0.0)


def affine(z, weights, name):
    return z * weights[f"{name}/gamma"] + weights.get(f"{name}/beta", 0.0)


def turn(vector, position):
    """Each pair of neighbours (a, b) turned by the angle position * 10000^(-2i/s)."""
    turned = np.zeros_like(vector)
    for i in range(len(vector) // 2):
        angle = position * 10000.0 ** (-2 * i / len(vector))
        a, b = vector[2 * i], vector[2 * i + 1]
        turned[2 * i] = a * math.cos(angle) - b * math.sin(angle)
        turned[2 * i + 1] = b * math.cos(angle) + a * math.sin(angle)
    return turned


def turn_all(x, positions):
    """`x` (B, T, s), `positions` (T,)."""
    return np.stack([np.stack([turn(row[t], positions[t]) for t in range(len(row))]) for row in x])


def row_weights(scores, seen, normalization):
    """The weights of one query over its keys: `scores` (Tk,), `seen` (Tk,) bool."""
    weights = np.zeros(len(scores))
    keys = [k for k in range(len(scores)) if seen[k]]
    if normalization == "squared_relu":
        for k in keys:
            weights[k] = max(scores[k], 0.0) ** 2 / len(keys)
        return weights
    factor = math.log(max(len(keys), 16)) / math.log(512) if normalization == "softmax_plus" else 1.0
    total = sum(math.exp(factor * scores[k]) for k in keys)
    for k in keys:
        weights[k] = math.exp(factor * scores[k]) / total
    return weights


def attend(query, key, value, seen, normalization="squared_relu", scale=True, bias=None):
    """Queries (B, Tq, s), keys (B, Tk, s), values (B, Tk, e), `seen` (B, Tq, Tk) bool, `bias` alike: (B, Tq, e)."""
    mixed = np.zeros((*query.shape[:2], value.shape[-1]))
    for batch in range(query.shape[0]):
        for j in range(query.shape[1]):
            scores = np.zeros(key.shape[1])
            for k in range(key.shape[1]):
                scores[k] = query[batch, j] @ key[batch, k] / (math.sqrt(query.shape[-1]) if scale else 1.0)
                scores[k] += 0.0 if bias is None else bias[batch, j, k]
            weights = row_weights(scores, seen[batch, j], normalization)
            for k in range(key.shape[1]):
                mixed[batch, j] += weights[k] * value[batch, k]
    return mixed


def gated_attention(x, weights, seen=None, context=None, rotary=False, **options):
    """`x` (B, Tq, d), `context` (B, Tk, c), `seen` (B, Tq, Tk) bool; `weights` by name as in GatedAttentionUnit."""
    inner = weights["output/kernel"].shape[0]
    hidden = swish(dense(x, weights, "input"))
    if context is None:
        gate, value, shared = hidden[..., :inner], hidden[..., inner : 2 * inner], hidden[..., 2 * inner :]
        query, key = affine(shared, weights, "query_scale"), affine(shared, weights, "key_scale")
    else:
        gate, query = hidden[..., :inner], hidden[..., inner:]
        key, value = (swish(dense(context, weights, name)) for name in ("key", "value"))
    if rotary:
        query, key = turn_all(query, np.arange(query.shape[1])), turn_all(key, np.arange(key.shape[1]))
    if seen is None:
        seen = np.ones((x.shape[0], query.shape[1], key.shape[1]), bool)
    return dense(gate * attend(query, key, value, seen, **options), weights, "output")
