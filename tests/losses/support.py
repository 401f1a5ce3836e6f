"""Value and gradient of a loss as a training step takes them, and by differences of a slow reference."""

from pathlib import Path

import keras
import numpy as np

from qingformer import backend

RECORDED = Path(__file__).resolve().parent.parent / "fixtures" / "bert4keras" / "losses"


def recorded(name):
    """Numbers computed by bert4keras 0.11.5."""
    return np.load(RECORDED / f"{name}.npz")


def padded(array, rows, fill=0):
    """`array` with rows of `fill` behind it: operations of one shape are compiled once."""
    return np.concatenate([array, np.full((rows - len(array), *array.shape[1:]), fill, array.dtype)])


def numpy(x):
    return np.asarray(keras.ops.convert_to_numpy(x), "float64")


def arrays(nest):
    return keras.tree.map_structure(
        lambda x: keras.ops.convert_to_tensor(np.asarray(x, "float32" if np.asarray(x).dtype == "float64" else None)),
        nest,
    )


def values(loss, y, x, weights=None):
    """The reduced loss of arrays. Not compiled: operations of one shape are compiled once for all tests."""
    y, x = np.asarray(y), np.asarray(x)
    return numpy(loss(*arrays((y, x) if weights is None else (y, x, weights))))


def value_and_gradient(loss, y, x, weights=None, dtype="float32"):
    """The reduced loss and its gradient with respect to the predictions, float64."""

    def function(predictions, labels, *rest):
        return keras.ops.sum(loss(labels, predictions, *rest))

    y, x = np.asarray(y), np.asarray(x)
    labels, predictions, *rest = arrays((y, x) if weights is None else (y, x, weights))
    predictions = keras.ops.cast(predictions, dtype)
    value, gradient = backend.value_and_grad(function)(predictions, labels, *rest)
    assert keras.backend.standardize_dtype(gradient.dtype) == dtype
    return float(value), numpy(keras.ops.cast(gradient, "float32"))


def slope(function, x, step=1e-6):
    """Gradient of `function` of a float64 array by central differences."""
    x = np.asarray(x, "float64")
    found = np.zeros_like(x)
    for index in np.ndindex(x.shape):
        moved = [x.copy(), x.copy()]
        moved[0][index] += step
        moved[1][index] -= step
        found[index] = (function(moved[0]) - function(moved[1])) / (2 * step)
    return found


def check(loss, y, x, reference, weights=None, tolerance=1e-5):
    """Value and gradient equal those of `reference`, a function of the predictions in float64."""
    x = np.asarray(x, "float32")
    value, gradient = value_and_gradient(loss, y, x, weights)
    np.testing.assert_allclose(value, reference(x.astype("float64")), rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(gradient, slope(reference, x), rtol=1e-3, atol=10 * tolerance)
    return value, gradient


def again(loss):
    """The loss after serialisation."""
    return keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
