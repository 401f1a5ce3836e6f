"""One step of each optimizer, written down as in its paper, in NumPy and float64. `t` counts from 1."""

import numpy as np


def rms(x, axis=None):
    return np.sqrt(np.mean(x**2, axis=axis, keepdims=axis is not None))


def adam(x, g, state, t, lr, decay=0.0, b1=0.9, b2=0.999, eps=1e-6, correct=True):
    m = state["m"] = b1 * state.get("m", 0) + (1 - b1) * g
    v = state["v"] = b2 * state.get("v", 0) + (1 - b2) * g**2
    if correct:
        m, v = m / (1 - b1**t), v / (1 - b2**t)
    return x - lr * (m / (np.sqrt(v) + eps) + decay * x)


def lamb(x, g, state, t, lr, decay=0.0, adapt=True, **options):
    step = x - adam(x, g, state, t, 1.0, decay, **options)
    lengths = np.linalg.norm(x), np.linalg.norm(step)
    ratio = lengths[0] / lengths[1] if adapt and min(lengths) > 0 else 1.0
    return x - lr * ratio * step


def lazy_adam(x, g, state, t, lr, decay=0.0, freeze=True):
    """Row by row: a row without gradient keeps everything (or, not frozen, only its weights)."""
    after = x.copy()
    for row in range(len(x)):
        own = state.setdefault(row, {"m": np.zeros_like(x[row]), "v": np.zeros_like(x[row])})
        used = np.any(g[row] != 0)
        if used or not freeze:
            moved = adam(x[row], g[row], own, t, lr, decay)
            after[row] = moved if used else x[row]
    return after


def lion(x, g, state, t, lr, decay=0.0, b1=0.95, b2=0.98):
    m = state.get("m", np.zeros_like(x))
    state["m"] = b2 * m + (1 - b2) * g
    return x - lr * (np.sign(b1 * m + (1 - b1) * g) + decay * x)


def tiger(x, g, state, t, lr, decay=0.0, beta=0.965, kind="kernel", k=1):
    """`t` counts batches, of which k make an update."""
    m = state.get("m", np.zeros_like(x)) * (beta if (t - 1) % k == 0 else 1.0) + (1 - beta) / k * g
    state["m"] = m
    if t % k:
        return x
    scale = {"bias": 0.5, "kernel": rms(x), "embeddings": rms(x, -1)}[kind]
    return x - lr * scale * (np.sign(m) + decay * x)


def adax(x, g, state, t, lr, decay=0.0, b1=0.9, b2=1e-4, eps=1e-8):
    m = state["m"] = b1 * state.get("m", 0) + (1 - b1) * g
    v = state["v"] = (1 + b2) * state.get("v", 0) + b2 * g**2
    return x - lr * (m / (np.sqrt(v / ((1 + b2) ** t - 1)) + eps) + decay * x)


def adafactor(x, g, state, t, lr, decay=0.0, b1=0.0, b2=None, threshold=1.0, scaled=True, factored=True, eps2=1e-3):
    """In the form of sums; matrices are factored if `factored`."""
    share = t**-0.8 if b2 is None else 1 - b2
    squares = g**2 + 1e-30
    if factored and x.ndim == 2:
        rows = state["rows"] = (1 - share) * state.get("rows", 0) + share * squares.sum(1)
        columns = state["columns"] = (1 - share) * state.get("columns", 0) + share * squares.sum(0)
        v = np.outer(rows, columns) / rows.sum()
    else:
        v = state["v"] = (1 - share) * state.get("v", 0) + share * squares
    u = g / np.sqrt(v)
    if threshold is not None:
        u = u / max(1.0, rms(u) / threshold)
    if b1:
        u = state["m"] = b1 * state.get("m", 0) + (1 - b1) * u
    return x - lr * ((max(rms(x), eps2) if scaled else 1.0) * u + decay * x)
