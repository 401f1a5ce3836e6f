"""Pooling over time that leaves padding out."""

import keras
from keras import ops

from qingformer.types import Tensor


class _GlobalPooling(keras.layers.Layer):
    """What the poolings over time share: (B, T, d) to (B, d)."""

    def build(self, *shapes: object) -> None:
        """Nothing to make."""

    def compute_output_spec(self, x: Tensor, padding_mask: Tensor = None) -> keras.KerasTensor:
        return keras.KerasTensor((x.shape[0], x.shape[-1]), self.compute_dtype)


@keras.saving.register_keras_serializable("qingformer")
class GlobalAveragePooling(_GlobalPooling):
    """The mean of the positions that are not padding: sum_t m_t x_t / max(sum_t m_t, 1).

    Inputs `x` (B, T, d) float and optional `padding_mask` (B, T) integer or bool, 1 = keep; output (B, d). The sum is
    in float32; a row without any position gives zeros.

    Example: `GlobalAveragePooling()(ops.ones((2, 5, 8)), ops.ones((2, 5), "int32"))`
    """

    def call(self, x: Tensor, padding_mask: Tensor | None = None) -> Tensor:
        """Average `x` over time."""
        wide = ops.cast(x, "float32")
        if padding_mask is None:
            return ops.cast(ops.mean(wide, axis=1), x.dtype)
        # Chosen, not multiplied: padding may hold anything, infinities too.
        keep = ops.cast(padding_mask, "bool")[:, :, None]
        count = ops.maximum(ops.sum(ops.cast(keep, "float32"), axis=1), 1.0)
        return ops.cast(ops.sum(ops.where(keep, wide, 0.0), axis=1) / count, x.dtype)


@keras.saving.register_keras_serializable("qingformer")
class GlobalMaxPooling(_GlobalPooling):
    """The largest value of each component over the positions that are not padding: max over t with m_t = 1 of x_t.

    Inputs `x` (B, T, d) float and optional `padding_mask` (B, T) integer or bool, 1 = keep; output (B, d). A row
    without any position gives zeros.

    Example: `GlobalMaxPooling()(ops.ones((2, 5, 8)), ops.ones((2, 5), "int32"))`
    """

    def call(self, x: Tensor, padding_mask: Tensor | None = None) -> Tensor:
        """The maximum of `x` over time."""
        if padding_mask is None:
            return ops.max(x, axis=1)
        keep = ops.cast(padding_mask, "bool")[:, :, None]
        largest = ops.max(ops.where(keep, x, ops.cast(-1e30, x.dtype)), axis=1)
        return ops.where(ops.any(keep, axis=1), largest, ops.cast(0.0, x.dtype))
