"""Lion: the sign of a momentum, found by a search over programs."""

from collections.abc import Iterable, Sequence

import keras
from keras import ops

from qingformer import backend
from qingformer.optimizers.optimizer import Optimizer, checked
from qingformer.types import Config, LearningRate, Tensor


@keras.saving.register_keras_serializable("qingformer")
class Lion(Optimizer):
    """Every element moves by the learning rate, in the direction of the sign of an average of momentum and gradient.

        theta -= lr * (sign(b1 m + (1 - b1) g) + weight_decay * theta),   then m = b2 m + (1 - b2) g

    Same formula as `keras.optimizers.Lion`; differs in the defaults (those for language), and in what all optimizers
    here share: float32 state, and decay patterns that are saved. Rates are a third to a tenth of Adam's, decay as many
    times larger.

    Args:
        learning_rate: number or schedule.
        beta_1: share of the momentum in the sign, in [0, 1).
        beta_2: decay of the momentum, in [0, 1).
        weight_decay: decoupled decay; None for none.
        exclude_from_weight_decay: regular expressions of paths that do not decay.
        options: see `Optimizer`.

    Raises:
        ConfigError: an argument that cannot be.

    Source: Chen et al. 2023, arXiv 2302.06675; 科学空间 archives/9473.

    Example:
        >>> model.compile(Lion(1e-5, weight_decay=0.1), "sparse_categorical_crossentropy")
    """

    def __init__(
        self,
        learning_rate: LearningRate = 3e-4,
        beta_1: float = 0.95,
        beta_2: float = 0.98,
        weight_decay: float | None = None,
        exclude_from_weight_decay: Iterable[str] = (),
        **options: object,
    ) -> None:
        super().__init__(learning_rate, weight_decay, exclude_from_weight_decay, **options)
        self.beta_1 = checked("Lion", "beta_1", beta_1, below=1.0)
        self.beta_2 = checked("Lion", "beta_2", beta_2, below=1.0)

    def build(self, variables: Sequence[keras.Variable]) -> None:
        """Make the momentum of each variable."""
        if self.built:
            return
        super().build(variables)
        self._momenta = self.add_slots(variables, "momentum")

    def direction(self, gradient: Tensor, value: Tensor, index: int) -> Tensor:
        """The sign."""
        slot = self._momenta[index]
        direction = ops.sign(backend.lerp(ops.convert_to_tensor(slot), gradient, 1 - self.beta_1))
        backend.assign_lerp(slot, gradient, 1 - self.beta_2)
        return direction

    def get_config(self) -> Config:
        """The constructor's arguments."""
        return super().get_config() | {"beta_1": self.beta_1, "beta_2": self.beta_2}
