"""Learning rates that differ from variable to variable."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from math import prod
from typing import Any

import keras

from qingformer import backend
from qingformer.errors import ConfigError
from qingformer.optimizers.patterns import check_all_match, checked_patterns, matches
from qingformer.optimizers.wrapper import Change, UpdateWrapper
from qingformer.types import Config, Tensor

# Keras' optimizers whose step is the learning rate times something, and which may be asked once per factor.
_LINEAR = ("SGD", "RMSprop", "Adam", "Adamax", "Adagrad", "Adadelta", "Lion")


@keras.saving.register_keras_serializable("qingformer")
class LayerwiseLearningRate(UpdateWrapper):
    """Multiply the learning rate of the variables whose path matches a pattern.

        theta <- theta + f * (step of the inner optimizer),   f = product of the factors of all patterns that match

    So a new layer (CRF transitions, a classifier) learns faster than the pretrained weights beneath it. `layer_decay`
    makes the factors of a rate that falls from the top layer to the embeddings.

    Inside of Keras' SGD, Adam, AdamW, Lion and the like the rate itself is multiplied, once per factor, without a copy
    of the weights and without the rounding of a difference; the same holds for optimizers whose class says
    `linear_in_learning_rate = True`. Around all others (wrappers too) the difference of old and new is multiplied.

    Decay is part of the step and multiplied with it, both the decay that is built into the inner optimizer and a
    `WeightDecay` inside. With `scale_decay=False` the built-in one keeps the common rate; a `WeightDecay` around this
    wrapper always does.

    Source: 科学空间, archives/7196 (a CRF needs a larger rate); archives/6418.

    Args:
        optimizer: the optimizer to wrap.
        factors: regular expression, searched in the path, to factor (finite, 0 or more).
        scale_decay: whether decay that is built into the inner optimizer is multiplied too.
        name: of the wrapper.

    Raises:
        ConfigError: a factor or pattern that cannot be; `scale_decay=False` where decay cannot be told apart; in
            `build`, a pattern that matches no variable.

    Example:
        >>> model.compile(LayerwiseLearningRate(keras.optimizers.Adam(2e-5), {"crf": 100}))
    """

    def __init__(
        self,
        optimizer: keras.optimizers.Optimizer,
        factors: Mapping[str, float],
        scale_decay: bool = True,
        name: str | None = None,
    ) -> None:
        super().__init__(optimizer, name)
        if not isinstance(factors, Mapping) or not factors:
            raise ConfigError(f"LayerwiseLearningRate: factors are {factors!r}; give {{pattern: factor}}")
        checked_patterns("LayerwiseLearningRate", "factors", list(factors))
        for pattern, factor in factors.items():
            if not 0 <= float(factor) < float("inf"):
                raise ConfigError(f"LayerwiseLearningRate: factor of {pattern!r} is {factor}; it must be 0 or more")
        self.factors = {pattern: float(factor) for pattern, factor in factors.items()}
        self.scale_decay = scale_decay
        # Where the step is the rate times something, scaling the rate is exact and costs nothing; else the change is
        # scaled.
        self._direct = _is_linear(optimizer)
        if not scale_decay and (not self._direct or getattr(type(optimizer), "decays_in_step", False)):
            raise ConfigError(
                f"LayerwiseLearningRate: in {type(optimizer).__name__} decay cannot be told apart from the rest of the "
                "step; leave scale_decay on, and put WeightDecay(...) around this wrapper"
            )

    def build_state(self, variables: list[keras.Variable]) -> None:
        """Find out which variable has which factor."""
        check_all_match(self.factors, variables, "LayerwiseLearningRate")
        self._factor_of = [prod(f for pattern, f in self.factors.items() if matches([pattern], v)) for v in variables]

    def factor_of(self, variable: keras.Variable) -> float:
        """The factor of one of the variables that the optimizer was built with."""
        factor: float = self._factor_of[self._get_variable_index(variable)]
        return factor

    def concerns(self, index: int) -> bool:
        """Only where the difference is multiplied afterwards."""
        return not self._direct and self._factor_of[index] != 1

    def change(self, change: Change) -> Tensor:
        """Multiply the difference."""
        return change.old + self._factor_of[change.position] * (change.new - change.old)

    def update_inner(self, gradients: list[Tensor], variables: list[keras.Variable]) -> None:
        """The inner step, with its parts asked once per factor where that is possible."""
        if not self._direct:
            super().update_inner(gradients, variables)
            return
        with self._rates_multiplied():
            super().update_inner(gradients, variables)

    @contextmanager
    def _rates_multiplied(self) -> Iterator[None]:
        """Within, two methods of the inner optimizer are replaced by loops over the factors."""
        inner = self.inner_optimizer
        update_step, apply_decay = inner._backend_update_step, inner._apply_weight_decay

        def by_factor(variables: list[keras.Variable]) -> dict[float, list[int]]:
            groups: dict[float, list[int]] = {}
            for position, variable in enumerate(variables):
                groups.setdefault(self.factor_of(variable), []).append(position)
            return groups

        def update_steps(gradients: list[Tensor], variables: list[keras.Variable], learning_rate: Any) -> None:
            # One call for each factor, since one rate holds for a whole call.
            for factor, indices in by_factor(variables).items():
                rate = learning_rate if factor == 1 else learning_rate * factor
                update_step([gradients[i] for i in indices], [variables[i] for i in indices], rate)

        def apply_decays(variables: list[keras.Variable]) -> None:
            decay = inner.weight_decay
            try:
                for factor, indices in by_factor(variables).items():
                    inner.weight_decay = decay if decay is None else decay * factor
                    _decay([variables[i] for i in indices], inner, apply_decay)
            finally:
                inner.weight_decay = decay

        inner._backend_update_step = update_steps
        if self.scale_decay:
            inner._apply_weight_decay = apply_decays
        try:
            yield
        finally:
            del inner._backend_update_step
            if self.scale_decay:
                del inner._apply_weight_decay

    def get_config(self) -> Config:
        """The constructor's arguments."""
        return super().get_config() | {"factors": self.factors, "scale_decay": self.scale_decay}


def _is_linear(optimizer: keras.optimizers.Optimizer) -> bool:
    if getattr(type(optimizer), "linear_in_learning_rate", False):
        return True
    kinds = tuple(getattr(keras.optimizers, name) for name in _LINEAR)
    # A subclass may do something else with the rate than the class it comes from.
    return isinstance(optimizer, kinds) and type(optimizer).update_step.__module__.startswith("keras.")


def _decay(variables: list[keras.Variable], inner: keras.optimizers.Optimizer, apply_decay: Any) -> None:
    if backend.name() == "torch":  # its fused decay refuses an empty list
        variables = [v for v in variables if inner._use_weight_decay(v)]
    if variables:
        apply_decay(variables)
