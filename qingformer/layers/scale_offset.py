"""A gain and an offset for each component, learned or fixed, that a condition may move."""

from typing import Any

import keras
from keras import ops

from qingformer.errors import ConfigError
from qingformer.ops.activations import get_activation
from qingformer.types import Config, Tensor


@keras.saving.register_keras_serializable("qingformer")
class ScaleOffset(keras.layers.Layer):
    """Multiply and shift the last axis: x * gamma + beta, both moved by a condition vector c where there is one.

    `scale` (gamma) and `offset` (beta) are True for a learned vector, which starts at one and at zero; a number for a
    constant; False for none. Built with a condition, gamma + c' W_gamma and beta + c' W_beta take their places, where
    c' = act(c W_hidden) if `hidden_size` is given and c otherwise; W_gamma and W_beta start at zero, so that a
    pretrained model is unchanged at first. Inputs `x` (..., d) and `condition` (..., c) float, a condition of lower
    rank holds for every position; output as `x`. Errors: `ConfigError` for a condition that appears only in the call,
    or only in the build. Sources: Hua et al. 2022, arXiv 2202.10447; 科学空间 archives/7124 (condition).

    Example: `ScaleOffset()(ops.ones((2, 5, 8)))`
    """

    def __init__(
        self,
        scale: bool | float = True,
        offset: bool | float = True,
        hidden_size: int | None = None,
        hidden_act: str = "linear",
        **kwargs: object,
    ) -> None:
        super().__init__(**kwargs)
        self.scale = scale
        self.offset = offset
        self.hidden_size = hidden_size
        self.hidden_act = hidden_act
        self.activation = get_activation(hidden_act)
        self.gamma: Any = None
        self.beta: Any = None
        self.conditional = False

    def build(self, x_shape: tuple[Any, ...], condition_shape: tuple[Any, ...] | None = None) -> None:
        size = x_shape[-1]
        self.gamma = self.add_weight(shape=(size,), initializer="ones", name="gamma") if self.scale is True else None
        self.beta = self.add_weight(shape=(size,), initializer="zeros", name="beta") if self.offset is True else None
        self.conditional = condition_shape is not None
        if condition_shape is None:
            return
        if self.hidden_size:
            self.hidden = self._projection(self.hidden_size, "condition_hidden", "glorot_uniform", condition_shape)
            condition_shape = (*condition_shape[:-1], self.hidden_size)
        if self.scale is not False:
            self.condition_gamma = self._projection(size, "condition_gamma", "zeros", condition_shape)
        if self.offset is not False:
            self.condition_beta = self._projection(size, "condition_beta", "zeros", condition_shape)

    def _projection(self, size: int, name: str, initializer: str, shape: tuple[Any, ...]) -> keras.layers.Dense:
        dense = keras.layers.Dense(
            size, use_bias=False, kernel_initializer=initializer, name=name, dtype=self.dtype_policy
        )
        dense.build(shape)
        return dense

    def call(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """Scale and shift `x` (..., d) under `condition`."""
        if (condition is not None) != self.conditional:
            state = "was built with a condition: give it one" if self.conditional else "was built without a condition"
            raise ConfigError(f"{self.name} {state}")
        if condition is not None:
            while len(condition.shape) < len(x.shape):
                condition = ops.expand_dims(condition, 1)
            condition = self.activation(self.hidden(condition)) if self.hidden_size else condition
        if self.scale is not False:
            gamma = self.gamma if self.scale is True else self.scale
            x = x * (gamma if condition is None else gamma + self.condition_gamma(condition))
        if self.offset is not False:
            beta = self.beta if self.offset is True else self.offset
            x = x + (beta if condition is None else beta + self.condition_beta(condition))
        return x

    def compute_output_spec(self, x: Tensor, condition: Tensor | None = None) -> keras.KerasTensor:
        return keras.KerasTensor(x.shape, self.compute_dtype)

    def get_config(self) -> Config:
        settings = {"scale": self.scale, "offset": self.offset}
        return {**super().get_config(), **settings, "hidden_size": self.hidden_size, "hidden_act": self.hidden_act}
