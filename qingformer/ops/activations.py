"""Activation functions by the names that configuration files use."""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from qingformer.errors import ConfigError

Tensor = Any


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
def linear(x: Tensor) -> Tensor:
    """The identity."""
    return x


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": gelu,
    "gelu_erf": gelu,
    "gelu_new": gelu_tanh,
    "gelu_tanh": gelu_tanh,
    "gelu_pytorch_tanh": gelu_tanh,
    "relu": ops.relu,
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
