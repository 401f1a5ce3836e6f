"""The gated attention unit: attention and gated feed-forward in one layer with one head."""

import math

import keras
from keras import ops

from qingformer.errors import ConfigError
from qingformer.layers.dense import Dense
from qingformer.layers.dropout_streams import DropoutStream
from qingformer.layers.scale_offset import ScaleOffset
from qingformer.ops.activations import get_activation
from qingformer.ops.attention_weights import attention_weights, check_normalization
from qingformer.ops.rotary import turned
from qingformer.ops.seeded_dropout import dropout
from qingformer.types import Config, InitializerLike, Shape, Tensor


@keras.saving.register_keras_serializable("qingformer")
class GatedAttentionUnit(keras.layers.Layer):
    """Gated attention: O = (U * A V) W_o with one head, A = relu(Q K^T / sqrt(s))^2 / l or a softmax of the scores.

    [U, V, Z] = act(x W_i + b_i), widths e, e and s; Q = Z gamma_q + beta_q, K = Z gamma_k + beta_k; e is
    `intermediate_size`, s `key_size`, l the number of keys that the row may see. With a `context`, [U, Q] come from
    `x`, K and V from the context, each by a dense layer of its own with the activation, and no gains. Two units with
    e = 2d have the size of an attention and a feed-forward of width 4d.

    Input `x` (B, Tq, d) and optional `context` (B, Tk, c) float; `attention_mask` bool, broadcastable to
    (B, 1, Tq, Tk), True = keep; `bias` float, broadcastable to the same, is added to the scaled scores; `rotary` is a
    table of `ops.rotary.rotary_table`, one for queries and keys; output (B, Tq, d). `normalization` as
    `ops.attention.attention_weights`, in float32; `attention_scale=False` leaves 1 / sqrt(s) out; biases and beta
    appear only with `use_bias`. With `residual_scores` the `scores` (B, 1, Tq, Tk) of the layer before are added to
    this layer's, and the sum, without the bias, is returned beside the output. Errors: `ConfigError` for impossible
    sizes, unknown names, and a context or a rotary table that does not fit.

    Sources: Hua et al. 2022, arXiv 2202.10447; 科学空间 archives/8934, 9019 (softmax) and 9052 (GAU-alpha).

    Example: `GatedAttentionUnit(intermediate_size=16, key_size=4)(ops.ones((1, 5, 8)))`
    """

    def __init__(
        self,
        intermediate_size: int,
        key_size: int = 128,
        activation: str = "swish",
        use_bias: bool = True,
        normalization: str = "squared_relu",
        attention_scale: bool = True,
        dropout: float = 0.0,
        kernel_initializer: InitializerLike = "glorot_uniform",
        interleaved_rotary: bool = True,
        residual_scores: bool = False,
        **kwargs: object,
    ) -> None:
        super().__init__(**kwargs)
        if min(intermediate_size, key_size) < 1:
            raise ConfigError(f"gated attention of sizes {intermediate_size} and {key_size}: sizes must be positive")
        self.intermediate_size = intermediate_size
        self.key_size = key_size
        self.activation = activation
        self.activation_function = get_activation(activation)
        self.use_bias = use_bias
        self.normalization = check_normalization(normalization)
        self.attention_scale = attention_scale
        self.dropout = dropout
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.interleaved_rotary = interleaved_rotary
        self.residual_scores = residual_scores
        # Whether there is a context decides which weights there are: settled when the layer is built, not at each call.
        self.crosses = False

    def build(self, x_shape: Shape, context_shape: Shape | None = None, **shapes: Shape) -> None:
        self.crosses = context_shape is not None
        inner, key = self.intermediate_size, self.key_size
        # One matrix for gate, values and keys together: one large product is faster than three.
        self.input_dense = self._dense(inner + key if self.crosses else 2 * inner + key, "input", x_shape)
        if context_shape is not None:
            self.key_dense = self._dense(key, "key", context_shape)
            self.value_dense = self._dense(inner, "value", context_shape)
        else:
            self.query_scale = ScaleOffset(offset=self.use_bias, name="query_scale", dtype=self.dtype_policy)
            self.key_scale = ScaleOffset(offset=self.use_bias, name="key_scale", dtype=self.dtype_policy)
            for scale in (self.query_scale, self.key_scale):
                scale.build((*x_shape[:-1], key))
        self.output_dense = self._dense(x_shape[-1], "output", (*x_shape[:-1], inner))

    def _dense(self, size: int | None, name: str, shape: Shape) -> Dense:
        initializer = self.kernel_initializer.clone()
        layer = Dense(size, use_bias=self.use_bias, kernel_initializer=initializer, name=name, dtype=self.dtype_policy)
        layer.build(shape)
        return layer

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
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Attend from `x` to `context` or to itself; `seed` switches the dropout of the attention weights on."""
        gate, query, key, value = self.project(x, context)
        if rotary is not None:
            # (B, T, s) as one head, (B, T, 1, s): what the rotation takes.
            heads = (part[:, :, None] for part in (query, key))
            query, key = (turned(part, rotary, self.interleaved_rotary, self.name)[:, :, 0] for part in heads)
        raw = self.raw_scores(query, key)
        raw = raw if scores is None else raw + scores
        biased = raw if bias is None else raw + ops.cast(bias, raw.dtype)
        # float32: squares of bfloat16 scores, and their sum over a row, would keep two or three digits.
        weights = attention_weights(ops.cast(biased, "float32"), attention_mask, self.normalization)
        weights = dropout(ops.cast(weights, value.dtype), self.dropout, seed, stream)
        # (B, 1, Tq, Tk) to (B, Tq, Tk): one head, so there is nothing to transpose or to join.
        output = self.output_dense(gate * ops.matmul(weights[:, 0], value))
        return (output, raw) if self.residual_scores else output

    def project(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Gate (B, Tq, e), queries (B, Tq, s), keys (B, Tk, s) and values (B, Tk, e)."""
        if (context is not None) != self.crosses:
            state = "with a context: give it one" if self.crosses else "without a context, for self-attention"
            raise ConfigError(f"{self.name} was built {state}")
        hidden = self.activation_function(self.input_dense(x))
        if context is not None:
            gate, query = ops.split(hidden, [self.intermediate_size], axis=-1)
            key, value = (self.activation_function(dense(context)) for dense in (self.key_dense, self.value_dense))
            return gate, query, key, value
        # Queries and keys share one narrow projection; a gain and an offset for each tell them apart.
        gate, value, shared = ops.split(hidden, [self.intermediate_size, 2 * self.intermediate_size], axis=-1)
        return gate, self.query_scale(shared), self.key_scale(shared), value

    def raw_scores(self, query: Tensor, key: Tensor) -> Tensor:
        """Scaled scores (B, 1, Tq, Tk) before bias and mask."""
        query = query * ops.cast(1.0 / math.sqrt(self.key_size), query.dtype) if self.attention_scale else query
        return ops.matmul(query, ops.transpose(key, (0, 2, 1)))[:, None]

    def compute_output_spec(
        self, x: Tensor, context: Tensor | None = None, **_: object
    ) -> keras.KerasTensor | tuple[keras.KerasTensor, keras.KerasTensor]:
        output = keras.KerasTensor(x.shape, self.compute_dtype)
        if not self.residual_scores:
            return output
        keys = (x if context is None else context).shape[1]
        return output, keras.KerasTensor((x.shape[0], 1, x.shape[1], keys), self.compute_dtype)

    def get_config(self) -> Config:
        return {
            **super().get_config(),
            "intermediate_size": self.intermediate_size,
            "key_size": self.key_size,
            "activation": self.activation,
            "use_bias": self.use_bias,
            "normalization": self.normalization,
            "attention_scale": self.attention_scale,
            "dropout": self.dropout,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "interleaved_rotary": self.interleaved_rotary,
            "residual_scores": self.residual_scores,
        }
