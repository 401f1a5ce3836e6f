"""LAMB: Adam whose step is as long as the weights it changes."""

from collections.abc import Iterable, Sequence

import keras
from keras import ops

from qingformer.optimizers.adam import Adam
from qingformer.optimizers.optimizer import norm
from qingformer.optimizers.patterns import ELEMENTWISE, checked_patterns
from qingformer.types import Config, LearningRate, Tensor


@keras.saving.register_keras_serializable("qingformer")
class LAMB(Adam):
    """Adam with decay, whose step is scaled by the ratio of two norms, variable by variable.

        d = m' / (sqrt(v') + epsilon) + weight_decay * theta
        theta -= lr * ratio * d,   ratio = |theta| / |d|, or 1 where one of the norms is 0

    m' and v' are Adam's. What is excluded from the adaptation gets Adam's step; the decay counts in the ratio.

    Published settings: rate 1.76e-3, decay 0.01 for batches of thousands. RoFormerV2 and GAU-alpha were pre-trained so
    without bias correction, with batches of 512 and the multipliers {0: 1, 40000: 0.5, 160000: 0.1, 320000: 0.01} by
    updates; BERT by bert4keras' script with batches of 4096 and {3125: 1, 125000: 0}.

    Args:
        learning_rate: number or schedule.
        beta_1: decay of the mean, in [0, 1).
        beta_2: decay of the mean square, in [0, 1).
        epsilon: added to the root, > 0.
        bias_correction: see `Adam`.
        weight_decay: decay, inside the ratio.
        exclude_from_weight_decay: regular expressions of paths that do not decay.
        exclude_from_layer_adaptation: regular expressions of paths whose ratio is 1.
        options: see `Optimizer`.

    Raises:
        ConfigError: an argument that cannot be.

    Source: You et al. 2019, arXiv 1904.00962; 科学空间 archives/7094.

    Example:
        >>> model.compile(LAMB(PiecewiseLinear(1.76e-3, {3125: 1.0, 125000: 0.0})))
    """

    def __init__(
        self,
        learning_rate: LearningRate = 1.76e-3,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-6,
        bias_correction: bool = True,
        weight_decay: float | None = 0.01,
        exclude_from_weight_decay: Iterable[str] = ELEMENTWISE,
        exclude_from_layer_adaptation: Iterable[str] = ELEMENTWISE,
        **options: object,
    ) -> None:
        super().__init__(
            learning_rate, beta_1, beta_2, epsilon, bias_correction, weight_decay, exclude_from_weight_decay, **options
        )
        self._unadapted = checked_patterns("LAMB", "exclude_from_layer_adaptation", exclude_from_layer_adaptation)

    def build(self, variables: Sequence[keras.Variable]) -> None:
        """Make the two means for each variable."""
        if self.built:
            return
        super().build(variables)
        kept = self.matching("exclude_from_layer_adaptation", self._unadapted, variables)
        self._adapted = [not k for k in kept]

    def change(self, gradient: Tensor, value: Tensor, index: int) -> Tensor:
        """Adam's step and the decay, times the ratio."""
        change = super().change(gradient, value, index)
        if not self._adapted[index]:
            return change
        size, length = norm(value), norm(change)
        usual = ops.logical_and(size > 0, length > 0)
        return ops.where(usual, size / ops.where(usual, length, 1.0), 1.0) * change

    def get_config(self) -> Config:
        """The constructor's arguments."""
        return super().get_config() | {"exclude_from_layer_adaptation": list(self._unadapted)}
