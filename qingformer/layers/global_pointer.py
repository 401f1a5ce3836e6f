"""Global pointers: a score for every span of a text and every type, so that entities may nest."""

from typing import Any

import keras
from keras import ops

from qingformer.errors import ConfigError
from qingformer.layers.dense import Dense
from qingformer.ops.classes import HIDDEN
from qingformer.ops.rotary import apply_rotary, rotary_table
from qingformer.types import Config, InitializerLike, Tensor

IMPOSSIBLE = 10 * HIDDEN  # below what `ops.classes.visible` lets into a loss


class SpanScores(keras.layers.Layer):
    """What global pointers have in common: sizes, rotary positions, and the spans that cannot be.

    Inputs `x` (B, T, d) and `padding_mask` (B, T), true for tokens, or None; output (B, heads, T, T) float32, the score
    of each span from the token of the row to that of the column, both included. -1e12 where either is padding and, with
    `upper_triangle`, where a span would end before it starts.
    """

    def __init__(
        self,
        heads: int,
        head_size: int = 64,
        use_rotary: bool = True,
        upper_triangle: bool = True,
        use_bias: bool = True,
        kernel_initializer: InitializerLike = "lecun_normal",
        **kwargs: object,
    ) -> None:
        super().__init__(**kwargs)
        if heads < 1 or head_size < 1:
            raise ConfigError(f"{self.name}: {heads} heads of size {head_size}; both must be at least 1")
        if use_rotary and head_size % 2:
            raise ConfigError(f"{self.name}: head_size is {head_size}; rotary positions need an even one")
        self.heads = int(heads)
        self.head_size = int(head_size)
        self.use_rotary = bool(use_rotary)
        self.upper_triangle = bool(upper_triangle)
        self.use_bias = bool(use_bias)
        self.kernel_initializer = keras.initializers.get(kernel_initializer)

    def _dense(self, size: int, input_shape: tuple[Any, ...], name: str) -> Dense:
        initializer = self.kernel_initializer.clone()
        layer = Dense(size, use_bias=self.use_bias, kernel_initializer=initializer, name=name, dtype=self.dtype_policy)
        layer.build(input_shape)
        return layer

    def _turned(self, x: Tensor) -> Tensor:
        """`x` (B, T, N, size) in float32, turned by its position."""
        x = ops.cast(x, "float32")
        if not self.use_rotary:
            return x
        return apply_rotary(x, ops.expand_dims(rotary_table(ops.arange(ops.shape(x)[1]), self.head_size), 0))

    def _possible(self, scores: Tensor, mask: Tensor | None) -> Tensor:
        keep = None
        if mask is not None:
            mask = ops.cast(mask, "bool")
            keep = ops.logical_and(mask[:, None, :, None], mask[:, None, None, :])
        if self.upper_triangle:
            places = ops.arange(ops.shape(scores)[-1], dtype="int32")
            ahead = ops.expand_dims(places, -1) <= places
            keep = ahead if keep is None else ops.logical_and(keep, ahead)
        return scores if keep is None else ops.where(keep, scores, IMPOSSIBLE)

    def compute_output_spec(self, x: Tensor, padding_mask: Tensor = None) -> keras.KerasTensor:
        return keras.KerasTensor((x.shape[0], self.heads, x.shape[1], x.shape[1]), dtype="float32")

    def get_config(self) -> Config:
        return {
            **super().get_config(),
            "heads": self.heads,
            "head_size": self.head_size,
            "use_rotary": self.use_rotary,
            "upper_triangle": self.upper_triangle,
            "use_bias": self.use_bias,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }


@keras.saving.register_keras_serializable("qingformer")
class GlobalPointer(SpanScores):
    """s_a(i, j) = <R_i q_{i,a}, R_j k_{j,a}> / sqrt(D): queries and keys of size D for each type a, turned by position.

    q_a = x W_{q,a} + b, k_a = x W_{k,a} + b. For `qingformer.losses.MultilabelCategoricalCrossentropy(class_axes=2)`
    or its sparse form; a span is predicted where s > 0. Without rotary positions it cannot tell where an entity ends
    that stands twice in a text.

    Args:
        heads: number of types.
        head_size: D, even with rotary positions.
        use_rotary: turn queries and keys by their positions.
        upper_triangle: only spans that do not end before they start; off for pairs of heads or of tails.
        use_bias, kernel_initializer: of the projection (d, 2 * heads * D).

    Input `x` (B, T, d), `padding_mask` (B, T) or None; output (B, heads, T, T) float32. Raises `ConfigError` for sizes
    that cannot be.

    Source: Su et al. 2022, arXiv 2208.03054; 科学空间 archives/8373.

    Example: `GlobalPointer(heads=3)(ops.ones((2, 7, 16)))`
    """

    def build(self, x_shape: tuple[Any, ...], padding_mask_shape: object = None) -> None:
        self.dense = self._dense(2 * self.heads * self.head_size, x_shape, "dense")

    def call(self, x: Tensor, padding_mask: Tensor | None = None) -> Tensor:
        """Scores of all spans."""
        pairs = ops.reshape(self.dense(x), (*ops.shape(x)[:2], self.heads, 2 * self.head_size))
        query, key = self._turned(pairs[..., : self.head_size]), self._turned(pairs[..., self.head_size :])
        scores = ops.matmul(ops.transpose(query, (0, 2, 1, 3)), ops.transpose(key, (0, 2, 3, 1)))
        return self._possible(scores / self.head_size**0.5, padding_mask)


@keras.saving.register_keras_serializable("qingformer")
class EfficientGlobalPointer(SpanScores):
    """s_a(i, j) = <R_i q_i, R_j k_j> / sqrt(D) + w_a [q_i; k_i] + w'_a [q_j; k_j]: where spans are, and of which type.

    One query q and key k of size D serve all types; a type adds two vectors of size 2D (halved, as in the original),
    where `GlobalPointer` adds two matrices of d by D. Arguments, input, output and errors as there.

    Source: Su et al. 2022, arXiv 2208.03054; 科学空间 archives/8877.

    Example: `EfficientGlobalPointer(heads=3)(ops.ones((2, 7, 16)))`
    """

    def build(self, x_shape: tuple[Any, ...], padding_mask_shape: object = None) -> None:
        self.dense = self._dense(2 * self.head_size, x_shape, "dense")
        self.type_dense = self._dense(2 * self.heads, (*x_shape[:-1], 2 * self.head_size), "type_dense")

    def call(self, x: Tensor, padding_mask: Tensor | None = None) -> Tensor:
        """Scores of all spans."""
        joined = self.dense(x)
        # Query and key alternate, as do the scores by the end and by the start: the layout of published weights.
        pairs = ops.reshape(joined, (*ops.shape(x)[:2], self.head_size, 2))
        query, key = self._turned(pairs[:, :, None, :, 0])[:, :, 0], self._turned(pairs[:, :, None, :, 1])[:, :, 0]
        spans = ops.matmul(query, ops.transpose(key, (0, 2, 1))) / self.head_size**0.5
        types = ops.reshape(ops.cast(self.type_dense(joined), "float32") / 2, (*ops.shape(x)[:2], self.heads, 2))
        ends, starts = (ops.transpose(types[..., side], (0, 2, 1)) for side in (0, 1))
        return self._possible(spans[:, None] + starts[:, :, :, None] + ends[:, :, None, :], padding_mask)
