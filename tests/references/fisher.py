"""Fisher information of the mean-pooled classifier of `tests/objectives`, one example and one element at a time."""

import numpy as np


def fisher(one_gradient, x, y):
    """1/N sum over examples of the squared gradient; `one_gradient(x, y)` gives a list of arrays."""
    total = None
    for example, label in zip(x, y):
        squares = [np.square(g) for g in one_gradient(example[None], label[None])]
        total = squares if total is None else [a + b for a, b in zip(total, squares)]
    return [t / len(x) for t in total]


def top(values, count):
    """Positions of the `count` largest values, the first ones among equals."""
    order = sorted(range(len(values)), key=lambda i: (-values[i], i))
    return set(order[:count])
