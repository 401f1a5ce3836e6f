"""Directions and distances of vectors."""

from keras import ops

from qingformer.types import Tensor


def unit(vectors: Tensor) -> Tensor:
    """Vectors divided by their length: (..., d) float, to float32; the zero vector stays zero, with a finite gradient.

    x / sqrt(max(|x|^2, 1e-12)).

    Example: `unit(ops.array([[3.0, 4.0]]))` gives `[[0.6, 0.8]]`
    """
    vectors = ops.cast(vectors, "float32")
    return vectors * ops.rsqrt(ops.maximum(ops.sum(ops.square(vectors), -1, keepdims=True), 1e-12))


def cosine(left: Tensor, right: Tensor) -> Tensor:
    """Cosine of the angle between vectors, row by row: (..., d) twice, to (...) float32.

    Example: `cosine(ops.array([[1.0, 0.0]]), ops.array([[0.0, 2.0]]))` gives `[0]`
    """
    return ops.sum(unit(left) * unit(right), -1)
