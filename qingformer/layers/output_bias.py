"""Small layers of the heads: pick a position, add a vocabulary bias."""

import keras
from keras import ops

from qingformer.types import Config, Tensor


@keras.saving.register_keras_serializable("qingformer")
class TokenPooling(keras.layers.Layer):
    """Pick the vector of one position, by default the first ([CLS]): (B, T, d) to (B, d).

    Example: `TokenPooling()(ops.ones((2, 5, 8)))`
    """

    def __init__(self, index: int = 0, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.index = index
        self.built = True

    def call(self, x: Tensor) -> Tensor:
        """Return `x[:, index]`."""
        return x[:, self.index]

    def get_config(self) -> Config:
        return {**super().get_config(), "index": self.index}


@keras.saving.register_keras_serializable("qingformer")
class OutputBias(keras.layers.Layer):
    """Add a learned bias to the last axis: the output bias of a tied language-model head. Shapes (..., V) to (..., V).

    Example: `OutputBias()(ops.ones((2, 5, 100)))`
    """

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self.bias = self.add_weight(shape=(input_shape[-1],), initializer="zeros", name="bias")

    def call(self, x: Tensor) -> Tensor:
        """Return `x + bias`."""
        return x + self.bias


@keras.saving.register_keras_serializable("qingformer")
class ZerosLike(keras.layers.Layer):
    """Zeros of the shape of the input: what a stream begins with that knows nothing of the tokens.

    Example: `ZerosLike()(ops.ones((2, 5, 8)))`
    """

    def __init__(self, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.built = True

    def call(self, x: Tensor) -> Tensor:
        """Return zeros."""
        return ops.zeros_like(x)
