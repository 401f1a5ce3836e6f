"""What our optimizers share: float32 state, decay that spares chosen variables, one pass over a variable."""

from collections.abc import Iterable, Sequence
from numbers import Real
from typing import Any

import keras
from keras import ops

from qingformer import backend
from qingformer.errors import ConfigError
from qingformer.optimizers.patterns import checked_patterns, matching
from qingformer.types import Config, LearningRate, Tensor


class Optimizer(keras.optimizers.Optimizer):
    """An optimizer that says in which direction to go; the rest is here.

        theta <- theta - lr * (direction + weight_decay * theta)

    A subclass makes its state in `build` with `add_slots` and gives `direction`; one that scales the whole step
    overrides `change`. Everything that depends on a variable's name is decided in `build` and kept by index: on
    TensorFlow the update gets a bare variable without a path.

    Whatever the dtype of a variable, its state is float32 (or wider) and the step is computed so; only the result is
    rounded to the variable's dtype. A bfloat16 weight cannot take a step below 1/256 of its size: keep weights in
    float32 (`mixed_bfloat16`) where small steps matter. Gradients that are sparse are made dense.

    Differs from Keras' own optimizers in that the decay reads the weights before the step, as the papers have it, and
    that what is spared from decay is part of the configuration and so of a saved model.

    Args:
        learning_rate: number, schedule, or function without arguments.
        weight_decay: decay per step, times the learning rate; None or 0 for none.
        exclude_from_weight_decay: regular expressions; a variable in whose path one is found does not decay.
        options: those of `keras.optimizers.Optimizer` (`clipnorm`, `global_clipnorm`, `clipvalue`,
            `gradient_accumulation_steps`, `use_ema`, `loss_scale_factor`, `name`, ...).

    Raises:
        ConfigError: a number that cannot be, or a pattern that is none.
    """

    # For `LayerwiseLearningRate`: a step is the rate times something, and the decay is a part of it.
    linear_in_learning_rate = True
    decays_in_step = True

    def __init__(
        self,
        learning_rate: LearningRate,
        weight_decay: float | None = None,
        exclude_from_weight_decay: Iterable[str] = (),
        **options: object,
    ) -> None:
        owner = type(self).__name__
        if isinstance(learning_rate, Real):
            learning_rate = checked(owner, "learning_rate", learning_rate)
        if weight_decay is not None:
            weight_decay = checked(owner, "weight_decay", weight_decay)
        super().__init__(learning_rate, weight_decay=weight_decay, **options)
        # Keras has a method of the name of the argument.
        self._undecayed = checked_patterns(owner, "exclude_from_weight_decay", exclude_from_weight_decay)
        self._step_scalars: dict[str, Tensor] | None = None

    # --- what a subclass defines --------------------------------------------------------------------------------------

    def direction(self, gradient: Tensor, value: Tensor, index: int) -> Tensor:
        """Where to go from `value`, before decay and learning rate; may update the state of variable `index`.

        All of them have the shape of the variable and the dtype of the state.
        """
        raise TypeError(f"{type(self).__name__} does not define its direction")

    def change(self, gradient: Tensor, value: Tensor, index: int) -> Tensor:
        """What is subtracted from `value` at a learning rate of 1."""
        direction = self.direction(gradient, value, index)
        return direction + self.weight_decay * value if self._decays[index] else direction

    def scalars(self) -> dict[str, Tensor]:
        """Numbers that are the same for all variables in a step, by name; read them with `scalar`."""
        return {}

    # --- building -----------------------------------------------------------------------------------------------------

    def build(self, variables: Sequence[keras.Variable]) -> None:
        """Make the state for `variables` (Keras calls this once)."""
        super().build(variables)
        self._state_dtypes = [keras.backend.result_type(v.dtype, "float32") for v in variables]
        spared = self.matching("exclude_from_weight_decay", self._undecayed, variables)
        self._decays = [bool(self.weight_decay) and not keep for keep in spared]

    def matching(self, argument: str, patterns: Sequence[str], variables: Sequence[keras.Variable]) -> list[bool]:
        """For each variable whether one of the patterns is found in its path."""
        return matching(type(self).__name__, argument, patterns, variables)

    def add_slots(self, variables: Sequence[keras.Variable], name: str) -> list[keras.Variable | None]:
        """State of the shape of each variable (None for those that are overwritten by their gradient)."""
        return [self._add_slot(variable, name) for variable in variables]

    def add_small_slot(self, variable: keras.Variable, name: str, shape: Sequence[int]) -> keras.Variable:
        """State of another shape than its variable's."""
        dtype = keras.backend.result_type(variable.dtype, "float32")
        return self.add_variable(tuple(shape), dtype=dtype, name=f"{variable.path.replace('/', '_')}_{name}")

    def _add_slot(self, variable: keras.Variable, name: str) -> keras.Variable | None:
        if self._overwrite_variable_with_gradient(variable):
            return None
        dtype = keras.backend.result_type(variable.dtype, "float32")
        if dtype == variable.dtype:
            return self.add_variable_from_reference(variable, name)
        path = variable.path.replace("/", "_")
        return self.add_variable(
            variable.shape, dtype=dtype, name=f"{path}_{name}", layout=getattr(variable, "_layout", None)
        )

    # --- one step -----------------------------------------------------------------------------------------------------

    def apply(self, grads: Sequence[Tensor], trainable_variables: Sequence[keras.Variable] | None = None) -> None:
        """Update the variables; see `keras.optimizers.Optimizer.apply`."""
        # Embedding gradients of TensorFlow hold single rows; norms and squares need them added up.
        super().apply([g if g is None else backend.dense(g) for g in grads], trainable_variables)

    def update_step(self, gradient: Tensor, variable: Any, learning_rate: Tensor) -> None:
        """Update one variable and its state."""
        index = self._get_variable_index(variable)
        dtype = self._state_dtypes[index]
        value = ops.cast(ops.convert_to_tensor(variable), dtype)
        change = self.change(ops.cast(gradient, dtype), value, index)
        rate = ops.cast(learning_rate, dtype)
        if backend.in_place() and variable.dtype == dtype:
            backend.assign_sub_product(variable, change, rate)
        else:
            self.assign(variable, value - rate * change)

    def scalar(self, name: str, index: int) -> Tensor:
        """One of `scalars`, in the dtype of the state of variable `index`."""
        known = self.scalars() if self._step_scalars is None else self._step_scalars
        return ops.cast(known[name], self._state_dtypes[index])

    def step_number(self) -> Tensor:
        """The number of this step, from 1, float32; with gradient accumulation it counts updates, not batches."""
        return ops.cast(self.iterations, "float32") + 1.0

    def _backend_update_step(self, grads: object, trainable_variables: object, learning_rate: LearningRate) -> None:
        # Compilers see that the scalars of all variables are the same; torch would compute them for each.
        if backend.name() == "torch":
            with backend.without_gradients():
                self._step_scalars = self.scalars()
                super()._backend_update_step(grads, trainable_variables, learning_rate)
                self._step_scalars = None
        else:
            super()._backend_update_step(grads, trainable_variables, learning_rate)

    def _apply_weight_decay(self, variables: object) -> None:
        """Nothing: the decay is part of `change`."""

    # --- configuration ------------------------------------------------------------------------------------------------

    def exclude_from_weight_decay(self, var_list: object = None, var_names: Iterable[str] | None = None) -> None:
        """Keras' way to spare variables; the patterns become part of the configuration.

        Raises:
            ConfigError: called after `build`, or with variables instead of patterns.
        """
        owner = type(self).__name__
        if self.built or var_list:
            raise ConfigError(f"{owner}: pass exclude_from_weight_decay=[patterns] when you make the optimizer")
        self._undecayed += checked_patterns(owner, "exclude_from_weight_decay", var_names or ())

    def get_config(self) -> Config:
        """The constructor's arguments."""
        return super().get_config() | {"exclude_from_weight_decay": list(self._undecayed)}


def checked(owner: str, argument: str, value: object, least: float = 0.0, below: float = float("inf")) -> float:
    """`value` as a float.

    Raises:
        ConfigError: it is not a number in [least, below).
    """
    number = float(value) if isinstance(value, Real) and not isinstance(value, bool) else float("nan")
    if not least <= number < below:
        raise ConfigError(f"{owner}: {argument} is {value!r}; expected a number >= {least:g} and < {below:g}")
    return number


def norm(x: Tensor) -> Tensor:
    """Euclidean length of all elements, a scalar. (On torch one pass; the root of a sum would write the squares out.)

    Example:
        >>> float(norm(ops.full((2, 2), 3.0)))
        6.0
    """
    return ops.norm(ops.reshape(x, (-1,)))
