"""Linear attention: multi-head attention whose cost grows with the length, not with its square."""

import keras
from keras import ops

from qingformer.errors import ConfigError
from qingformer.layers.dense import Dense
from qingformer.layers.dropout_streams import DropoutStream
from qingformer.ops.linear_attention_sums import causal_linear_product, key_mask, linear_product
from qingformer.ops.rotary import turned
from qingformer.types import Config, InitializerLike, Shape, Tensor

FEATURE_MAPS = ("elu", "relu")
# The least denominator: a row without a key, or with "relu" none that it resembles, has a sum of zero.
SMALLEST = 1e-6


def feature_map(x: Tensor, name: str) -> Tensor:
    """Features that are not negative: "elu" is elu(x) + 1, always positive; "relu" is max(x, 0). Shape as `x`."""
    return ops.relu(x) if name == "relu" else ops.elu(x) + ops.cast(1.0, x.dtype)


@keras.saving.register_keras_serializable("qingformer")
class LinearAttention(keras.layers.Layer):
    """Linear attention: out_j = sum_k <phi(q_j), phi(k_k)> v_k / sum_k <phi(q_j), phi(k_k)>, heads joined, projected.

    phi is `feature_map`, elu(x) + 1 by default. The sums run over every key, computed as Q (K^T V), or with `causal`
    over k <= j, by chunks of `chunk_size`. Input `x` (B, T, d) float; `attention_mask` bool, a mask of keys
    (B, 1, 1, T) or (B, T), True = keep; a row without any key gives finite numbers; output (B, T, d). A `rotary` table
    of `ops.rotary.rotary_table` turns phi(q) and phi(k) in the numerator only, so that the denominator stays positive.
    The denominators are in float32. There is no dropout of attention weights, since there are none; `seed` is accepted
    as in `MultiHeadAttention`. Errors: `ConfigError` for impossible sizes, unknown names, a mask that differs from
    query to query, and `context`, `bias` and `scores`.

    Sources: Katharopoulos et al. 2020, arXiv 2006.16236; Su et al. 2021, arXiv 2104.09864, section 3.3 (rotary);
    科学空间 archives/8610 (when it pays).

    Example: `LinearAttention(num_heads=2, head_size=4)(ops.ones((1, 5, 8)))`
    """

    def __init__(
        self,
        num_heads: int,
        head_size: int,
        key_size: int | None = None,
        feature_map: str = "elu",
        causal: bool = False,
        chunk_size: int = 64,
        use_bias: bool = True,
        kernel_initializer: InitializerLike = "glorot_uniform",
        interleaved_rotary: bool = True,
        **kwargs: object,
    ) -> None:
        super().__init__(**kwargs)
        if min(num_heads, head_size, key_size or 1, chunk_size) < 1:
            raise ConfigError(
                f"{num_heads} heads of size {head_size} in chunks of {chunk_size}: heads and sizes must be positive"
            )
        if feature_map not in FEATURE_MAPS:
            raise ConfigError(f"unknown feature map {feature_map!r}; use one of {', '.join(FEATURE_MAPS)}")
        self.num_heads = num_heads
        self.head_size = head_size
        self.key_size = key_size or head_size
        self.feature_map = feature_map
        self.causal = causal
        self.chunk_size = chunk_size
        self.use_bias = use_bias
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.interleaved_rotary = interleaved_rotary

    def build(self, x_shape: Shape, **shapes: Shape) -> None:
        def dense(size: int | None, name: str, shape: Shape) -> Dense:
            initializer = self.kernel_initializer.clone()
            layer = Dense(
                size, use_bias=self.use_bias, kernel_initializer=initializer, name=name, dtype=self.dtype_policy
            )
            layer.build(shape)
            return layer

        self.query = dense(self.num_heads * self.key_size, "query", x_shape)
        self.key = dense(self.num_heads * self.key_size, "key", x_shape)
        self.value = dense(self.num_heads * self.head_size, "value", x_shape)
        self.output_dense = dense(x_shape[-1], "output", (*x_shape[:-1], self.num_heads * self.head_size))

    def call(
        self,
        x: Tensor,
        context: Tensor | None = None,
        attention_mask: Tensor | None = None,
        bias: Tensor | None = None,
        rotary: Tensor | None = None,
        scores: Tensor | None = None,
        seed: Tensor | None = None,
        stream: int = DropoutStream.ATTENTION_WEIGHTS,
    ) -> Tensor:
        """Attend from `x` (B, T, d) to itself."""
        refuse(self.name, context=context, bias=bias, scores=scores)
        query = feature_map(self.split_heads(self.query(x), self.key_size), self.feature_map)
        key = feature_map(self.split_heads(self.key(x), self.key_size), self.feature_map)
        value = self.split_heads(self.value(x), self.head_size)
        mask = key_mask(attention_mask, self.name)
        key = key if mask is None else key * ops.cast(mask, key.dtype)[:, :, None, None]
        # Before the rotation, which can make products negative and their sum zero.
        norms = self.denominators(query, key)
        if rotary is not None:
            query = turned(query, rotary, self.interleaved_rotary, self.name)
            key = turned(key, rotary, self.interleaved_rotary, self.name)
        mixed = ops.cast(ops.cast(self.numerators(query, key, value), "float32") / norms, value.dtype)
        batch, length = ops.shape(x)[:2]
        return self.output_dense(ops.reshape(mixed, (batch, length, self.num_heads * self.head_size)))

    def denominators(self, query: Tensor, key: Tensor) -> Tensor:
        """sum_k <phi(q_j), phi(k_k)>, never zero: (B, T, N, 1) float32."""
        # float32: a running sum over thousands of keys in bfloat16 stops growing at 256 times its terms.
        wide = ops.cast(key, "float32")
        total = ops.cumsum(wide, axis=1) if self.causal else ops.sum(wide, axis=1, keepdims=True)
        return ops.maximum(ops.sum(ops.cast(query, "float32") * total, axis=-1, keepdims=True), SMALLEST)

    def numerators(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """sum_k <phi(q_j), phi(k_k)> v_k from (B, T, N, D) parts: (B, T, N, head size)."""
        if self.causal:
            length = ops.shape(query)[1]
            size = min(self.chunk_size, length) if isinstance(length, int) else self.chunk_size
            return causal_linear_product(query, key, value, size)
        # Heads before positions, (B, N, T, D), so that K^T V is one batched product.
        mixed = linear_product(*(ops.transpose(part, (0, 2, 1, 3)) for part in (query, key, value)))
        return ops.transpose(mixed, (0, 2, 1, 3))

    def split_heads(self, x: Tensor, size: int) -> Tensor:
        """(B, T, N * D) to (B, T, N, D)."""
        batch, length = ops.shape(x)[:2]
        return ops.reshape(x, (batch, length, self.num_heads, size))

    def compute_output_spec(self, x: Tensor, **_: object) -> keras.KerasTensor:
        return keras.KerasTensor(x.shape, self.compute_dtype)

    def get_config(self) -> Config:
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "head_size": self.head_size,
            "key_size": self.key_size,
            "feature_map": self.feature_map,
            "causal": self.causal,
            "chunk_size": self.chunk_size,
            "use_bias": self.use_bias,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "interleaved_rotary": self.interleaved_rotary,
        }


def refuse(name: str, **arguments: Tensor | None) -> None:
    """`ConfigError` for an argument that attention without a (T, T) matrix cannot serve."""
    given = [argument for argument, value in arguments.items() if value is not None]
    if given:
        raise ConfigError(f"{name} has no matrix of queries and keys and cannot use {', '.join(given)}; leave it out")
