"""Learned absolute positions."""

from typing import Any

import keras
from keras import ops

from qingformer.errors import ConfigError
from qingformer.ops.positions import hierarchical_positions

Tensor = Any


@keras.saving.register_keras_serializable("qingformer")
class PositionEmbedding(keras.layers.Layer):
    """Add a learned vector for each position, optionally beyond its table by hierarchical decomposition: x_t + p_t.

    Input `x` (B, T, d) float; optional `position_ids` (B, T) integer. Output (B, T, d). With `hierarchical` = alpha
    the table of N rows serves N^2 positions (see `ops.positions.hierarchical_positions`). Errors: `ConfigError` when a
    length known in advance exceeds the table.
    Source: Devlin et al. 2018, arXiv 1810.04805; 科学空间 archives/7947.

    Example: `PositionEmbedding(512, 64)(ops.ones((2, 5, 64)))`
    """

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        hierarchical: float | None = None,
        embeddings_initializer: Any = "uniform",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.input_dim = input_dim
        self.output_dim = output_dim
        self.hierarchical = hierarchical
        self.embeddings_initializer = keras.initializers.get(embeddings_initializer)

    def build(self, *shapes: Any) -> None:
        self.embeddings = self.add_weight(
            shape=(self.input_dim, self.output_dim), initializer=self.embeddings_initializer, name="embeddings"
        )

    def call(self, x: Tensor, position_ids: Tensor | None = None) -> Tensor:
        """Return `x` plus its position vectors."""
        return x + self.vectors(ops.shape(x)[1], position_ids)

    def vectors(self, length: Any, position_ids: Tensor | None) -> Tensor:
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

    def check_length(self, length: Any) -> None:
        """Refuse a length that the table cannot serve; only a length known while tracing can be checked."""
        limit = self.input_dim if self.hierarchical is None else self.input_dim**2
        if isinstance(length, int) and length > limit:
            raise ConfigError(
                f"sequence of {length} tokens, but {self.name} serves {limit}; "
                "shorten with max_length, or load with hierarchical_position=0.4"
            )

    def compute_output_spec(self, x: Tensor, position_ids: Tensor | None = None) -> keras.KerasTensor:
        self.check_length(x.shape[1])
        return keras.KerasTensor(x.shape, self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "input_dim": self.input_dim,
            "output_dim": self.output_dim,
            "hierarchical": self.hierarchical,
            "embeddings_initializer": keras.initializers.serialize(self.embeddings_initializer),
        }
