"""The dense layer of Keras with a faster gradient on CPUs, and with low-rank adapters that stay low-rank."""

import keras
from keras import ops

from qingformer import backend
from qingformer.adapters.low_rank_layer import LowRank
from qingformer.types import Tensor


@keras.saving.register_keras_serializable("qingformer")
class Dense(LowRank):
    """`keras.layers.Dense`, act(x W + b): the same variables, settings and numbers, by `backend.matmul`.

    Input (..., d) float, output (..., units). Quantisation is that of the parent; adapters are those of `LowRank`.

    Example: `Dense(4)(ops.ones((2, 3)))`
    """

    def call(self, inputs: Tensor, training: bool | None = None) -> Tensor:
        """Multiply by the kernel, add the low-rank part and the bias, apply the activation."""
        x = backend.matmul(inputs, self._kernel if self.lora_enabled else self.kernel)
        # Merged, B is zero. Merging changes what is trainable, so JAX and torch trace anew; a function that TensorFlow
        # compiled in between would go on without the product after unmerging.
        if self.lora_enabled and not (self.lora_merged and backend.name() != "tensorflow"):
            x = ops.add(x, self.low_rank_part(inputs))
        x = x if self.bias is None else ops.add(x, self.bias)
        return x if self.activation is None else self.activation(x)

    def quantize(self, mode: object = None, type_check: bool = True, config: object = None) -> None:
        """As the parent, which refuses subclasses unless told that they are known to work."""
        super().quantize(mode, type_check=False, config=config)
