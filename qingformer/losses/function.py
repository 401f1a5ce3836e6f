"""A plain function as a loss."""

from collections.abc import Callable
from typing import Any

import keras

from qingformer.backend.keras_internals import LossFunctionWrapper
from qingformer.errors import ConfigError
from qingformer.types import Nest, Tensor


@keras.saving.register_keras_serializable("qingformer")
class FunctionLoss(LossFunctionWrapper):
    """A function `(y_true, y_pred) -> values (B, ...)` as a loss, as Keras takes one.

    Raises:
        ConfigError: in the first step, a function that gives one number for the whole batch, of which nobody could take
            away what rows of padding put in.

    Example:
        >>> loss = FunctionLoss(keras.losses.mean_squared_error)
    """

    def __init__(self, fn: Callable[..., Any], reduction: str = "sum_over_batch_size", name: str | None = None) -> None:
        # "<lambda>" is no name of a scope on TensorFlow.
        name = name or getattr(fn, "__name__", "loss").strip("<>")
        super().__init__(fn, reduction=reduction, name=name)

    def call(self, y_true: Tensor, y_pred: Tensor) -> Nest:
        """The values of the rows."""
        values = keras.ops.convert_to_tensor(super().call(y_true, y_pred))
        if len(values.shape) == 0:  # the empty shape of TensorFlow is true
            raise ConfigError(
                f"the loss function {self.name} gives one number for a batch; return one for each row (reduce over "
                "axis=-1 only), or rows that fill up a batch would count"
            )
        return values
