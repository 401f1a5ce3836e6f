"""Multi-head attention on stock dense layers, by a fused kernel or by explicit scores."""

import math
from typing import Any

import keras
from keras import ops

from qingformer import backend
from qingformer.errors import ConfigError
from qingformer.layers.dense import Dense
from qingformer.ops.dropout import dropout
from qingformer.ops.masking import masked_scores

Tensor = Any
IMPLEMENTATIONS = ("auto", "fused", "explicit")


@keras.saving.register_keras_serializable("qingformer")
class MultiHeadAttention(keras.layers.Layer):
    """Multi-head attention: softmax(Q K^T / sqrt(key_size) + mask) V, heads joined and projected.

    Input `x` (B, T, d) float; `attention_mask` bool, broadcastable to (B, N, T, T), True = keep; a row without any
    key gives finite numbers. With `residual_scores` the scores (B, N, T, T) of the layer before are added to this
    layer's, and the sum is returned beside the output (RealFormer, accumulated). Softmax in float32 whatever the
    policy. "fused" uses the backend's attention kernel where the call allows it (no dropout, no residual scores),
    "explicit" matrix products; "auto" takes the faster. Errors: `ConfigError` for sizes that cannot be.
    Sources: Vaswani et al. 2017, arXiv 1706.03762; He et al. 2020 (RealFormer), arXiv 2012.11747.

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
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if min(num_heads, head_size, key_size or 1) < 1:
            raise ConfigError(f"{num_heads} heads of size {head_size}: heads and sizes must be positive")
        if implementation not in IMPLEMENTATIONS:
            raise ConfigError(f"unknown attention {implementation!r}; use one of {', '.join(IMPLEMENTATIONS)}")
        self.num_heads = num_heads
        self.head_size = head_size
        self.key_size = key_size or head_size
        self.dropout = dropout
        self.use_bias = use_bias
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.residual_scores = residual_scores
        self.implementation = implementation
        self.scale = 1.0 / math.sqrt(self.key_size)

    def build(self, x_shape: tuple[Any, ...], **other_shapes: Any) -> None:
        def dense(size: int, name: str) -> Dense:
            initializer = self.kernel_initializer.clone()
            return Dense(
                size, use_bias=self.use_bias, kernel_initializer=initializer, name=name, dtype=self.dtype_policy
            )

        self.query = dense(self.num_heads * self.key_size, "query")
        self.key = dense(self.num_heads * self.key_size, "key")
        self.value = dense(self.num_heads * self.head_size, "value")
        self.output_dense = dense(x_shape[-1], "output")
        for layer in (self.query, self.key, self.value):
            layer.build(x_shape)
        self.output_dense.build((*x_shape[:-1], self.num_heads * self.head_size))

    def call(
        self, x: Tensor, attention_mask: Tensor | None = None, scores: Tensor | None = None, seed: Tensor | None = None
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Attend from `x` to `x`; `seed` switches the dropout of the attention weights on."""
        query = self.split_heads(self.query(x), self.key_size)
        key = self.split_heads(self.key(x), self.key_size)
        value = self.split_heads(self.value(x), self.head_size)
        if self.takes_fused(seed):
            mixed = ops.dot_product_attention(query, key, value, mask=attention_mask, scale=self.scale)
            return self.output_dense(self.join_heads(mixed))
        raw = self.raw_scores(query, key)
        raw = raw if scores is None else raw + scores
        output = self.output_dense(self.join_heads(self.mix(raw, value, attention_mask, seed)))
        return (output, raw) if self.residual_scores else output

    def takes_fused(self, seed: Tensor | None) -> bool:
        """Whether this call goes to the backend's kernel, which knows no dropout and shows no scores."""
        if self.implementation == "explicit" or self.residual_scores or (seed is not None and self.dropout > 0):
            return False
        return self.implementation == "fused" or backend.prefers_fused_attention()

    def raw_scores(self, query: Tensor, key: Tensor) -> Tensor:
        """Scaled scores (B, N, Tq, Tk) from (B, T, N, D) queries and keys, before the mask."""
        # Explicit transposes and one batched product: on CPUs several times faster than an einsum on (B, T, N, D).
        query = ops.transpose(query * ops.cast(self.scale, query.dtype), (0, 2, 1, 3))
        return ops.matmul(query, ops.transpose(key, (0, 2, 3, 1)))

    def mix(self, scores: Tensor, value: Tensor, mask: Tensor | None, seed: Tensor | None) -> Tensor:
        """Mask, normalise and drop out the scores, then average the values: (B, T, N, D)."""
        weights = ops.softmax(masked_scores(ops.cast(scores, "float32"), mask), axis=-1)
        weights = dropout(ops.cast(weights, value.dtype), self.dropout, seed)
        return ops.transpose(ops.matmul(weights, ops.transpose(value, (0, 2, 1, 3))), (0, 2, 1, 3))

    def split_heads(self, x: Tensor, size: int) -> Tensor:
        """(B, T, N * D) to (B, T, N, D)."""
        batch, length = ops.shape(x)[:2]
        return ops.reshape(x, (batch, length, self.num_heads, size))

    def join_heads(self, x: Tensor) -> Tensor:
        """(B, T, N, D) to (B, T, N * D)."""
        batch, length = ops.shape(x)[:2]
        return ops.reshape(x, (batch, length, self.num_heads * self.head_size))

    def compute_output_spec(self, x: Tensor, attention_mask: Any = None, scores: Any = None, seed: Any = None) -> Any:
        output = keras.KerasTensor(x.shape, self.compute_dtype)
        if not self.residual_scores:
            return output
        shape = (x.shape[0], self.num_heads, x.shape[1], x.shape[1])
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
        }
