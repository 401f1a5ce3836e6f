"""The position-wise feed-forward part of a block."""

from typing import Any

import keras

from qingformer.layers.dense import Dense
from qingformer.ops.activations import get_activation

Tensor = Any


@keras.saving.register_keras_serializable("qingformer")
class FeedForward(keras.layers.Layer):
    """Two dense layers with an activation between: act(x W_1 + b_1) W_2 + b_2.

    Input and output (B, T, d) float; the inner width is `intermediate_size`.
    Source: Vaswani et al. 2017, arXiv 1706.03762, section 3.3.

    Example: `FeedForward(32)(ops.ones((2, 5, 8)))`
    """

    def __init__(
        self,
        intermediate_size: int,
        activation: str = "gelu",
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.intermediate_size = intermediate_size
        self.activation = activation
        self.activation_function = get_activation(activation)
        self.use_bias = use_bias
        self.kernel_initializer = keras.initializers.get(kernel_initializer)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        def dense(size: int | None, name: str) -> Dense:
            return Dense(
                size,
                use_bias=self.use_bias,
                kernel_initializer=self.kernel_initializer.clone(),
                name=name,
                dtype=self.dtype_policy,
            )

        self.intermediate = dense(self.intermediate_size, "intermediate")
        self.output_dense = dense(input_shape[-1], "output")
        self.intermediate.build(input_shape)
        self.output_dense.build((*input_shape[:-1], self.intermediate_size))

    def call(self, x: Tensor) -> Tensor:
        """Apply the two dense layers to `x` (B, T, d)."""
        return self.output_dense(self.activation_function(self.intermediate(x)))

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "intermediate_size": self.intermediate_size,
            "activation": self.activation,
            "use_bias": self.use_bias,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }
