"""Mean of embedded tokens and a dense layer in float64, differentiated by hand: what the perturbed losses must be.

A point is a dictionary: `embedded` (B, T, H), `kernel` (H, C), `bias` (C,). Perturbing the table of the embedding moves
`embedded` by the table's rows, perturbing a sample moves its own part of `embedded`.
"""

import numpy as np


def softmax(z):
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def logits(embedded, kernel, bias):
    return embedded.mean(1) @ kernel + bias


def back(embedded, kernel, errors):
    """Gradients with respect to embedded tokens, kernel and bias, from those with respect to the logits (B, C)."""
    length = embedded.shape[1]
    inner = np.repeat((errors @ kernel.T / length)[:, None], length, 1)
    return inner, embedded.mean(1).T @ errors, errors.sum(0)


def cross_entropy(embedded, kernel, bias, y, weights=None):
    """Mean over the batch of weighted cross entropies, and its gradients."""
    weights = np.ones(len(y)) if weights is None else weights
    p = softmax(logits(embedded, kernel, bias))
    loss = -(weights * np.log(p[np.arange(len(y)), y])).mean()
    errors = (p - np.eye(p.shape[1])[y]) * weights[:, None] / len(y)
    return loss, back(embedded, kernel, errors)


def scatter(ids, inner, rows):
    """Gradient of a table (rows, H) from that of what was looked up with `ids` (B, T)."""
    table = np.zeros((rows, inner.shape[-1]))
    for index, gradient in zip(ids.reshape(-1), inner.reshape(-1, inner.shape[-1])):
        table[index] += gradient
    return table


def length(g, norm):
    axes = {"matrix": None, "row": -1, "sample": tuple(range(1, g.ndim))}[norm]
    return np.sqrt((g**2).sum(axis=axes, keepdims=True))


def step(g, size, attack, norm):
    return size * np.sign(g) if attack == "linf" else size * g / (length(g, norm) + 1e-8)


def shorten(delta, epsilon, attack, norm):
    if attack == "linf":
        return np.clip(delta, -epsilon, epsilon)
    return delta * np.minimum(1, epsilon / np.maximum(length(delta, norm), 1e-30))


def attacked(ids, table, kernel, bias, y, sizes, epsilon, attack, norm, weights=None):
    """The embedded tokens after steps of `sizes` uphill, each projected to `epsilon`."""
    delta = np.zeros((*ids.shape, table.shape[1]) if norm == "sample" else table.shape)
    for size in sizes:
        embedded = table[ids] + delta if norm == "sample" else (table + delta)[ids]
        _, (g, _, _) = cross_entropy(embedded, kernel, bias, y, weights)
        delta = delta + step(g if norm == "sample" else scatter(ids, g, len(table)), size, attack, norm)
        delta = shorten(delta, epsilon, attack, norm)
    return table[ids] + delta if norm == "sample" else (table + delta)[ids]


def numeric_gradient(function, point, size=1e-5):
    """Central differences of a scalar function of one array."""
    slope = np.zeros_like(point)
    for place in np.ndindex(point.shape):
        move = np.zeros_like(point)
        move[place] = size
        slope[place] = (function(point + move) - function(point - move)) / (2 * size)
    return slope
