"""Weights that make rare classes count."""

import numpy as np

from qingformer.errors import DataError

SCHEMES = ("balanced", "sqrt", "effective")


def class_weights(labels: object, num_classes: int, scheme: str = "balanced", beta: float = 0.999) -> np.ndarray:
    """Weight of every class, (num_classes,) float64, from integer labels (n,).

    "balanced" is n / (k n_c) with n_c the examples of class c and k the number of classes that occur;
    "sqrt" is the milder 1 / sqrt(n_c); "effective" is (1 - beta) / (1 - beta^n_c), the inverse of the effective number
    of examples: like 1 / n_c for classes of far less than 1 / (1 - beta) examples, and the same for all far above.
    Each is scaled so that the mean weight over the examples is 1, as it is for "balanced".
    A class without examples gets weight 0. As sample weights: `class_weights(y, k)[y]`.
    "balanced" follows King and Zeng, "Logistic Regression in Rare Events Data" (2001); "effective" Cui, Jia, Lin, Song
    and Belongie 2019, arXiv 1901.05555 (there beta is 0.9 to 0.9999).

    Raises `DataError` for labels that are not integers in [0, num_classes), an unknown scheme, or beta outside [0, 1).

    >>> class_weights([0, 0, 0, 1], 2).round(3).tolist()
    [0.667, 2.0]
    """
    labels = np.asarray(labels)
    if labels.ndim != 1 or labels.dtype.kind not in "iu" or not len(labels):
        raise DataError(f"class weights need one integer label per example, not {labels.dtype} of shape {labels.shape}")
    if labels.min() < 0 or labels.max() >= num_classes:
        raise DataError(f"labels from {labels.min()} to {labels.max()} do not fit {num_classes} classes")
    counts = np.bincount(labels, minlength=num_classes).astype(np.float64)
    raw = _inverse(np.maximum(counts, 1), scheme, beta)
    # A class that does not occur weighs nothing; the mean weight over the examples stays 1.
    raw[counts == 0] = 0
    # Scaled to a mean of 1 over the examples, so that the learning rate keeps its meaning.
    return raw * len(labels) / (raw @ counts)


def _inverse(counts: np.ndarray, scheme: str, beta: float) -> np.ndarray:
    if scheme == "balanced":
        return 1 / counts
    if scheme == "sqrt":
        return 1 / np.sqrt(counts)
    if scheme != "effective":
        raise DataError(f"class weight scheme {scheme!r}: choose one of {', '.join(SCHEMES)}")
    if not 0 <= beta < 1:
        raise DataError(f"beta is {beta}; the effective number of examples needs it in [0, 1)")
    # 1 - beta^n without the loss of digits that a beta close to 1 would bring.
    return np.ones_like(counts) if beta == 0 else (1 - beta) / -np.expm1(counts * np.log(beta))
