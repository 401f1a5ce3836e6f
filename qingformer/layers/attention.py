"""Multi-head attention on stock dense layers, by a fused kernel or by explicit scores."""

import math

import keras
from keras import ops

from qingformer import backend
from qingformer.errors import ConfigError
from qingformer.layers.dense import Dense
from qingformer.layers.dropout_streams import DropoutStream
from qingformer.layers.normalization import RMSNormalization
from qingformer.ops.attention_weights import attention_weights, check_normalization, zero_rows_without_keys
from qingformer.ops.fused_attention import fused_attention
from qingformer.ops.rotary import apply_rotary
from qingformer.ops.seeded_dropout import dropout
from qingformer.types import Config, InitializerLike, Shape, Tensor

IMPLEMENTATIONS = ("auto", "fused", "explicit")
# The arguments that `get_config` returns as they are.
SETTINGS = """num_heads head_size key_size dropout use_bias residual_scores implementation output_bias normalization
    num_key_value_heads scaled interleaved_rotary rotary_value query_key_norm output_size""".split()


@keras.saving.register_keras_serializable("qingformer")
class MultiHeadAttention(keras.layers.Layer):
    """Multi-head attention: softmax(Q K^T / sqrt(key_size) + bias + mask) V, heads joined and projected.

    Input `x` (B, Tq, d) float gives the queries; keys and values come from `context` (B, Tk, d) or, without it, from
    `x`. `attention_mask` bool, broadcastable to (B, N, Tq, Tk), True = keep; a query without any key averages
    nothing. `bias` float, broadcastable to (B, N, Tq, Tk), is added to the scaled scores; `rotary` is a table of
    `ops.rotary.rotary_table` that turns queries and keys. The normalisation is in float32 whatever the policy.

    Options: `key_size` (queries and keys) beside `head_size` (values); `num_key_value_heads` fewer heads of keys and
    values, each shared by a group of query heads; `normalization` as `ops.attention_weights`; `scaled=False` leaves
    1 / sqrt(key_size) out; `rotary_value` turns values as well; `query_key_norm` an epsilon: queries and keys are
    RMS-normalised with learned gains.
    With `residual_scores` the scores (B, N, Tq, Tk) of the layer before are added to this layer's, and the sum is
    returned beside the output (accumulated, without the bias). "fused" uses the backend's attention kernel where the
    call allows it, "explicit" matrix products; "auto" takes the faster. Errors: `ConfigError` for impossible sizes and
    unknown names.

    Sources: Vaswani et al. 2017, arXiv 1706.03762; He et al. 2020 (RealFormer), arXiv 2012.11747; Su et al. 2021
    (rotary), arXiv 2104.09864; Ainslie et al. 2023 (grouped queries), arXiv 2305.13245.

    Example: `MultiHeadAttention(num_heads=2, head_size=4)(ops.ones((1, 5, 8)))`
    """

    # Whether this class works on the scores or weights themselves, which the fused kernel does not show.
    needs_weights = False

    def __init__(
        self,
        num_heads: int,
        head_size: int,
        key_size: int | None = None,
        dropout: float = 0.0,
        use_bias: bool = True,
        kernel_initializer: InitializerLike = "glorot_uniform",
        residual_scores: bool = False,
        implementation: str = "auto",
        *,
        output_bias: bool | None = None,
        num_key_value_heads: int | None = None,
        normalization: str = "softmax",
        scaled: bool = True,
        interleaved_rotary: bool = True,
        rotary_value: bool = False,
        query_key_norm: float | None = None,
        output_size: int | None = None,
        **kwargs: object,
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
        self.interleaved_rotary = interleaved_rotary
        self.rotary_value = rotary_value
        self.query_key_norm = query_key_norm
        self.output_size = output_size
        # Random vectors of D components have a product of variance D: the scale brings it back to one.
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

    def build(self, x_shape: Shape, context_shape: Shape | None = None, **shapes: Shape) -> None:
        def dense(size: int | None, name: str, use_bias: bool, shape: Shape) -> Dense:
            # A clone for each: one seeded initialiser would give all the same values.
            initializer = self.kernel_initializer.clone()
            layer = Dense(size, use_bias=use_bias, kernel_initializer=initializer, name=name, dtype=self.dtype_policy)
            layer.build(shape)
            return layer

        keys_shape, groups = context_shape or x_shape, self.num_key_value_heads
        self.query = dense(self.num_heads * self.key_size, "query", self.use_bias, x_shape)
        self.key = dense(groups * self.key_size, "key", self.use_bias, keys_shape)
        self.value = dense(groups * self.head_size, "value", self.use_bias, keys_shape)
        joined = (*x_shape[:-1], self.num_heads * self.head_size)
        self.output_dense = dense(self.output_size or x_shape[-1], "output", self.output_bias, joined)
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
        stream: int = DropoutStream.ATTENTION_WEIGHTS,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Attend from `x` to `context` or to itself; `seed` switches the dropout of the attention weights on."""
        query, key, value = self.project(x, x if context is None else context, rotary)
        if self.uses_kernel(seed):
            averages = fused_attention(query, key, value, attention_mask, bias, self.scale, self.normalization)
        else:
            # The scale goes into the queries, which are far fewer numbers than the scores.
            query = ops.transpose(query * ops.cast(self.scale, query.dtype), (0, 2, 1, 3))  # (B, N, Tq, D)
            raw = self.raw_scores(query, key)
            raw = raw if scores is None else raw + scores
            biased = raw if bias is None else raw + ops.cast(bias, raw.dtype)
            # float32: under bfloat16 the sum of hundreds of exponentials would lose most of its digits.
            weights = attention_weights(ops.cast(biased, "float32"), attention_mask, self.normalization)
            weights = dropout(ops.cast(weights, value.dtype), self.dropout, seed, stream)
            averages = ops.transpose(self.average(weights, value), (0, 2, 1, 3))  # (B, N, Tq, D) to (B, Tq, N, D)
        output = self.output_dense(self.join_heads(zero_rows_without_keys(averages, attention_mask)))
        return (output, raw) if self.residual_scores else output

    def project(self, x: Tensor, context: Tensor, rotary: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Queries (B, Tq, N, key size), keys (B, Tk, N, key size) and values (B, Tk, N, head size)."""
        query = self.split_heads(self.query(x), self.num_heads, self.key_size)
        key = self.split_heads(self.key(context), self.num_key_value_heads, self.key_size)
        value = self.split_heads(self.value(context), self.num_key_value_heads, self.head_size)
        if self.query_key_norm is not None:
            # Before the rotation: a gain for each component would not commute with it, and scores would depend on
            # where in the text both positions are, not on their distance alone.
            query, key = self.query_norm(query), self.key_norm(key)
        if rotary is not None:
            query = apply_rotary(query, rotary, self.interleaved_rotary)
            key = apply_rotary(key, rotary, self.interleaved_rotary)
            value = apply_rotary(value, rotary, self.interleaved_rotary) if self.rotary_value else value
        group = self.num_heads // self.num_key_value_heads
        if group > 1:
            # Last, so that norms and rotation work on the few heads that there are.
            key, value = ops.repeat(key, group, axis=2), ops.repeat(value, group, axis=2)
        return query, key, value

    def uses_kernel(self, seed: Tensor | None) -> bool:
        """Whether this call goes to the backend's kernel, which has no dropout and does not show scores or weights."""
        if self.needs_weights or self.residual_scores or (seed is not None and self.dropout > 0):
            return False
        # Nor has it a squared ReLU, or values of another size than the keys.
        if self.normalization == "squared_relu" or self.key_size != self.head_size:
            return False
        return self.implementation == "fused" or (self.implementation == "auto" and backend.prefers_fused_attention())

    def raw_scores(self, query: Tensor, key: Tensor) -> Tensor:
        """Scores (B, N, Tq, Tk) before bias and mask, of scaled queries (B, N, Tq, D) and keys (B, Tk, N, D)."""
        # Explicit transposes and one batched product: on CPUs several times faster than an einsum on (B, T, N, D).
        return ops.matmul(query, ops.transpose(key, (0, 2, 3, 1)))

    def average(self, weights: Tensor, value: Tensor) -> Tensor:
        """Values (B, Tk, N, D) averaged by weights (B, N, Tq, Tk): (B, N, Tq, D)."""
        return ops.matmul(weights, ops.transpose(value, (0, 2, 1, 3)))

    def split_heads(self, x: Tensor, heads: int, size: int) -> Tensor:
        """(B, T, N * D) to (B, T, N, D)."""
        batch, length = ops.shape(x)[:2]
        return ops.reshape(x, (batch, length, heads, size))

    def join_heads(self, x: Tensor) -> Tensor:
        """(B, T, N, D) to (B, T, N * D)."""
        batch, length = ops.shape(x)[:2]
        return ops.reshape(x, (batch, length, self.num_heads * self.head_size))

    def compute_output_spec(
        self, x: Tensor, context: Tensor | None = None, **others: object
    ) -> keras.KerasTensor | tuple[keras.KerasTensor, keras.KerasTensor]:
        output = keras.KerasTensor((*x.shape[:-1], self.output_size or x.shape[-1]), self.compute_dtype)
        if not self.residual_scores:
            return output
        keys = x if context is None else context
        shape = (x.shape[0], self.num_heads, x.shape[1], keys.shape[1])
        return output, keras.KerasTensor(shape, self.compute_dtype)

    def get_config(self) -> Config:
        settings = {name: getattr(self, name) for name in SETTINGS}
        initializer = keras.initializers.serialize(self.kernel_initializer)
        return {**super().get_config(), **settings, "kernel_initializer": initializer}

    @classmethod
    def from_config(cls, config: Config) -> "MultiHeadAttention":
        """The layer of these settings; older files have relative positions as a setting of this class."""
        limit = config.pop("max_relative_position", None)
        if limit is None:
            return cls(**config)
        # By name: the subclass builds on this module, which therefore cannot import it.
        relative = keras.saving.get_registered_object("qingformer>RelativeMultiHeadAttention")
        return relative(max_relative_position=limit, **config)
