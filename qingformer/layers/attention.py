"""Multi-head attention on stock dense layers, by a fused kernel or by explicit scores."""

import math
from typing import Any

import keras
from keras import ops

from qingformer import backend
from qingformer.errors import ConfigError
from qingformer.layers.dense import Dense
from qingformer.layers.normalization import RMSNormalization
from qingformer.ops.attention_weights import attention_weights, check_normalization, entropy_scale
from qingformer.ops.masking import masked_scores
from qingformer.ops.relative_distances import distances_to_keys, keys_to_distances, relative_table
from qingformer.ops.rotary import apply_rotary
from qingformer.ops.seeded_dropout import dropout
from qingformer.types import Tensor

IMPLEMENTATIONS = ("auto", "fused", "explicit")


def rows_with_keys(mixed: Tensor, mask: Tensor | None) -> Tensor:
    """Averaged values (B, Tq, N, D), zero for queries that see no key, where the mask differs from query to query.

    Softmax would give such a row an average of what it must not see. A mask of keys alone hides all of them only for
    an empty text, and is not looked at.
    """
    if mask is None or mask.shape[-2] == 1:
        return mixed
    seen = ops.transpose(ops.any(mask, axis=-1, keepdims=True), (0, 2, 1, 3))
    return ops.where(seen, mixed, ops.cast(0.0, mixed.dtype))


@keras.saving.register_keras_serializable("qingformer")
class MultiHeadAttention(keras.layers.Layer):
    """Multi-head attention: softmax(Q K^T / sqrt(key_size) + bias + mask) V, heads joined and projected.

    Input `x` (B, Tq, d) float gives the queries; keys and values come from `context` (B, Tk, d) or, without it, from
    `x`. `attention_mask` bool, broadcastable to (B, N, Tq, Tk), True = keep; a query without any key averages
    nothing. `bias` float, broadcastable to (B, N, Tq, Tk), is added to the scaled scores; `rotary` is a table of
    `ops.rotary.rotary_table` that turns queries and keys. The normalisation is in float32 whatever the policy.

    Options: `key_size` (queries and keys) beside `head_size` (values); `num_key_value_heads` fewer heads of keys and
    values, each shared by a group of query heads; `normalization` as `ops.attention.attention_weights`; `scaled=False`
    leaves 1 / sqrt(key_size) out; `max_relative_position` adds the fixed sinusoidal vectors of distances, clipped
    there, to keys and values; `rotary_value` turns values as well; `query_key_norm` an epsilon: queries and keys are
    RMS-normalised with learned gains.
    With `residual_scores` the scores (B, N, Tq, Tk) of the layer before are added to this layer's, and the sum is
    returned beside the output (accumulated, without the bias). "fused" uses the backend's attention kernel where the
    call allows it, "explicit" matrix products; "auto" takes the faster. Errors: `ConfigError` for sizes and names that
    cannot be.

    Sources: Vaswani et al. 2017, arXiv 1706.03762; Shaw et al. 2018 (relative), arXiv 1803.02155; Wei et al. 2019
    (NEZHA), arXiv 1909.00204; He et al. 2020 (RealFormer), arXiv 2012.11747; Su et al. 2021 (rotary), arXiv 2104.09864;
    Ainslie et al. 2023 (grouped queries), arXiv 2305.13245.

    Example: `MultiHeadAttention(num_heads=2, head_size=4)(ops.ones((1, 5, 8)))`
    """

    def __init__(
        self,
        num_heads: int,
        head_size: int,
        key_size: int | None = None,
        dropout: float = 0.0,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        residual_scores: bool = False,
        implementation: str = "auto",
        *,
        output_bias: bool | None = None,
        num_key_value_heads: int | None = None,
        normalization: str = "softmax",
        scaled: bool = True,
        max_relative_position: int | None = None,
        interleaved_rotary: bool = True,
        rotary_value: bool = False,
        query_key_norm: float | None = None,
        output_size: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.num_heads = num_heads
        self.head_size = head_size
        self.key_size = key_size or head_size
        self.dropout = dropout
        self.use_bias = use_bias
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.residual_scores = residual_scores
        self.implementation = implementation
        self.output_bias = use_bias if output_bias is None else output_bias
        self.num_key_value_heads = num_key_value_heads or num_heads
        self.normalization = check_normalization(normalization)
        self.scaled = scaled
        self.max_relative_position = max_relative_position
        self.interleaved_rotary = interleaved_rotary
        self.rotary_value = rotary_value
        self.query_key_norm = query_key_norm
        self.output_size = output_size
        self.scale = 1.0 / math.sqrt(self.key_size) if scaled else 1.0
        self._check()

    def _check(self) -> None:
        if min(self.num_heads, self.head_size, self.key_size, self.num_key_value_heads) < 1:
            raise ConfigError(f"{self.num_heads} heads of size {self.head_size}: heads and sizes must be positive")
        if self.implementation not in IMPLEMENTATIONS:
            raise ConfigError(f"unknown attention {self.implementation!r}; use one of {', '.join(IMPLEMENTATIONS)}")
        if self.num_heads % self.num_key_value_heads:
            raise ConfigError(
                f"{self.num_heads} attention heads do not divide into {self.num_key_value_heads} groups "
                "(num_key_value_heads)"
            )
        if self.max_relative_position is not None and self.key_size != self.head_size:
            raise ConfigError(
                f"relative positions share one table for keys and values, but key size {self.key_size} is not "
                f"head size {self.head_size}"
            )

    def build(self, x_shape: tuple[Any, ...], context_shape: tuple[Any, ...] | None = None, **shapes: Any) -> None:
        def dense(size: int, name: str, use_bias: bool) -> Dense:
            initializer = self.kernel_initializer.clone()
            return Dense(size, use_bias=use_bias, kernel_initializer=initializer, name=name, dtype=self.dtype_policy)

        self.query = dense(self.num_heads * self.key_size, "query", self.use_bias)
        self.key = dense(self.num_key_value_heads * self.key_size, "key", self.use_bias)
        self.value = dense(self.num_key_value_heads * self.head_size, "value", self.use_bias)
        self.output_dense = dense(self.output_size or x_shape[-1], "output", self.output_bias)
        self.query.build(x_shape)
        self.key.build(context_shape or x_shape)
        self.value.build(context_shape or x_shape)
        self.output_dense.build((*x_shape[:-1], self.num_heads * self.head_size))
        if self.query_key_norm is not None:
            self.query_norm = RMSNormalization(self.query_key_norm, name="query_norm", dtype=self.dtype_policy)
            self.key_norm = RMSNormalization(self.query_key_norm, name="key_norm", dtype=self.dtype_policy)
            for norm in (self.query_norm, self.key_norm):
                norm.build((None, None, None, self.key_size))

    def call(
        self,
        x: Tensor,
        context: Tensor | None = None,
        attention_mask: Tensor | None = None,
        bias: Tensor | None = None,
        rotary: Tensor | None = None,
        scores: Tensor | None = None,
        seed: Tensor | None = None,
        site: int = 0,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Attend from `x` to `context` or to itself; `seed` switches the dropout of the attention weights on."""
        query, key, value = self.project(x, x if context is None else context, rotary)
        if self.takes_fused(seed):
            mixed = rows_with_keys(self.fused(query, key, value, attention_mask, bias), attention_mask)
            return self.output_dense(self.join_heads(mixed))
        raw = self.raw_scores(query, key)
        raw = raw if scores is None else raw + scores
        biased = raw if bias is None else raw + ops.cast(bias, raw.dtype)
        mixed = rows_with_keys(self.mix(biased, value, attention_mask, seed, site), attention_mask)
        output = self.output_dense(self.join_heads(mixed))
        return (output, raw) if self.residual_scores else output

    def project(self, x: Tensor, context: Tensor, rotary: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Queries (B, Tq, N, key size), keys (B, Tk, N, key size) and values (B, Tk, N, head size)."""
        query = self.split_heads(self.query(x), self.num_heads, self.key_size)
        key = self.split_heads(self.key(context), self.num_key_value_heads, self.key_size)
        value = self.split_heads(self.value(context), self.num_key_value_heads, self.head_size)
        if self.query_key_norm is not None:
            query, key = self.query_norm(query), self.key_norm(key)
        if rotary is not None:
            query = apply_rotary(query, rotary, self.interleaved_rotary)
            key = apply_rotary(key, rotary, self.interleaved_rotary)
            value = apply_rotary(value, rotary, self.interleaved_rotary) if self.rotary_value else value
        group = self.num_heads // self.num_key_value_heads
        if group > 1:
            key, value = ops.repeat(key, group, axis=2), ops.repeat(value, group, axis=2)
        return query, key, value

    def takes_fused(self, seed: Tensor | None) -> bool:
        """Whether this call goes to the backend's kernel, which knows no dropout and shows no scores."""
        explicit = self.residual_scores or self.max_relative_position is not None
        explicit = explicit or self.normalization == "squared_relu" or self.key_size != self.head_size
        if self.implementation == "explicit" or explicit or (seed is not None and self.dropout > 0):
            return False
        return self.implementation == "fused" or backend.prefers_fused_attention()

    def fused(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, bias: Tensor | None) -> Tensor:
        """The backend's kernel: (B, Tq, N, head size)."""
        if self.normalization == "softmax_plus":
            factor = entropy_scale(ops.shape(key)[1], mask)
            bias = None if bias is None else bias * ops.cast(factor, bias.dtype)
            factor = factor if mask is None else ops.transpose(factor, (0, 2, 1, 3))
            query = query * ops.cast(factor, query.dtype)
        if bias is not None:
            # Not every kernel takes a mask beside a bias.
            wide = ops.add(ops.cast(bias, "float32"), ops.zeros((ops.shape(query)[0], 1, 1, 1)))
            mask, bias = None, ops.cast(masked_scores(wide, mask), query.dtype)
        return ops.dot_product_attention(query, key, value, bias=bias, mask=mask, scale=self.scale)

    def raw_scores(self, query: Tensor, key: Tensor) -> Tensor:
        """Scaled scores (B, N, Tq, Tk) from (B, T, N, D) queries and keys, before bias and mask."""
        # Explicit transposes and one batched product: on CPUs several times faster than an einsum on (B, T, N, D).
        query = ops.transpose(query * ops.cast(self.scale, query.dtype), (0, 2, 1, 3))
        raw = ops.matmul(query, ops.transpose(key, (0, 2, 3, 1)))
        if self.max_relative_position is None:
            return raw
        table = ops.cast(self.distance_table(ops.shape(query)[2]), query.dtype)
        return raw + distances_to_keys(ops.matmul(query, ops.transpose(table)))

    def distance_table(self, length: Any) -> Tensor:
        """The fixed vectors of the distances that are told apart: (2l + 1, key size) float32."""
        return relative_table(length, self.key_size, self.max_relative_position or 0)

    def mix(self, scores: Tensor, value: Tensor, mask: Tensor | None, seed: Tensor | None, site: int) -> Tensor:
        """Mask, normalise and drop out the scores, then average the values: (B, T, N, D)."""
        weights = attention_weights(ops.cast(scores, "float32"), mask, self.normalization)
        weights = dropout(ops.cast(weights, value.dtype), self.dropout, seed, site)
        mixed = ops.matmul(weights, ops.transpose(value, (0, 2, 1, 3)))
        if self.max_relative_position is not None:
            table = ops.cast(self.distance_table(ops.shape(weights)[2]), value.dtype)
            mixed = mixed + ops.matmul(keys_to_distances(weights, table.shape[0] // 2), table)
        return ops.transpose(mixed, (0, 2, 1, 3))

    def split_heads(self, x: Tensor, heads: int, size: int) -> Tensor:
        """(B, T, N * D) to (B, T, N, D)."""
        batch, length = ops.shape(x)[:2]
        return ops.reshape(x, (batch, length, heads, size))

    def join_heads(self, x: Tensor) -> Tensor:
        """(B, T, N, D) to (B, T, N * D)."""
        batch, length = ops.shape(x)[:2]
        return ops.reshape(x, (batch, length, self.num_heads * self.head_size))

    def compute_output_spec(
        self, x: Tensor, context: Any = None, attention_mask: Any = None, bias: Any = None, **others: Any
    ) -> Any:
        output = keras.KerasTensor((*x.shape[:-1], self.output_size or x.shape[-1]), self.compute_dtype)
        if not self.residual_scores:
            return output
        keys = x if context is None else context
        shape = (x.shape[0], self.num_heads, x.shape[1], keys.shape[1])
        return output, keras.KerasTensor(shape, self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "head_size": self.head_size,
            "key_size": self.key_size,
            "dropout": self.dropout,
            "use_bias": self.use_bias,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "residual_scores": self.residual_scores,
            "implementation": self.implementation,
            "output_bias": self.output_bias,
            "num_key_value_heads": self.num_key_value_heads,
            "normalization": self.normalization,
            "scaled": self.scaled,
            "max_relative_position": self.max_relative_position,
            "interleaved_rotary": self.interleaved_rotary,
            "rotary_value": self.rotary_value,
            "query_key_norm": self.query_key_norm,
            "output_size": self.output_size,
        }
