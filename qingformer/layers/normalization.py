"""Layer normalisation whose steps can be left out, and whose gain and offset may depend on a condition."""

from typing import Any

import keras
from keras import ops

from qingformer.errors import ConfigError
from qingformer.layers.scale_offset import ScaleOffset
from qingformer.types import Config, Tensor


@keras.saving.register_keras_serializable("qingformer")
class LayerNormalization(ScaleOffset):
    """Layer normalisation in four steps that can each be left out: (x - mean) / sqrt(var + epsilon) * gamma + beta.

    var is the mean square of what the first step leaves. `zero_mean` and `unit_variance` switch the first two steps;
    `scale`, `offset`, the optional condition and its `hidden_size` and `hidden_act` are those of `ScaleOffset`. Input
    `x` (..., d) float, output as `x`; statistics in float32. With all four steps and no condition it computes what
    `keras.layers.LayerNormalization` computes. Source: Ba et al. 2016, arXiv 1607.06450.

    Example: `LayerNormalization(offset=False)(ops.ones((2, 5, 8)))`
    """

    def __init__(
        self,
        epsilon: float = 1e-12,
        hidden_size: int | None = None,
        hidden_act: str = "linear",
        zero_mean: bool = True,
        unit_variance: bool = True,
        scale: bool | float = True,
        offset: bool | float = True,
        **kwargs: object,
    ) -> None:
        super().__init__(scale, offset, hidden_size, hidden_act, **kwargs)
        self.epsilon = epsilon
        self.zero_mean = zero_mean
        self.unit_variance = unit_variance

    def call(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """Normalise `x` (..., d), then scale and shift it under `condition`."""
        return super().call(self.normalize(x), condition)

    def normalize(self, x: Tensor) -> Tensor:
        """The first two steps, computed in float32 and returned in the dtype of `x`."""
        wide = ops.cast(x, "float32")
        if self.zero_mean:
            wide = wide - ops.mean(wide, axis=-1, keepdims=True)
        if self.unit_variance:
            wide = wide * ops.rsqrt(ops.mean(ops.square(wide), axis=-1, keepdims=True) + self.epsilon)
        return ops.cast(wide, x.dtype)

    def get_config(self) -> Config:
        settings = {"epsilon": self.epsilon, "zero_mean": self.zero_mean, "unit_variance": self.unit_variance}
        return {**super().get_config(), **settings}


@keras.saving.register_keras_serializable("qingformer")
class ConditionalLayerNormalization(LayerNormalization):
    """Layer normalisation with gain and offset moved by a condition vector c.

    y = (gamma + c' W_gamma) * (x - mean) / sqrt(var + epsilon) + (beta + c' W_beta), where c' = act(c W_hidden) if
    `hidden_size` is given and c otherwise. W_gamma and W_beta start at zero, so that a pretrained model is unchanged
    at first. Inputs `x` (B, T, d) and `condition` (B, c) or (B, T, c) float; output (B, T, d), statistics in float32.
    Steps are left out as in `LayerNormalization`. Errors: `ConfigError` without a condition.
    Source: 科学空间 archives/7124; Ba et al. 2016, arXiv 1607.06450.

    Example: `ConditionalLayerNormalization()(ops.ones((2, 5, 8)), ops.ones((2, 3)))`
    """

    def build(self, x_shape: tuple[Any, ...], condition_shape: tuple[Any, ...] | None = None) -> None:
        if condition_shape is None:
            raise ConfigError(f"{self.name} needs a condition (B, c) or (B, T, c) beside its input")
        super().build(x_shape, condition_shape)


@keras.saving.register_keras_serializable("qingformer")
class RMSNormalization(LayerNormalization):
    """Divide by the root mean square: x / sqrt(mean(x^2) + epsilon) * gamma, gamma left out without `use_scale`.

    Input `x` (..., d) float, output as `x`; statistics in float32; a condition moves gamma as in `ScaleOffset`.
    Source: Zhang and Sennrich 2019, arXiv 1910.07467.

    Example: `RMSNormalization()(ops.ones((2, 5, 8)))`
    """

    def __init__(self, epsilon: float = 1e-6, use_scale: bool = True, **kwargs: Any) -> None:
        super().__init__(epsilon, zero_mean=False, scale=use_scale, offset=False, **kwargs)
        self.use_scale = use_scale

    def get_config(self) -> Config:
        # The parent's other settings follow from the class.
        config = super().get_config()
        fixed = ("zero_mean", "unit_variance", "scale", "offset")
        return {**{name: value for name, value in config.items() if name not in fixed}, "use_scale": self.use_scale}
