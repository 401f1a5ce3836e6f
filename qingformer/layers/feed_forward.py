"""The position-wise feed-forward part of a block."""

import functools
import operator
from collections.abc import Sequence

import keras

from qingformer.layers.dense import Dense
from qingformer.layers.dropout_streams import DropoutStream
from qingformer.ops.activations import get_activation
from qingformer.ops.seeded_dropout import dropout
from qingformer.types import Config, InitializerLike, Shape, Tensor


@keras.saving.register_keras_serializable("qingformer")
class FeedForward(keras.layers.Layer):
    """Two dense layers with an activation between: act(x W_1 + b_1) W_2 + b_2, or gated.

    With several activations the inner vectors are multiplied: (act_1(x W_11 + b_11) * act_2(x W_12 + b_12)) W_2 + b_2.
    Input and output (B, T, d) float; the inner width is `intermediate_size`. `dropout` is the rate for the inner
    vectors (T5 has it), drawn from the `seed` (2,) of a call in its own `stream`; without a seed nothing is dropped.
    Sources: Vaswani et al. 2017, arXiv 1706.03762, section 3.3; Shazeer 2020 (gated), arXiv 2002.05202.

    Example: `FeedForward(32, ["silu", "linear"])(ops.ones((2, 5, 8)))`
    """

    def __init__(
        self,
        intermediate_size: int,
        activation: str | Sequence[str] = "gelu",
        use_bias: bool = True,
        kernel_initializer: InitializerLike = "glorot_uniform",
        dropout: float = 0.0,
        **kwargs: object,
    ) -> None:
        super().__init__(**kwargs)
        self.intermediate_size = intermediate_size
        self.activation = activation if isinstance(activation, str) else list(activation)
        names = [activation] if isinstance(activation, str) else list(activation)
        self.activation_functions = [get_activation(name) for name in names]
        self.use_bias = use_bias
        self.dropout = dropout
        self.kernel_initializer = keras.initializers.get(kernel_initializer)

    def build(self, input_shape: Shape) -> None:
        def dense(size: int | None, name: str) -> Dense:
            return Dense(
                size,
                use_bias=self.use_bias,
                kernel_initializer=self.kernel_initializer.clone(),
                name=name,
                dtype=self.dtype_policy,
            )

        count = len(self.activation_functions)
        names = ["intermediate"] if count == 1 else [f"intermediate_{index}" for index in range(count)]
        self.intermediate = [dense(self.intermediate_size, name) for name in names]
        self.output_dense = dense(input_shape[-1], "output")
        for layer in self.intermediate:
            layer.build(input_shape)
        self.output_dense.build((*input_shape[:-1], self.intermediate_size))

    def call(self, x: Tensor, seed: Tensor | None = None, stream: int = DropoutStream.FEED_FORWARD_INSIDE) -> Tensor:
        """Apply the dense layers to `x` (B, T, d)."""
        # A matrix for each activation, not one that is split: checkpoints store them apart, and adapters name them.
        inner = [function(layer(x)) for function, layer in zip(self.activation_functions, self.intermediate)]
        return self.output_dense(dropout(functools.reduce(operator.mul, inner), self.dropout, seed, stream))

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return input_shape

    def get_config(self) -> Config:
        return {
            **super().get_config(),
            "intermediate_size": self.intermediate_size,
            "activation": self.activation,
            "use_bias": self.use_bias,
            "dropout": self.dropout,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }
