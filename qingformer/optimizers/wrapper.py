"""An optimizer around another one: what all wrappers share."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import keras
from keras import ops

from qingformer import backend
from qingformer.backend.keras_internals import in_stateless_scope, result_type
from qingformer.errors import ConfigError
from qingformer.types import Config, Tensor


class Wrapper(keras.optimizers.Optimizer):
    """Base of optimizers that change what another optimizer, `inner_optimizer`, does; by itself it changes nothing.

    The inner one may be any Keras optimizer, also a wrapper or a `LossScaleOptimizer`, and a wrapper may stand inside
    of those. Learning rate, count of steps and loss scaling are the inner one's; `variables` are the wrapper's own
    and then the inner ones. Subclasses override `update`.

    Args:
        optimizer: the optimizer to wrap.
        name: of the wrapper.

    Raises:
        ConfigError: `optimizer` is no optimizer.

    Example:
        >>> optimizer = Wrapper(keras.optimizers.Adam(1e-3))
        >>> optimizer.learning_rate = 1e-4  # sets the rate of Adam
    """

    # Set where a call does not always end in an update, so that wrappers outside look whether there was one.
    may_skip = False

    def __init__(self, optimizer: keras.optimizers.Optimizer, name: str | None = None) -> None:
        if not isinstance(optimizer, keras.optimizers.Optimizer):
            raise ConfigError(
                f"{type(self).__name__}: {optimizer!r} is not an optimizer; give one, such as "
                "keras.optimizers.Adam(1e-3)"
            )
        super().__init__(learning_rate=0.0, name=name)
        # Every Keras optimizer makes these two; here the inner optimizer's count.
        self._untrack_variable(self._iterations)
        self._untrack_variable(self._learning_rate)
        self.inner_optimizer = optimizer

    # --- what subclasses override -------------------------------------------------------------------------------------

    def build_state(self, variables: list[keras.Variable]) -> None:
        """Make the wrapper's own variables; called once, when the inner optimizer has been built."""

    def update(self, gradients: list[Tensor], variables: list[keras.Variable]) -> None:
        """Do one step; gradients may be None."""
        self.update_inner(gradients, variables)

    # --- for subclasses -----------------------------------------------------------------------------------------------

    def update_inner(self, gradients: list[Tensor], variables: list[keras.Variable]) -> None:
        """One step of the inner optimizer, in the form that the moment allows."""
        if not in_stateless_scope():
            self.inner_optimizer.apply(gradients, variables)
            return
        # Optimizers that decide between two outcomes do so without side effects only in this form.
        for variable, value in self.values_after_inner(gradients, variables):
            variable.assign(value)

    def values_after_inner(
        self, gradients: list[Tensor], variables: list[keras.Variable]
    ) -> list[tuple[keras.Variable, Tensor]]:
        """What a step of the inner optimizer would put into each variable; nothing is changed (not on TensorFlow)."""
        given = {id(variable): gradient for variable, gradient in zip(variables, gradients)}
        weights, state = list(self.inner_optimizer._trainable_variables), self.inner_optimizer.variables
        new_weights, new_state = self.inner_optimizer.stateless_apply(
            [v.value for v in state], [given.get(id(v)) for v in weights], [v.value for v in weights]
        )
        return list(zip([*weights, *state], [*new_weights, *new_state]))

    @property
    def inner_may_skip(self) -> bool:
        """Whether some calls of the inner optimizer leave the weights alone (accumulation, overflow in float16)."""
        return any(
            getattr(optimizer, "gradient_accumulation_steps", None)
            or getattr(optimizer, "may_skip", False)
            or isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
            for optimizer in chain(self.inner_optimizer)
        )

    # --- a Keras optimizer --------------------------------------------------------------------------------------------

    def build(self, variables: Sequence[keras.Variable]) -> None:
        """Make the variables of the inner optimizer and of this one."""
        if self.built:
            return
        variables = list(variables)
        if not self.inner_optimizer.built:
            self.inner_optimizer.build(variables)
        super().build(variables)
        self.build_state(variables)

    def apply(self, grads: Sequence[Tensor], trainable_variables: Sequence[keras.Variable] | None = None) -> None:
        """One step with gradients that belong one to one to `trainable_variables` (or to those it was built with)."""
        if len(grads) == 0:
            return
        variables = list(self._trainable_variables if trainable_variables is None else trainable_variables)
        if not self.built:
            with keras.name_scope(self.name):
                self.build(variables)
        if len(grads) != len(variables):
            raise ValueError(f"{self.name}: {len(grads)} gradients for {len(variables)} variables")
        self._check_variables_are_known(variables)
        with backend.without_gradients():
            self.update(list(grads), variables)

    def apply_gradients(self, grads_and_vars: Any) -> Any:
        """`apply` for pairs; returns the count of steps, as Keras does."""
        gradients, variables = zip(*grads_and_vars)
        self.apply(gradients, variables)
        return self.iterations

    @property
    def variables(self) -> list[keras.Variable]:
        """The wrapper's own variables, then those of the inner optimizer."""
        return [*self._variables, *self.inner_optimizer.variables]

    @property
    def iterations(self) -> Any:
        """How many updates the inner optimizer has made."""
        return self.inner_optimizer.iterations

    @property
    def learning_rate(self) -> Any:
        """The inner optimizer's."""
        return self.inner_optimizer.learning_rate

    @learning_rate.setter
    def learning_rate(self, value: object) -> None:
        self.inner_optimizer.learning_rate = value

    @property
    def loss_scale_factor(self) -> float | None:
        """The inner optimizer's; a loss-scaling optimizer outside sets it to None."""
        factor: float | None = self.inner_optimizer.loss_scale_factor
        return factor

    @loss_scale_factor.setter
    def loss_scale_factor(self, value: float | None) -> None:
        if hasattr(self, "inner_optimizer"):  # the constructor of Keras sets it before there is one
            self.inner_optimizer.loss_scale_factor = value

    def scale_loss(self, loss: Tensor) -> Tensor:
        """Scale the loss as the inner optimizer asks for."""
        return self.inner_optimizer.scale_loss(loss)

    def finalize_variable_values(self, var_list: Sequence[keras.Variable]) -> None:
        """What the inner optimizer does at the end of `fit`."""
        self.inner_optimizer.finalize_variable_values(var_list)

    def exclude_from_weight_decay(self, var_list: object = None, var_names: object = None) -> None:
        """Passed on: it concerns the decay that is built into the inner optimizer."""
        self.inner_optimizer.exclude_from_weight_decay(var_list=var_list, var_names=var_names)

    def set_weights(self, weights: Sequence[Tensor]) -> None:
        """Set all `variables`."""
        for variable, weight in zip(self.variables, weights):
            variable.assign(weight)

    def save_own_variables(self, store: Any) -> None:
        """Put the wrapper's own variables into a file; Keras goes on to the inner optimizer by itself."""
        for number, variable in enumerate(self._variables):
            store[str(number)] = variable.numpy()

    def load_own_variables(self, store: Any) -> None:
        """Read what `save_own_variables` wrote; as in Keras, what was saved before it was built is passed over."""
        if len(store.keys()) != len(self._variables):
            warnings.warn(
                f"{self.name}: its {len(self._variables)} own variables stay, the file has {len(store.keys())}",
                stacklevel=2,
            )
            return
        for number, variable in enumerate(self._variables):
            variable.assign(store[str(number)])

    def get_config(self) -> Config:
        """The inner optimizer and the name; subclasses add their own arguments."""
        return {"optimizer": keras.saving.serialize_keras_object(self.inner_optimizer), "name": self.name}

    @classmethod
    def from_config(cls, config: Config, custom_objects: object = None) -> "Wrapper":
        """The inverse of `get_config`."""
        config = dict(config)
        inner = keras.saving.deserialize_keras_object(config.pop("optimizer"), custom_objects=custom_objects)
        return cls(inner, **config)


class Change(NamedTuple):
    """What the inner optimizer did to one variable.

    `place`: of the variable among those the optimizer was built with. `old`, `new`: its value before and after,
    in float32 or wider. `gradient`: as given to the inner optimizer. `rate`: the learning rate of this step, a float32
    scalar (None unless `uses_rate`). `step`: how many updates were made before this one.
    """

    position: int
    old: Tensor
    new: Tensor
    gradient: Tensor
    rate: Tensor
    step: Tensor


class UpdateWrapper(Wrapper):
    """Base of wrappers that turn (value before, value after) of each variable into another value after.

    They keep a copy of the old values of the variables they concern during the step, except on JAX, whose arrays do
    not change. Constraints of the variables hold afterwards too. Subclasses override `change`.
    """

    uses_rate = False

    def concerns(self, index: int) -> bool:
        """Whether the variable at this place may be changed."""
        return True

    def change(self, change: Change) -> Tensor:
        """The value that the variable shall have."""
        return change.new

    def update(self, gradients: list[Tensor], variables: list[keras.Variable]) -> None:
        """The inner step, and then `change` for each variable that had a gradient."""
        concerned = []
        for variable, gradient in zip(variables, gradients):
            index = self._get_variable_index(variable)
            direct = self._overwrite_variable_with_gradient(variable)
            if gradient is not None and not direct and self.concerns(index):
                concerned.append((variable, index, gradient, snapshot(variable)))
        rate = ops.cast(ops.convert_to_tensor(self.learning_rate), "float32") if self.uses_rate else None
        step = snapshot(self.iterations)
        self.update_inner(gradients, variables)
        for variable, index, gradient, old in concerned:
            new = ops.convert_to_tensor(variable)
            change = Change(index, _wide(old), _wide(new), gradient, rate, step)
            value = ops.cast(self.change(change), new.dtype)
            if self.inner_may_skip:
                value = ops.where(ops.not_equal(self.iterations, step), value, new)
            variable.assign(value)
            if variable.constraint is not None:
                variable.assign(variable.constraint(variable))


def chain(optimizer: object) -> Iterator[keras.optimizers.Optimizer]:
    """The optimizer and those inside of it, from the outermost to the innermost."""
    while optimizer is not None:
        yield optimizer
        optimizer = getattr(optimizer, "inner_optimizer", None)


def snapshot(value: object) -> Tensor:
    """The present value of a variable, or a tensor, that later assignments do not touch."""
    tensor = ops.convert_to_tensor(value)
    # Arrays of JAX never change; elsewhere the optimizer writes into the same memory.
    return tensor if backend.name() == "jax" else ops.copy(tensor)


def assign_when(predicate: Tensor, variables: Sequence[keras.Variable], values: Callable[[], Sequence[Tensor]]) -> None:
    """Where `predicate` (a bool scalar) holds, assign `values()`; they are computed only then."""
    if backend.name() == "jax":
        now = [variable.value for variable in variables]
        chosen = ops.cond(predicate, lambda: list(values()), lambda: now)
        for variable, value in zip(variables, chosen):
            variable.assign(value)
        return

    def assign() -> None:
        for variable, value in zip(variables, list(values())):
            variable.assign(value)

    ops.cond(predicate, assign, lambda: None)


def _wide(value: Tensor) -> Tensor:
    return ops.cast(value, result_type(value.dtype, "float32"))
