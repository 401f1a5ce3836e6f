"""Multi-head attention that knows the distance of every key, as a fixed vector added to keys and values (NEZHA)."""

import keras
from keras import ops

from qingformer.errors import ConfigError
from qingformer.layers.attention import MultiHeadAttention
from qingformer.ops.relative_distances import distances_to_keys, keys_to_distances, relative_table
from qingformer.types import Config, Tensor


@keras.saving.register_keras_serializable("qingformer")
class RelativeMultiHeadAttention(MultiHeadAttention):
    """Attention with a_jk = q_j (k_k + r_d) / sqrt(D) and o_j = sum_k softmax(a_j)_k (v_k + r_d), d the distance k - j.

    r_d is the fixed sinusoidal vector of d, clipped at +-`max_relative_position`; other arguments and inputs are those
    of `MultiHeadAttention`, and there are no other weights. Errors: `ConfigError` for an
    odd key size, and where keys and values differ in size.
    Sources: Shaw et al. 2018, arXiv 1803.02155; Wei et al. 2019 (NEZHA), arXiv 1909.00204.

    Example: `RelativeMultiHeadAttention(num_heads=2, head_size=4, max_relative_position=3)(ops.ones((1, 5, 8)))`
    """

    # The kernel shows neither the scores nor the weights to which the distances are added.
    needs_weights = True

    def __init__(self, *args: object, max_relative_position: int = 64, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]  # the parent checks them
        self.max_relative_position = max_relative_position
        if self.key_size != self.head_size:
            raise ConfigError(
                f"relative positions share one table for keys and values, but key size {self.key_size} is not "
                f"head size {self.head_size}"
            )

        if self.key_size % 2:
            raise ConfigError(
                f"vectors of distances are pairs of sine and cosine, but the key size {self.key_size} is odd"
            )

    def raw_scores(self, query: Tensor, key: Tensor) -> Tensor:
        """Scores (B, N, Tq, Tk) of keys and of their distances."""
        # One product with the 2l + 1 vectors that differ, then spread over the keys: r_d is never held for T^2 pairs.
        by_distance = ops.matmul(query, ops.transpose(self.distance_vectors(query)))
        return super().raw_scores(query, key) + distances_to_keys(by_distance)

    def average(self, weights: Tensor, value: Tensor) -> Tensor:
        """Values and vectors of distances, averaged: (B, N, Tq, D)."""
        table = self.distance_vectors(weights, value.dtype)
        by_distance = keys_to_distances(weights, table.shape[0] // 2)
        return super().average(weights, value) + ops.matmul(by_distance, table)

    def distance_vectors(self, rows: Tensor, dtype: str | None = None) -> Tensor:
        """r_d for the distances that `rows` (B, N, Tq, ...) can have: (2l + 1, D)."""
        table = relative_table(ops.shape(rows)[2], self.key_size, self.max_relative_position)
        return ops.cast(table, dtype or rows.dtype)

    def get_config(self) -> Config:
        return {**super().get_config(), "max_relative_position": self.max_relative_position}
