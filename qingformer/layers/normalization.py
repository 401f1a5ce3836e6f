"""Layer normalisation whose gain and offset depend on a condition."""

from typing import Any

import keras
from keras import ops

from qingformer.ops.activations import get_activation

Tensor = Any


@keras.saving.register_keras_serializable("qingformer")
class ConditionalLayerNormalization(keras.layers.Layer):
    """Layer normalisation with gain and offset moved by a condition vector c.

    y = (gamma + c' W_gamma) * (x - mean) / sqrt(var + epsilon) + (beta + c' W_beta), where c' = act(c W_hidden) if
    `hidden_size` is given and c otherwise. W_gamma and W_beta start at zero, so that a pretrained model is unchanged
    at first. Inputs `x` (B, T, d) and `condition` (B, c) or (B, T, c) float; output (B, T, d), statistics in float32.
    Source: 科学空间 archives/7124; Ba et al. 2016, arXiv 1607.06450.

    Example: `ConditionalLayerNormalization()(ops.ones((2, 5, 8)), ops.ones((2, 3)))`
    """

    def __init__(
        self, epsilon: float = 1e-12, hidden_size: int | None = None, hidden_act: str = "linear", **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.epsilon = epsilon
        self.hidden_size = hidden_size
        self.hidden_act = hidden_act
        self.activation = get_activation(hidden_act)

        def projection(size: int, name: str, initializer: str) -> keras.layers.Dense:
            return keras.layers.Dense(
                size, use_bias=False, kernel_initializer=initializer, name=name, dtype=self.dtype_policy
            )

        self.make_projection = projection
        self.hidden = projection(hidden_size, "condition_hidden", "glorot_uniform") if hidden_size else None

    def build(self, x_shape: tuple[Any, ...], condition_shape: tuple[Any, ...]) -> None:
        size = x_shape[-1]
        self.gamma = self.add_weight(shape=(size,), initializer="ones", name="gamma")
        self.beta = self.add_weight(shape=(size,), initializer="zeros", name="beta")
        if self.hidden is not None:
            self.hidden.build(condition_shape)
            condition_shape = (*condition_shape[:-1], self.hidden_size)
        self.condition_gamma = self.make_projection(size, "condition_gamma", "zeros")
        self.condition_beta = self.make_projection(size, "condition_beta", "zeros")
        self.condition_gamma.build(condition_shape)
        self.condition_beta.build(condition_shape)

    def call(self, x: Tensor, condition: Tensor) -> Tensor:
        """Normalise `x` (B, T, d) under `condition` (B, c) or (B, T, c)."""
        if len(condition.shape) < len(x.shape):
            condition = ops.expand_dims(condition, 1)
        if self.hidden is not None:
            condition = self.activation(self.hidden(condition))
        wide = ops.cast(x, "float32")
        centred = wide - ops.mean(wide, axis=-1, keepdims=True)
        variance = ops.mean(ops.square(centred), axis=-1, keepdims=True)
        normal = ops.cast(centred * ops.rsqrt(variance + self.epsilon), x.dtype)
        return (self.gamma + self.condition_gamma(condition)) * normal + self.beta + self.condition_beta(condition)

    def compute_output_spec(self, x: Tensor, condition: Tensor) -> keras.KerasTensor:
        return keras.KerasTensor(x.shape, self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        settings = {"epsilon": self.epsilon, "hidden_size": self.hidden_size, "hidden_act": self.hidden_act}
        return {**super().get_config(), **settings}
