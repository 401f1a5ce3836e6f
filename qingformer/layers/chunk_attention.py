"""Mixed chunk attention (FLASH): quadratic inside a chunk, linear between chunks, gated."""

import math

import keras
from keras import ops

from qingformer.errors import ConfigError
from qingformer.layers.dense import Dense
from qingformer.layers.dropout_streams import DropoutStream
from qingformer.layers.linear_attention import refuse
from qingformer.layers.scale_offset import ScaleOffset
from qingformer.ops.activations import get_activation
from qingformer.ops.attention_weights import attention_weights
from qingformer.ops.linear_attention_sums import join_chunks, key_mask, key_values, split_chunks, sums_before
from qingformer.ops.masking import causal_mask
from qingformer.ops.rotary import turned
from qingformer.ops.seeded_dropout import dropout
from qingformer.types import Config, InitializerLike, Shape, Tensor

# In the order of the queries and keys that the two terms take.
MAPS = ("quadratic_query", "quadratic_key", "linear_query", "linear_key")


@keras.saving.register_keras_serializable("qingformer")
class MixedChunkAttention(keras.layers.Layer):
    """FLASH: O = (U * (L + G)) W_o, L squared-ReLU attention inside chunks of c tokens, G linear attention over all.

    [U, V, Z] = act(x W_i + b_i), widths e, e and s; four gains and offsets of Z give the queries and keys of L and of
    G. In chunk g: L_g = relu(Q_g K_g^T / sqrt(s))^2 V_g / l, l the number of keys that the row may see; G_g =
    Q'_g (sum_h K'_h^T V_h) / n, n the number of tokens in the sum. With `causal` a row of L sees the keys of its chunk
    up to itself, and the sum of G runs over earlier chunks only, so that the first has none. Time O(T (c + s) e).

    Input `x` (B, T, d) float, T of any length; `attention_mask` bool, a mask of keys (B, 1, 1, T) or (B, T), True =
    keep: padding counts in neither term; `rotary` is a table of `ops.rotary.rotary_table`, applied to all four maps;
    output (B, T, d). Biases and beta appear only with `use_bias`; `seed` switches the dropout of the weights of L on.
    Errors: `ConfigError` for impossible sizes, unknown names, a mask that differs from query to query, and
    `context`, `bias` and `scores`.

    Sources: Hua et al. 2022, arXiv 2202.10447; 科学空间 archives/8934 (the causal divisor).

    Example: `MixedChunkAttention(intermediate_size=16, key_size=4, chunk_size=2)(ops.ones((1, 5, 8)))`
    """

    def __init__(
        self,
        intermediate_size: int,
        key_size: int = 128,
        chunk_size: int = 256,
        causal: bool = False,
        activation: str = "swish",
        use_bias: bool = True,
        dropout: float = 0.0,
        kernel_initializer: InitializerLike = "glorot_uniform",
        interleaved_rotary: bool = True,
        **kwargs: object,
    ) -> None:
        super().__init__(**kwargs)
        if min(intermediate_size, key_size, chunk_size) < 1:
            sizes = f"{intermediate_size} and {key_size} in chunks of {chunk_size}"
            raise ConfigError(f"chunk attention of sizes {sizes}: sizes must be positive")
        self.intermediate_size = intermediate_size
        self.key_size = key_size
        self.chunk_size = chunk_size
        self.causal = causal
        self.activation = activation
        self.activation_function = get_activation(activation)
        self.use_bias = use_bias
        self.dropout = dropout
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.interleaved_rotary = interleaved_rotary

    def build(self, x_shape: Shape, **shapes: Shape) -> None:
        def dense(size: int | None, name: str, width: int | None) -> Dense:
            initializer = self.kernel_initializer.clone()
            layer = Dense(
                size, use_bias=self.use_bias, kernel_initializer=initializer, name=name, dtype=self.dtype_policy
            )
            layer.build((*x_shape[:-1], width))
            return layer

        self.input_dense = dense(2 * self.intermediate_size + self.key_size, "input", x_shape[-1])
        self.scales = [
            ScaleOffset(offset=self.use_bias, name=f"{name}_scale", dtype=self.dtype_policy) for name in MAPS
        ]
        for scale in self.scales:
            scale.build((*x_shape[:-1], self.key_size))
        self.output_dense = dense(x_shape[-1], "output", self.intermediate_size)

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
        length = ops.shape(x)[1]
        # A short text is one short chunk; padded to a full one it would cost as much as `chunk_size` tokens.
        size = min(self.chunk_size, length) if isinstance(length, int) else self.chunk_size
        hidden = self.activation_function(self.input_dense(x))
        gate, value, shared = ops.split(hidden, [self.intermediate_size, 2 * self.intermediate_size], axis=-1)
        maps = [self.turn(scale(shared), rotary) for scale in self.scales]
        mask = key_mask(attention_mask, self.name)
        keep = split_chunks(ops.ones((1, length), "bool") if mask is None else mask, size)
        # (B, T, ...) to (B, G, c, ...), G chunks of c tokens, the last one filled with zeros that `keep` hides.
        query, key, far_query, far_key, value = (split_chunks(part, size) for part in (*maps, value))
        mixed = self.inside_chunks(query, key, value, keep, seed, stream)
        mixed = mixed + self.between_chunks(far_query, far_key, value, keep)
        return self.output_dense(gate * join_chunks(mixed, length))

    def turn(self, x: Tensor, rotary: Tensor | None) -> Tensor:
        """Turn queries or keys (B, T, s) by the table, if there is one."""
        return x if rotary is None else turned(x[:, :, None], rotary, self.interleaved_rotary, self.name)[:, :, 0]

    def inside_chunks(
        self, query: Tensor, key: Tensor, value: Tensor, keep: Tensor, seed: Tensor | None, stream: int
    ) -> Tensor:
        """L from queries and keys (B, G, c, s), values (B, G, c, e) and the mask (B or 1, G, c): (B, G, c, e)."""
        scores = ops.matmul(query * ops.cast(1.0 / math.sqrt(self.key_size), query.dtype), ops.swapaxes(key, -1, -2))
        mask = keep[:, :, None, :]
        if self.causal:
            mask = ops.logical_and(mask, causal_mask(ops.shape(query)[2]))
        weights = attention_weights(ops.cast(scores, "float32"), mask, "squared_relu")
        return ops.matmul(dropout(ops.cast(weights, value.dtype), self.dropout, seed, stream), value)

    def between_chunks(self, query: Tensor, key: Tensor, value: Tensor, keep: Tensor) -> Tensor:
        """G from the same shapes: (B, G, c, e)."""
        # There are no scores to mask here: a key of zeros adds nothing to K^T V.
        key = key * ops.cast(keep, key.dtype)[..., None]
        counts = ops.sum(ops.cast(keep, "float32"), axis=2)[..., None, None]
        if self.causal:
            # Sums before the chunk, not with it: inside it the order of the tokens is known to the other term alone.
            means = sums_before(key_values(key, value)) / ops.maximum(sums_before(counts), 1.0)
            return ops.matmul(query, ops.cast(means, query.dtype))
        # Joined again, so that there is one K^T V and not one for each chunk.
        batch, chunks, size, width = ops.shape(query)
        flat_query, flat_key = (ops.reshape(part, (batch, chunks * size, width)) for part in (query, key))
        flat_value = ops.reshape(value, (batch, chunks * size, self.intermediate_size))
        mean = key_values(flat_key, flat_value) / ops.maximum(ops.sum(counts, axis=1), 1.0)
        mixed = ops.matmul(flat_query, ops.cast(mean, query.dtype))
        return ops.reshape(mixed, (batch, chunks, size, self.intermediate_size))

    def compute_output_spec(self, x: Tensor, **_: object) -> keras.KerasTensor:
        return keras.KerasTensor(x.shape, self.compute_dtype)

    def get_config(self) -> Config:
        return {
            **super().get_config(),
            "intermediate_size": self.intermediate_size,
            "key_size": self.key_size,
            "chunk_size": self.chunk_size,
            "causal": self.causal,
            "activation": self.activation,
            "use_bias": self.use_bias,
            "dropout": self.dropout,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "interleaved_rotary": self.interleaved_rotary,
        }
