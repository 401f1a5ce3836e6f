"""A classifier whose outputs are cosines."""

from typing import Any

import keras
from keras import ops

from qingformer.errors import ConfigError
from qingformer.ops.vectors import unit
from qingformer.types import Config, InitializerLike, Tensor


@keras.saving.register_keras_serializable("qingformer")
class CosineClassifier(keras.layers.Layer):
    """Cosine of a vector with a vector for each class: output (..., C) float32 = x/|x| . w_c/|w_c|.

    For `qingformer.losses.MarginSoftmax`, or times a scale for plain cross-entropy. After each update of an optimizer
    every w_c has length 1 again (a constraint), so that the size of a step does not depend on how old a class is.
    There is no bias. Input (..., d) float; statistics in float32 under any dtype policy.

    Args:
        num_classes: C.
        kernel_initializer: of the kernel (d, C), a column for each class.

    Raises `ConfigError` for fewer than two classes.

    Source: Wang et al. 2018, arXiv 1801.05599; 科学空间 archives/5743.

    Example: `CosineClassifier(3)(ops.ones((2, 8)))`
    """

    def __init__(
        self, num_classes: int, kernel_initializer: InitializerLike = "glorot_uniform", **kwargs: object
    ) -> None:
        super().__init__(**kwargs)
        if num_classes < 2:
            raise ConfigError(f"CosineClassifier: num_classes is {num_classes}; expected at least two")
        self.num_classes = int(num_classes)
        self.kernel_initializer = keras.initializers.get(kernel_initializer)

    def build(self, input_shape: tuple[Any, ...]) -> None:
        self.kernel = self.add_weight(
            name="kernel",
            shape=(input_shape[-1], self.num_classes),
            initializer=self.kernel_initializer,
            constraint=keras.constraints.UnitNorm(axis=0),
            autocast=False,
        )

    def call(self, x: Tensor) -> Tensor:
        """Vectors (..., d) to cosines (..., C) float32."""
        # Normalised here too: at the start, and after whatever else moved the weights, the output is a cosine.
        classes = ops.transpose(unit(ops.transpose(ops.convert_to_tensor(self.kernel))))
        return ops.matmul(unit(x), classes)

    def compute_output_spec(self, x: Tensor) -> keras.KerasTensor:
        return keras.KerasTensor((*x.shape[:-1], self.num_classes), dtype="float32")

    def get_config(self) -> Config:
        initializer = keras.initializers.serialize(self.kernel_initializer)
        return {**super().get_config(), "num_classes": self.num_classes, "kernel_initializer": initializer}
