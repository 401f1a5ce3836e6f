"""AdaX: Adam that forgets nothing."""

import math
from collections.abc import Iterable, Sequence

import keras
from keras import ops

from qingformer import backend
from qingformer.optimizers.optimizer import Optimizer, checked
from qingformer.types import Config, LearningRate, Tensor


@keras.saving.register_keras_serializable("qingformer")
class AdaX(Optimizer):
    """Adam whose mean squares give the past exponentially more weight, not less.

        m = b1 m + (1 - b1) g,    v = (1 + b2) v + b2 g^2,    v' = v / ((1 + b2)^t - 1)
        theta -= lr * (m / (sqrt(v') + epsilon) + weight_decay * theta)

    m is not corrected. v itself would overflow float32 near t = 887,000 with the default b2; kept instead is v', which
    obeys v' <- v' + w (g^2 - v') with w = b2 / ((1 + b2)^t - 1).

    Args:
        learning_rate: number or schedule.
        beta_1: decay of the mean, in [0, 1).
        beta_2: growth of the mean square, > 0.
        epsilon: added to the root, > 0.
        weight_decay: decoupled decay; None for none.
        exclude_from_weight_decay: regular expressions of paths that do not decay.
        options: see `Optimizer`.

    Raises:
        ConfigError: an argument that cannot be.

    Source: Li et al. 2020, arXiv 2004.09740.

    Example:
        >>> model.compile(AdaX(1e-3), "sparse_categorical_crossentropy")
    """

    def __init__(
        self,
        learning_rate: LearningRate = 1e-3,
        beta_1: float = 0.9,
        beta_2: float = 1e-4,
        epsilon: float = 1e-8,
        weight_decay: float | None = None,
        exclude_from_weight_decay: Iterable[str] = (),
        **options: object,
    ) -> None:
        super().__init__(learning_rate, weight_decay, exclude_from_weight_decay, **options)
        self.beta_1 = checked("AdaX", "beta_1", beta_1, below=1.0)
        self.beta_2 = checked("AdaX", "beta_2", beta_2, least=1e-12)
        self.epsilon = checked("AdaX", "epsilon", epsilon, least=1e-30)

    def build(self, variables: Sequence[keras.Variable]) -> None:
        """Make the two means for each variable."""
        if self.built:
            return
        super().build(variables)
        self._means = self.add_slots(variables, "momentum")
        self._squares = self.add_slots(variables, "velocity")

    def scalars(self) -> dict[str, Tensor]:
        """The share w of the newest squared gradient."""
        return {"share": self.beta_2 / ops.expm1(self.step_number() * math.log1p(self.beta_2))}

    def direction(self, gradient: Tensor, value: Tensor, index: int) -> Tensor:
        """The quotient of the two means."""
        mean = backend.assign_lerp(self._means[index], gradient, 1 - self.beta_1)
        square = backend.assign_lerp(self._squares[index], ops.square(gradient), self.scalar("share", index))
        return mean / (ops.sqrt(square) + self.epsilon)

    def get_config(self) -> Config:
        """The constructor's arguments."""
        return super().get_config() | {"beta_1": self.beta_1, "beta_2": self.beta_2, "epsilon": self.epsilon}
