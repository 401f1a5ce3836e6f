"""Adam, with the choices that published training runs made differently."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import keras
from keras import ops

from qingformer.optimizers.optimizer import Array, Optimizer, checked


@keras.saving.register_keras_serializable("qingformer")
class Adam(Optimizer):
    """Step along the mean gradient, divided by the root of the mean squared gradient.

        m = b1 m + (1 - b1) g,    v = b2 v + (1 - b2) g^2
        theta -= lr * (m' / (sqrt(v') + epsilon) + weight_decay * theta)
        m' = m / (1 - b1^t), v' = v / (1 - b2^t);    without bias correction m' = m, v' = v

    t counts updates from 1. Epsilon stands beside the corrected root, as in the paper's algorithm and on torch; Keras'
    own Adam puts it beside the uncorrected one, which is a larger epsilon in the first steps.

    Args:
        learning_rate: number or schedule.
        beta_1: decay of the mean, in [0, 1).
        beta_2: decay of the mean square, in [0, 1).
        epsilon: added to the root, > 0.
        bias_correction: whether the first steps make up for means that start at 0. Without it the first step is
            (1 - b1) / sqrt(1 - b2) times as long, 3.2 times by default.
        weight_decay: decoupled decay; None for none.
        exclude_from_weight_decay: regular expressions of paths that do not decay.
        options: see `Optimizer`.

    Raises:
        ConfigError: an argument that cannot be.

    Source: Kingma, Ba 2014, arXiv 1412.6980; the switch for the bias correction is that of BERT's own optimizer
    (Devlin et al. 2018, arXiv 1810.04805) and of bert4keras.

    Example:
        >>> model.compile(Adam(2e-5, bias_correction=False), "sparse_categorical_crossentropy")
    """

    def __init__(
        self,
        learning_rate: Any = 1e-3,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-6,
        bias_correction: bool = True,
        weight_decay: float | None = None,
        exclude_from_weight_decay: Iterable[str] = (),
        **options: Any,
    ) -> None:
        super().__init__(learning_rate, weight_decay, exclude_from_weight_decay, **options)
        owner = type(self).__name__
        self.beta_1 = checked(owner, "beta_1", beta_1, below=1.0)
        self.beta_2 = checked(owner, "beta_2", beta_2, below=1.0)
        self.epsilon = checked(owner, "epsilon", epsilon, least=1e-30)
        self.bias_correction = bias_correction

    def build(self, variables: Sequence[keras.Variable]) -> None:
        """Make the two means for each variable."""
        if self.built:
            return
        super().build(variables)
        self._means = self.add_slots(variables, "momentum")
        self._squares = self.add_slots(variables, "velocity")

    def scalars(self) -> dict[str, Array]:
        """What the bias correction multiplies the quotient and epsilon with."""
        if not self.bias_correction:
            return {}
        root = ops.sqrt(one_minus_power(self.beta_2, self.step_number()))
        return {"factor": root / one_minus_power(self.beta_1, self.step_number()), "epsilon": self.epsilon * root}

    def direction(self, gradient: Array, value: Array, index: int) -> Array:
        """The quotient of the two means."""
        mean, square = self.next_means(gradient, index)
        self.assign(self._means[index], mean)
        self.assign(self._squares[index], square)
        if not self.bias_correction:
            return mean / (ops.sqrt(square) + self.epsilon)
        return self.scalar("factor", index) * mean / (ops.sqrt(square) + self.scalar("epsilon", index))

    def next_means(self, gradient: Array, index: int) -> tuple[Array, Array]:
        """The two means after they moved towards the gradient and its square."""
        mean = moved(self._means[index], gradient, 1 - self.beta_1)
        return mean, moved(self._squares[index], ops.square(gradient), 1 - self.beta_2)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return super().get_config() | {
            "beta_1": self.beta_1,
            "beta_2": self.beta_2,
            "epsilon": self.epsilon,
            "bias_correction": self.bias_correction,
        }


def moved(slot: Any, target: Array, share: float | Array) -> Array:
    """The value of `slot`, moved by a share of the way to `target`."""
    value = ops.convert_to_tensor(slot)
    return value + share * (target - value)


def one_minus_power(base: float, exponent: Array) -> Array:
    """1 - base^exponent for a base in [0, 1), exact to float32 where the power is close to 1."""
    return -ops.expm1(exponent * (math.log(base) if base else -math.inf))
