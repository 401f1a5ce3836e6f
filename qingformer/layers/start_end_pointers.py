"""Half pointers, half tags: whether a token starts, and whether it ends, a span of each type."""

from typing import Any

import keras
from keras import ops

from qingformer.errors import ConfigError
from qingformer.layers.dense import Dense
from qingformer.layers.global_pointer import IMPOSSIBLE
from qingformer.types import Config, InitializerLike, Tensor


@keras.saving.register_keras_serializable("qingformer")
class StartEndPointers(keras.layers.Layer):
    """s(t, a, start or end) = x_t w + b: two scores of each token for each type, to be read through a sigmoid.

    Any number of spans of each type, none nested in its own: a start goes with the next end of its type. For
    `qingformer.losses.PowerBinaryCrossentropy(class_axes=3)`, under which p = sigmoid(s)^power.

    Args:
        heads: number of types.
        kernel_initializer: of the projection (d, 2 * heads).

    Input `x` (B, T, d), `padding_mask` (B, T), true for tokens, or None; output (B, T, heads, 2) float32 scores (no
    sigmoid), -1e12 at padding. Raises `ConfigError` for no types, or inputs of other shapes.

    Source: 科学空间 archives/7161.

    Example: `StartEndPointers(heads=3)(ops.ones((2, 7, 16)))`
    """

    def __init__(self, heads: int, kernel_initializer: InitializerLike = "glorot_uniform", **kwargs: object) -> None:
        super().__init__(**kwargs)
        if heads < 1:
            raise ConfigError(f"{self.name}: {heads} heads; expected at least 1, one for each type")
        self.heads = int(heads)
        self.kernel_initializer = keras.initializers.get(kernel_initializer)

    def build(self, x_shape: tuple[Any, ...], padding_mask_shape: object = None) -> None:
        self._check(x_shape, padding_mask_shape)
        start = self.kernel_initializer.clone()
        self.dense = Dense(2 * self.heads, kernel_initializer=start, name="dense", dtype=self.dtype_policy)
        self.dense.build(x_shape)

    def call(self, x: Tensor, padding_mask: Tensor | None = None) -> Tensor:
        """Scores of all starts and ends."""
        self._check(x.shape, None if padding_mask is None else padding_mask.shape)
        scores = ops.reshape(ops.cast(self.dense(x), "float32"), (*ops.shape(x)[:2], self.heads, 2))
        if padding_mask is None:
            return scores
        return ops.where(ops.cast(padding_mask, "bool")[:, :, None, None], scores, IMPOSSIBLE)

    def compute_output_spec(self, x: Tensor, padding_mask: Tensor = None) -> keras.KerasTensor:
        self._check(x.shape, None if padding_mask is None else padding_mask.shape)
        return keras.KerasTensor((*x.shape[:2], self.heads, 2), dtype="float32")

    def get_config(self) -> Config:
        initializer = keras.initializers.serialize(self.kernel_initializer)
        return {**super().get_config(), "heads": self.heads, "kernel_initializer": initializer}

    def _check(self, x_shape: Any, mask_shape: Any) -> None:
        x_shape, mask_shape = tuple(x_shape), None if mask_shape is None else tuple(mask_shape)
        if len(x_shape) != 3 or x_shape[-1] is None:
            raise ConfigError(f"{self.name}: x has shape {x_shape}; expected (texts, tokens, size)")
        if mask_shape is not None and (
            len(mask_shape) != 2 or any(None not in pair and pair[0] != pair[1] for pair in zip(mask_shape, x_shape))
        ):
            raise ConfigError(f"{self.name}: the padding mask has shape {mask_shape}; expected {x_shape[:2]}")
