"""Dropout between layers."""

import keras

from qingformer.ops.seeded_dropout import dropout
from qingformer.types import Config, Tensor


@keras.saving.register_keras_serializable("qingformer")
class Dropout(keras.layers.Layer):
    """Zero each element with probability `rate` while training and scale the others by 1 / (1 - rate).

    Input and output: float of any shape. The same as `keras.layers.Dropout`, with the package's faster masks.
    Source: Srivastava et al. 2014, JMLR 15.

    Example: `Dropout(0.1)(ops.ones((2, 3)), training=True)`
    """

    def __init__(self, rate: float, seed: int | None = None, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.rate = rate
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed, name=f"{self.name}_seeds")
        self.built = True

    def call(self, x: Tensor, training: bool = False) -> Tensor:
        """Drop out when `training`, otherwise return `x` unchanged."""
        if not training or self.rate == 0.0:
            return x
        return dropout(x, self.rate, self.seed_generator.next())

    def compute_output_spec(self, x: Tensor, training: bool = False) -> keras.KerasTensor:
        return keras.KerasTensor(x.shape, x.dtype)

    def get_config(self) -> Config:
        return {**super().get_config(), "rate": self.rate, "seed": self.seed}
