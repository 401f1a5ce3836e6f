"""Absolute positions, learned or sinusoidal, and the ways to merge them with the input."""

import keras
from keras import ops

from qingformer.errors import ConfigError
from qingformer.ops.hierarchical_positions import hierarchical_positions
from qingformer.ops.relative_distances import sinusoidal_table
from qingformer.types import Config, InitializerLike, Tensor

MERGE_MODES = ("add", "mul", "zero", "concat")


class _AbsolutePositions(keras.layers.Layer):
    """What absolute positions share: how the vectors p (B or 1, T, output_dim) meet the input x (B, T, d)."""

    def __init__(self, output_dim: int, merge_mode: str, **kwargs: object) -> None:
        super().__init__(**kwargs)
        if merge_mode not in MERGE_MODES:
            raise ConfigError(f"unknown merge mode {merge_mode!r}; use one of {', '.join(MERGE_MODES)}")
        self.output_dim = output_dim
        self.merge_mode = merge_mode

    def merge(self, x: Tensor, vectors: Tensor) -> Tensor:
        """x + p, x (1 + p), p alone for each row of the batch, or [x, p]."""
        if self.merge_mode == "add":
            return x + vectors
        if self.merge_mode == "mul":
            return x * (1.0 + vectors)
        vectors = ops.broadcast_to(vectors, (*ops.shape(x)[:2], self.output_dim))
        return vectors if self.merge_mode == "zero" else ops.concatenate([x, vectors], axis=-1)

    def compute_output_spec(self, x: Tensor, position_ids: Tensor = None) -> keras.KerasTensor:
        size = {"zero": self.output_dim, "concat": x.shape[-1] + self.output_dim}.get(self.merge_mode, x.shape[-1])
        return keras.KerasTensor((*x.shape[:-1], size), self.compute_dtype)

    def get_config(self) -> Config:
        return {**super().get_config(), "output_dim": self.output_dim, "merge_mode": self.merge_mode}


@keras.saving.register_keras_serializable("qingformer")
class PositionEmbedding(_AbsolutePositions):
    """Add a learned vector for each position, optionally beyond its table by hierarchical decomposition: x_t + p_t.

    Input `x` (B, T, d) float; optional `position_ids` (B, T) integer. `merge_mode` is "add" x + p, "mul" x (1 + p),
    "zero" p alone or "concat" [x, p]; output (B, T, d), with `output_dim` for d under "zero" and beside it under
    "concat". With `hierarchical` = alpha the table of N rows serves N^2 positions (see
    `ops.positions.hierarchical_positions`). Errors: `ConfigError` when a length known in advance exceeds the table,
    and for another merge mode.
    Source: Devlin et al. 2018, arXiv 1810.04805; 科学空间 archives/7947.

    Example: `PositionEmbedding(512, 64)(ops.ones((2, 5, 64)))`
    """

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        hierarchical: float | None = None,
        embeddings_initializer: InitializerLike = "uniform",
        merge_mode: str = "add",
        **kwargs: object,
    ) -> None:
        super().__init__(output_dim, merge_mode, **kwargs)
        self.input_dim = input_dim
        self.hierarchical = hierarchical
        self.embeddings_initializer = keras.initializers.get(embeddings_initializer)

    def build(self, *shapes: object) -> None:
        self.embeddings = self.add_weight(
            shape=(self.input_dim, self.output_dim), initializer=self.embeddings_initializer, name="embeddings"
        )

    def call(self, x: Tensor, position_ids: Tensor | None = None) -> Tensor:
        """Merge `x` with its position vectors."""
        return self.merge(x, self.vectors(ops.shape(x)[1], position_ids))

    def vectors(self, length: Tensor, position_ids: Tensor | None) -> Tensor:
        """The position vectors, broadcastable to (B, T, d)."""
        self.check_length(length)
        table = ops.cast(self.embeddings, self.compute_dtype)
        if self.hierarchical is not None:
            ids = ops.arange(length, dtype="int32")[None] if position_ids is None else position_ids
            return hierarchical_positions(table, ids, self.hierarchical)
        if position_ids is not None:
            return ops.take(table, position_ids, axis=0)
        # A slice: its gradient is a sum and a pad, where a gather's is a scatter.
        return table[None, :length]

    def check_length(self, length: Tensor) -> None:
        """Refuse a length that the table cannot serve; only a length known while tracing can be checked."""
        limit = self.input_dim if self.hierarchical is None else self.input_dim**2
        if isinstance(length, int) and length > limit:
            raise ConfigError(
                f"sequence of {length} tokens, but {self.name} serves {limit}; "
                "shorten with max_length, or load with hierarchical_position=0.4"
            )

    def compute_output_spec(self, x: Tensor, position_ids: Tensor | None = None) -> keras.KerasTensor:
        self.check_length(x.shape[1])
        return super().compute_output_spec(x, position_ids)

    def get_config(self) -> Config:
        return {
            **super().get_config(),
            "input_dim": self.input_dim,
            "hierarchical": self.hierarchical,
            "embeddings_initializer": keras.initializers.serialize(self.embeddings_initializer),
        }


@keras.saving.register_keras_serializable("qingformer")
class SinusoidalPositionEmbedding(_AbsolutePositions):
    """Merge a fixed vector of waves for each position: p_t = [sin t r_0, cos t r_0, sin t r_1, ...].

    The rates are r_i = base^(-2i/output_dim), from one radian a position down to almost 1 / base.
    Input `x` (B, T, d) float; optional `position_ids` (B, T), integer or float: fractions and negative numbers are
    positions too. `merge_mode` and the output as in `PositionEmbedding`; the angles are in float32 whatever the policy.
    Errors: `ConfigError` for another merge mode or an odd `output_dim`.
    Source: Vaswani et al. 2017, arXiv 1706.03762, section 3.5.

    Example: `SinusoidalPositionEmbedding(64)(ops.ones((2, 5, 64)))`
    """

    def __init__(self, output_dim: int, merge_mode: str = "add", base: float = 10000.0, **kwargs: object) -> None:
        # Not cast on the way in: in half precision positions above 256 would fall together.
        super().__init__(output_dim, merge_mode, autocast=False, **kwargs)
        if output_dim % 2:
            raise ConfigError(f"sinusoidal positions come in pairs: output_dim {output_dim} must be even")
        self.base = base

    def build(self, *shapes: object) -> None:
        """Nothing to make."""

    def call(self, x: Tensor, position_ids: Tensor | None = None) -> Tensor:
        """Merge `x` with its position vectors."""
        ids = ops.arange(ops.shape(x)[1], dtype="int32")[None] if position_ids is None else position_ids
        vectors = sinusoidal_table(ids, self.output_dim, self.base)
        return self.merge(ops.cast(x, self.compute_dtype), ops.cast(vectors, self.compute_dtype))

    def get_config(self) -> Config:
        return {**super().get_config(), "base": self.base}
