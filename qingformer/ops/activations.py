"""Activation functions by the names that configuration files use."""

from collections.abc import Callable

import keras
from keras import ops

from qingformer.errors import ConfigError
from qingformer.types import Tensor


@keras.saving.register_keras_serializable("qingformer")
def gelu(x: Tensor) -> Tensor:
    """Gaussian error linear unit, exact: x/2 * (1 + erf(x / sqrt 2)).

    Shape and dtype follow `x`. Source: Hendrycks & Gimpel 2016, arXiv 1606.08415.

    Example: `gelu(ops.ones((2, 3)))`
    """
    return ops.gelu(x, approximate=False)


@keras.saving.register_keras_serializable("qingformer")
def gelu_tanh(x: Tensor) -> Tensor:
    """The tanh form of `gelu`: x/2 * (1 + tanh(sqrt(2/pi) * (x + 0.044715 x^3))); off by at most 5e-4.

    Shape and dtype follow `x`. Source: Hendrycks & Gimpel 2016, arXiv 1606.08415, section 2.

    Example: `gelu_tanh(ops.ones((2, 3)))`
    """
    return ops.gelu(x, approximate=True)


@keras.saving.register_keras_serializable("qingformer")
def gelu_clipped(x: Tensor) -> Tensor:
    """`gelu` clipped to -10 ... 10. Source: Wu et al. 2020, arXiv 2004.09602."""
    return ops.clip(gelu(x), -10.0, 10.0)


@keras.saving.register_keras_serializable("qingformer")
def gelu_sigmoid(x: Tensor) -> Tensor:
    """The sigmoid form of `gelu`: x sigma(1.702 x). Source: Hendrycks & Gimpel 2016, arXiv 1606.08415, section 2."""
    return x * ops.sigmoid(1.702 * x)


@keras.saving.register_keras_serializable("qingformer")
def relu_squared(x: Tensor) -> Tensor:
    """max(0, x)^2. Source: So et al. 2021 (Primer), arXiv 2109.08668."""
    return ops.square(ops.relu(x))


@keras.saving.register_keras_serializable("qingformer")
def mish(x: Tensor) -> Tensor:
    """x tanh(ln(1 + e^x)). Source: Misra 2019, arXiv 1908.08681."""
    return x * ops.tanh(ops.softplus(x))


@keras.saving.register_keras_serializable("qingformer")
def leaky_relu(x: Tensor) -> Tensor:
    """max(x, x / 100), the slope that configuration files mean; Keras' own is 0.2."""
    return ops.leaky_relu(x, negative_slope=0.01)


@keras.saving.register_keras_serializable("qingformer")
def linear(x: Tensor) -> Tensor:
    """The identity."""
    return x


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": gelu,
    "gelu_erf": gelu,
    "gelu_python": gelu,
    "gelu_new": gelu_tanh,
    "gelu_tanh": gelu_tanh,
    "gelu_fast": gelu_tanh,
    "gelu_accurate": gelu_tanh,
    "gelu_python_tanh": gelu_tanh,
    "gelu_pytorch_tanh": gelu_tanh,
    "gelu_10": gelu_clipped,
    "quick_gelu": gelu_sigmoid,
    "relu": ops.relu,
    "relu2": relu_squared,
    "relu6": ops.relu6,
    "leaky_relu": leaky_relu,
    "mish": mish,
    "hardswish": ops.hard_silu,
    "elu": ops.elu,
    "selu": ops.selu,
    "softplus": ops.softplus,
    "silu": ops.silu,
    "swish": ops.silu,
    "tanh": ops.tanh,
    "sigmoid": ops.sigmoid,
    "linear": linear,
    "identity": linear,
}


def get_activation(name: str) -> Callable[[Tensor], Tensor]:
    """The activation function of that name; `ConfigError` lists the known names when there is none.

    Example: `get_activation("gelu")`
    """
    try:
        return ACTIVATIONS[name]
    except KeyError:
        raise ConfigError(f"unknown activation {name!r}; known are {', '.join(sorted(ACTIVATIONS))}") from None
