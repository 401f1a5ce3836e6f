"""Factors on the gradients of some weights."""

import math
from collections.abc import Mapping

import keras
from keras import ops

from qingformer.errors import ConfigError
from qingformer.objectives.objective import Aux, Batch, Objective, State, Transform, TransformedObjective
from qingformer.objectives.selection import select_each
from qingformer.types import Config, Tensor


@keras.saving.register_keras_serializable("qingformer")
class ScaleGradients(Transform):
    """Multiply the gradients of the weights whose path contains a pattern by its factor.

        g_i <- (product of the factors whose pattern is found in the path of weight i) * g_i

    With plain SGD a factor is a learning rate of its own: 0.1 for the encoder, 10 for the head. **Under Adam and all
    optimizers that divide by the size of the gradient a constant factor cancels** (but for epsilon, and clipping by a
    norm over all weights); there the rate has to be scaled in the optimizer. A negative factor climbs.

    The same by reparameterisation: training phi in theta = lambda * phi moves theta by lambda^2 times the rate under
    SGD, so `{pattern: lambda**2}` here gives the same path; under Adam it moves theta by lambda times the rate, which
    no factor on a gradient can do.

    Args:
        factors: regular expression (`re.search` in `variable.path`) -> finite factor.

    Raises:
        ConfigError: no patterns, a factor that is not finite; in `compile`, a pattern that finds no weight.

    Source: layer-wise rates and their reparameterisation: 科学空间, archives/6418 and archives/7196.

    Example:
        >>> model.compile(keras.optimizers.SGD(0.1), loss, transforms=[ScaleGradients({"embedding": 0.1})])
    """

    def __init__(self, factors: Mapping[str, float]) -> None:
        if not factors or not all(math.isfinite(factor) for factor in factors.values()):
            raise ConfigError(f"ScaleGradients: factors are {dict(factors)}; expected patterns with finite factors")
        self.factors = {pattern: float(factor) for pattern, factor in factors.items()}

    def __call__(self, objective: Objective) -> Objective:
        """The same value with scaled gradients."""
        return _Scaled(objective, self.factors)

    def get_config(self) -> Config:
        """The constructor's arguments."""
        return {"factors": dict(self.factors)}


class _Scaled(TransformedObjective):
    def __init__(self, objective: Objective, factors: dict[str, float]) -> None:
        super().__init__(objective)
        found = select_each(objective.model.trainable_variables, factors, "ScaleGradients")
        self.factors = [1.0] * len(objective.model.trainable_variables)
        for pattern, indices in found.items():
            for index in indices:
                self.factors[index] *= factors[pattern]

    def value_and_grad(
        self, trainable: list[Tensor], state: State, batch: Batch
    ) -> tuple[tuple[Tensor, Aux], list[Tensor]]:
        result, gradients = self.objective.value_and_grad(trainable, state, batch)
        return result, [
            g if factor == 1.0 else g * ops.cast(factor, g.dtype) for g, factor in zip(gradients, self.factors)
        ]
