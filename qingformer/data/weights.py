"""Weights that make rare classes count."""

from typing import Any

import numpy as np

from qingformer.errors import DataError


def class_weights(labels: Any, num_classes: int, scheme: str = "balanced") -> np.ndarray:
    """Weight of every class, (num_classes,) float64, from integer labels (n,).

    "balanced" is n / (k n_c) with n_c the examples of class c and k the number of classes that occur;
    "sqrt" is the milder 1 / sqrt(n_c), scaled so that the mean weight over the examples is 1, as it is for "balanced".
    A class without examples gets weight 0. As sample weights: `class_weights(y, k)[y]`.
    "balanced" follows King and Zeng, "Logistic Regression in Rare Events Data" (2001).

    Raises `DataError` for labels that are not integers in [0, num_classes), or an unknown scheme.

    >>> class_weights([0, 0, 0, 1], 2).round(3).tolist()
    [0.667, 2.0]
    """
    labels = np.asarray(labels)
    if labels.ndim != 1 or labels.dtype.kind not in "iu" or not len(labels):
        raise DataError(f"class weights need one integer label per example, not {labels.dtype} of shape {labels.shape}")
    if labels.min() < 0 or labels.max() >= num_classes:
        raise DataError(f"labels from {labels.min()} to {labels.max()} do not fit {num_classes} classes")
    counts = np.bincount(labels, minlength=num_classes).astype(np.float64)
    if scheme == "balanced":
        raw = 1 / np.maximum(counts, 1)
    elif scheme == "sqrt":
        raw = 1 / np.sqrt(np.maximum(counts, 1))
    else:
        raise DataError(f"class weight scheme {scheme!r}: choose 'balanced' or 'sqrt'")
    raw[counts == 0] = 0
    return raw * len(labels) / (raw @ counts)
