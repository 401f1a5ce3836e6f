"""One update for several batches."""

import keras
from keras import ops

from qingformer import backend
from qingformer.errors import ConfigError
from qingformer.optimizers.wrapper import Wrapper
from qingformer.types import Config, Tensor


@keras.saving.register_keras_serializable("qingformer")
class AccumulateGradients(Wrapper):
    """Update once for every `steps` batches, with the mean of their gradients.

        a <- a + g / steps for each batch;   after every `steps` batches one inner step with a, then a <- 0

    So `steps` batches of n rows give the update of one batch of n * steps rows. Batches that models of ours know to
    hold rows of padding weigh by their examples: a <- a + n g, and the step is made with a / sum n. The learning-rate
    schedule and Adam's bias correction count updates, not batches; and the inner optimizer is computed only when it is
    needed. (Keras' `gradient_accumulation_steps` has schedules count batches, weighs all batches alike, and on JAX
    computes and discards an update for each batch. The original updates with the gradients *before* the present one and
    has bias correction count batches.) What remains of an epoch goes on in the next. Dividing a batch that does not fit
    into memory is a matter of the training step, not of the optimizer.

    Args:
        optimizer: the optimizer to wrap; clipping inside acts on the mean.
        steps: batches for one update, >= 1.
        name: of the wrapper.

    Raises:
        ConfigError: a number that cannot be.

    Example:
        >>> model.compile(AccumulateGradients(keras.optimizers.Adam(2e-5), steps=4))
    """

    may_skip = True

    def __init__(self, optimizer: keras.optimizers.Optimizer, steps: int = 2, name: str | None = None) -> None:
        super().__init__(optimizer, name)
        if steps < 1 or steps != int(steps):
            raise ConfigError(f"AccumulateGradients: steps is {steps}; it must be a whole number of 1 or more")
        self.steps = int(steps)

    @property
    def batches_seen(self) -> keras.Variable:
        """How many batches there were, those that ended in an update and the others."""
        return self._batches_seen

    def build_state(self, variables: list[keras.Variable]) -> None:
        """One sum for each variable, and the count of batches."""
        self._batches_seen = self.add_variable((), dtype="int32", name="batches_seen")
        # What the batch at hand weighs, set by the training step, and the sum of this update.
        self.batch_weight = self.add_variable((), initializer="ones", dtype="float32", name="batch_weight")
        self._weight_sum = self.add_variable((), dtype="float32", name="weight_sum")
        self._sums = self.add_optimizer_variables(variables, "gradient_sum")

    def update(self, gradients: list[Tensor], variables: list[keras.Variable]) -> None:
        """Add, and update where it is time."""
        sums = [self._sums[self._get_variable_index(variable)] for variable in variables]
        weight = ops.convert_to_tensor(self.batch_weight)
        whole = ops.convert_to_tensor(self._weight_sum) + weight
        added = [
            gradient if total is None or gradient is None else _added(total, gradient, weight)
            for gradient, total in zip(gradients, sums)
        ]
        means = [
            each if total is None or each is None else each / ops.cast(ops.maximum(whole, 1e-20), each.dtype)
            for each, total in zip(added, sums)
        ]
        kept = [
            (total, ops.cast(each, total.dtype))
            for each, total in zip(added, sums)
            if total is not None and each is not None
        ]
        kept.append((self._weight_sum, whole))
        self._batches_seen.assign(self._batches_seen + 1)
        due = ops.equal(ops.mod(self._batches_seen, self.steps), 0)
        zeros = [ops.zeros_like(each) for _, each in kept]
        if backend.name() == "jax":
            changed = [*self._trainable_variables, *self.inner_optimizer.variables, *(total for total, _ in kept)]

            def updated() -> list[Tensor]:
                return [*(value for _, value in self.values_after_inner(means, variables)), *zeros]

            def gathered() -> list[Tensor]:
                return [*(variable.value for variable in changed[: -len(kept) or None]), *(each for _, each in kept)]

            for variable, value in zip(changed, ops.cond(due, updated, gathered)):
                variable.assign(value)
            return

        def make_update() -> None:
            self.update_inner(means, variables)
            for (total, _), zero in zip(kept, zeros):
                total.assign(zero)

        def gather() -> None:
            for total, each in kept:
                total.assign(each)

        ops.cond(due, make_update, gather)

    def get_config(self) -> Config:
        """The constructor's arguments."""
        return super().get_config() | {"steps": self.steps}


def _added(total: keras.Variable, gradient: Tensor, weight: Tensor) -> Tensor:
    gradient = ops.cast(backend.dense(gradient), total.dtype)
    return total + gradient * ops.cast(weight, total.dtype)
