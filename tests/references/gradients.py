"""Derivatives by central differences, to compare gradients with."""

import numpy as np


def central_difference(function, arrays, name, index, step=1e-5):
    """d function(arrays) / d arrays[name][index]; `function` takes float64 arrays by name and returns a number."""
    values = []
    for sign in (1, -1):
        moved = {key: np.array(array, "float64") for key, array in arrays.items()}
        moved[name][index] += sign * step
        values.append(function(moved))
    return (values[0] - values[1]) / (2 * step)
