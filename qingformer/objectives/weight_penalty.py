"""Penalties on the weights alone, added to the objective with their gradient."""

import re

import keras
from keras import ops

from qingformer import backend
from qingformer.errors import ConfigError
from qingformer.objectives.objective import Aux, Batch, Objective, State, Transform, TransformedObjective
from qingformer.objectives.transform_arguments import not_negative
from qingformer.types import Config, Tensor

KERNELS = r"(^|/)kernel$"


class WeightPenalty(Transform):
    """An objective plus a function of some weights; a subclass defines `penalty`.

    The gradient of the penalty is added to the gradient underneath, so whatever a transform underneath makes of its
    own gradient stays. Args: `pattern`, a regular expression searched in the paths of the trainable variables.

    Raises:
        ConfigError: a pattern that is none; in `compile`, one that fits no trainable variable.
    """

    def __init__(self, pattern: str = KERNELS) -> None:
        try:
            re.compile(pattern)
        except (re.error, TypeError) as error:
            raise ConfigError(
                f"{type(self).__name__}: pattern {pattern!r} is not a regular expression: {error}"
            ) from None
        self.pattern = pattern

    def penalty(self, weight: Tensor) -> Tensor:
        """The penalty of one weight, in float32: a scalar."""
        raise TypeError(f"{type(self).__name__} does not define its penalty")

    def __call__(self, objective: Objective) -> Objective:
        """The penalised objective."""
        return _Penalised(objective, self)

    def get_config(self) -> Config:
        """The constructor's arguments."""
        return {"pattern": self.pattern}


@keras.saving.register_keras_serializable("qingformer")
class L2Regularization(WeightPenalty):
    """Add strength * sum_l ||W_l||_F^2 over the kernels.

    The factor is that of `keras.regularizers.L2`. Under an adaptive optimizer this acts like a decay by the sign of
    the weight; `qingformer.optimizers.adamw` decays decoupled from the gradient. Biases and norms are spared.

    Args:
        strength: factor, >= 0.
        pattern: regular expression searched in the paths of the variables; by default what is called kernel.

    Source: 科学空间, archives/7681, which compares it with `ScaleShiftInvariance`.

    Example:
        >>> model.compile("adam", "sparse_categorical_crossentropy", transforms=[L2Regularization(1e-4)])
    """

    def __init__(self, strength: float = 1e-4, pattern: str = KERNELS) -> None:
        super().__init__(pattern)
        self.strength = not_negative("L2Regularization", "strength", strength)

    def penalty(self, weight: Tensor) -> Tensor:
        """strength * ||W||_F^2."""
        return self.strength * ops.sum(weight**2)

    def get_config(self) -> Config:
        """The constructor's arguments."""
        return {"strength": self.strength, **super().get_config()}


class _Penalised(TransformedObjective):
    def __init__(self, objective: Objective, settings: WeightPenalty) -> None:
        super().__init__(objective)
        self.settings = settings
        paths = [variable.path for variable in self.model.trainable_variables]
        self.places = [place for place, path in enumerate(paths) if re.search(settings.pattern, path)]
        if not self.places:
            raise ConfigError(
                f"{type(settings).__name__}: pattern {settings.pattern!r} fits no trainable variable; "
                f"there are: {', '.join(paths)}"
            )

    def __call__(self, trainable: list[Tensor], state: State, batch: Batch) -> tuple[Tensor, Aux]:
        loss, aux = self.objective(trainable, state, batch)
        return self._add(loss, aux, self._penalty([trainable[place] for place in self.places]), state)

    def value_and_grad(
        self, trainable: list[Tensor], state: State, batch: Batch
    ) -> tuple[tuple[Tensor, Aux], list[Tensor]]:
        (loss, aux), gradients = self.objective.value_and_grad(trainable, state, batch)
        penalty, slopes = backend.value_and_grad(self._penalty)([trainable[place] for place in self.places])
        gradients = list(gradients)
        for place, slope in zip(self.places, slopes):
            slope = ops.cast(slope, "float32") * ops.cast(state.scale, "float32")
            gradients[place] = gradients[place] + ops.cast(slope, gradients[place].dtype)
        return self._add(loss, aux, penalty, state), gradients

    def _penalty(self, weights: list[Tensor]) -> Tensor:
        return sum(self.settings.penalty(ops.cast(weight, "float32")) for weight in weights)

    def _add(self, loss: Tensor, aux: Aux, penalty: Tensor, state: State) -> tuple[Tensor, Aux]:
        scaled = ops.cast(penalty * ops.cast(state.scale, "float32"), loss.dtype)
        return loss + scaled, aux._replace(loss=aux.loss + ops.cast(penalty, aux.loss.dtype))
