"""Tiger: the sign of a momentum, steps relative to the weights, and accumulation of gradients that costs no memory."""

from collections.abc import Iterable, Sequence
from typing import Any

import keras
from keras import ops

from qingformer import backend
from qingformer.errors import ConfigError
from qingformer.optimizers.adafactor import root_mean_square
from qingformer.optimizers.optimizer import Optimizer, checked
from qingformer.optimizers.patterns import ELEMENTWISE, EMBEDDINGS, checked_patterns
from qingformer.types import Config, LearningRate, Tensor


@keras.saving.register_keras_serializable("qingformer")
class Tiger(Optimizer):
    """Lion with one decay instead of two, whose rate is relative to the size of each variable.

        m = beta m + (1 - beta) g
        theta -= lr * s * (sign(m) + weight_decay * theta)
        s = 1/2 for biases, gains and shifts;  RMS of its row for a row of embeddings;  RMS(theta) for everything else

    With `accumulation_steps=k` the mean gradient of k batches is gathered in m itself, so that accumulation needs no
    memory: m decays only with the first batch of k, each adds (1 - beta) g / k, and theta moves with the last one.

    Args:
        learning_rate: number or schedule; the relative size of a step, 1e-3 to 2e-3 at its peak. A schedule counts
            batches.
        beta: decay of the momentum, in [0, 1): 0.965 for language, 0.945 for images.
        weight_decay: decoupled decay, times `lr * s`; None for none.
        accumulation_steps: batches for one update, at least 1 (instead of Keras' `gradient_accumulation_steps`).
        elementwise: regular expressions of the paths that move by half the rate.
        by_row: regular expressions of the paths whose scale is taken along the last axis, row by row.
        least_scale: lower limit of RMS. The article has none, and so what starts at 0 never moves.
        exclude_from_weight_decay: regular expressions of paths that do not decay.
        options: see `Optimizer`.

    Raises:
        ConfigError: an argument that cannot be.

    Source: 科学空间 archives/9512 (Tiger) and archives/8634 (the accumulation). Not taken over is the shrinking of all
    weights at a NaN gradient; `keras.optimizers.LossScaleOptimizer` skips such steps.

    Example:
        >>> model.compile(Tiger(1e-3, accumulation_steps=4), "sparse_categorical_crossentropy")
    """

    def __init__(
        self,
        learning_rate: LearningRate = 1e-3,
        beta: float = 0.965,
        weight_decay: float | None = 0.01,
        accumulation_steps: int = 1,
        elementwise: Iterable[str] = ELEMENTWISE,
        by_row: Iterable[str] = EMBEDDINGS,
        least_scale: float = 1e-3,
        exclude_from_weight_decay: Iterable[str] = ELEMENTWISE,
        **options: object,
    ) -> None:
        super().__init__(learning_rate, weight_decay, exclude_from_weight_decay, **options)
        self.beta = checked("Tiger", "beta", beta, below=1.0)
        if accumulation_steps < 1 or (accumulation_steps > 1 and self.gradient_accumulation_steps):
            raise ConfigError(
                f"Tiger: accumulation_steps is {accumulation_steps}; expected 1 or more, and no "
                "gradient_accumulation_steps beside it"
            )
        self.accumulation_steps = int(accumulation_steps)
        self._elementwise = checked_patterns("Tiger", "elementwise", elementwise)
        self._by_row = checked_patterns("Tiger", "by_row", by_row)
        self.least_scale = checked("Tiger", "least_scale", least_scale)

    def build(self, variables: Sequence[keras.Variable]) -> None:
        """Make the momentum of each variable."""
        if self.built:
            return
        super().build(variables)
        self._momenta = self.add_slots(variables, "momentum")
        self._halved = self.matching("elementwise", self._elementwise, variables)
        by_row = self.matching("by_row", self._by_row, variables)
        self._row_axes = [-1 if rows and len(v.shape) > 1 else None for v, rows in zip(variables, by_row)]

    def scalars(self) -> dict[str, Tensor]:
        """How much of the momentum stays, and whether the weights move (1 or 0)."""
        phase = ops.mod(self.iterations, self.accumulation_steps)
        return {
            "kept": ops.where(phase == 0, self.beta, 1.0),
            "moves": ops.cast(phase == self.accumulation_steps - 1, "float32"),
        }

    def direction(self, gradient: Tensor, value: Tensor, index: int) -> Tensor:
        """The sign of the momentum."""
        slot = self._momenta[index]
        if self.accumulation_steps == 1:
            return ops.sign(backend.assign_lerp(slot, gradient, 1 - self.beta))
        share = (1 - self.beta) / self.accumulation_steps
        momentum = self.scalar("kept", index) * ops.convert_to_tensor(slot) + share * gradient
        self.assign(slot, momentum)
        return ops.sign(momentum)

    def change(self, gradient: Tensor, value: Tensor, index: int) -> Tensor:
        """The sign and the decay, times the scale of the variable."""
        change = super().change(gradient, value, index)
        if self._halved[index]:
            scale: Any = 0.5
        else:
            scale = ops.maximum(root_mean_square(value, self._row_axes[index]), self.least_scale)
        return (scale * self.scalar("moves", index) if self.accumulation_steps > 1 else scale) * change

    def get_config(self) -> Config:
        """The constructor's arguments."""
        return super().get_config() | {
            "beta": self.beta,
            "accumulation_steps": self.accumulation_steps,
            "elementwise": list(self._elementwise),
            "by_row": list(self._by_row),
            "least_scale": self.least_scale,
        }
