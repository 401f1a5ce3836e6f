"""Adam, with the choices that published training runs made differently."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import keras
from keras import ops

from qingformer import backend
from qingformer.optimizers.optimizer import Optimizer, checked
from qingformer.types import Config, LearningRate, Options, Tensor


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
        learning_rate: LearningRate = 1e-3,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-6,
        bias_correction: bool = True,
        weight_decay: float | None = None,
        exclude_from_weight_decay: Iterable[str] = (),
        **options: object,
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

    def scalars(self) -> dict[str, Tensor]:
        """What the bias correction multiplies the quotient and epsilon with."""
        if not self.bias_correction:
            return {}
        # Both corrections as one factor and one epsilon: m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + e), a pass less.
        root = ops.sqrt(one_minus_power(self.beta_2, self.step_number()))
        return {"factor": root / one_minus_power(self.beta_1, self.step_number()), "epsilon": self.epsilon * root}

    def direction(self, gradient: Tensor, value: Tensor, index: int) -> Tensor:
        """The quotient of the two means."""
        towards, towards_square = self.targets(gradient, index)
        mean = backend.assign_lerp(self._means[index], towards, 1 - self.beta_1)
        square = backend.assign_lerp(self._squares[index], towards_square, 1 - self.beta_2)
        if not self.bias_correction:
            return mean / (ops.sqrt(square) + self.epsilon)
        return self.scalar("factor", index) * mean / (ops.sqrt(square) + self.scalar("epsilon", index))

    def targets(self, gradient: Tensor, index: int) -> tuple[Tensor, Tensor]:
        """What the two means move towards."""
        return gradient, ops.square(gradient)

    def _backend_update_step(self, grads: Any, trainable_variables: Any, learning_rate: LearningRate) -> None:
        # The kernel computes plain Adam: a subclass that changes any of these must not be handed to it.
        mine = ("update_step", "change", "direction", "targets")
        if backend.in_place() and all(getattr(type(self), name) is getattr(Adam, name) for name in mine):
            grads, trainable_variables = self._fused(list(grads), list(trainable_variables), learning_rate)
        super()._backend_update_step(grads, trainable_variables, learning_rate)

    def _fused(
        self, gradients: list[Any], variables: list[Any], learning_rate: LearningRate
    ) -> tuple[list[Any], list[Any]]:
        """Let torch's kernel update what it can; returns the gradients and variables that are left."""
        left: list[tuple[Any, Any]] = []
        step = self.step_number() if self.bias_correction else None
        settings: Options = {"beta1": self.beta_1, "beta2": self.beta_2, "eps": self.epsilon}
        rate = ops.convert_to_tensor(learning_rate)
        indices = [self._get_variable_index(v) for v in variables]
        # Two calls, as the kernel takes one rate of decay for all its variables.
        for decays in (False, True):
            some = [k for k, index in enumerate(indices) if self._decays[index] is decays]
            chosen = [[items[k] for k in some] for items in (variables, gradients)]
            slots = [[items[indices[k]] for k in some] for items in (self._means, self._squares)]
            decay = self.weight_decay if decays else 0.0
            done = backend.fused_adam(
                chosen[0], chosen[1], slots[0], slots[1], step, lr=rate, weight_decay=decay, **settings
            )
            left += [(gradients[k], variables[k]) for k, is_done in zip(some, done) if not is_done]
        return [gradient for gradient, _ in left], [variable for _, variable in left]

    def get_config(self) -> Config:
        """The constructor's arguments."""
        return super().get_config() | {
            "beta_1": self.beta_1,
            "beta_2": self.beta_2,
            "epsilon": self.epsilon,
            "bias_correction": self.bias_correction,
        }


def one_minus_power(base: float, exponent: Tensor) -> Tensor:
    """1 - base^exponent for a base in [0, 1), exact to float32 where the power is close to 1."""
    # 1 - 0.999^t has lost half of its digits in float32 when t is small; expm1 keeps them.
    return -ops.expm1(exponent * (math.log(base) if base else -math.inf))
