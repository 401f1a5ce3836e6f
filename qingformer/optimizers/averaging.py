"""Averages of the weights over the course of training."""

from collections.abc import Iterator
from contextlib import contextmanager

import keras
from keras import ops

from qingformer import backend
from qingformer.errors import ConfigError
from qingformer.optimizers.wrapper import Wrapper, chain, snapshot
from qingformer.types import Config, Tensor


@keras.saving.register_keras_serializable("qingformer")
class ExponentialMovingAverage(Wrapper):
    """Keep exponentially decaying averages of the weights beside training, to evaluate and predict with.

        average <- momentum * average + (1 - momentum) * theta    after each update, from 0
        corrected average = average / (1 - momentum^t)            t = number of updates so far

    Training itself is not touched. The averages are part of the optimizer's state (float32, one for each weight), so
    they survive saving and an exact resume. Should be the outermost wrapper: what stands around it changes the weights
    after they were averaged.

    `with optimizer.averaged(model): ...` evaluates, predicts or saves with the averages; the callback
    `qingformer.training.SwapAverages` does so for the validation in `fit`, and the tasks of this package use it by
    themselves. Unlike Keras' `use_ema` nothing is overwritten at the end of `fit`, which may be called again.

    Source: Polyak, Juditsky 1992; bias correction: Kingma, Ba 2014, arXiv 1412.6980.

    Args:
        optimizer: the optimizer to wrap.
        momentum: weight of the past, in [0, 1).
        bias_correction: whether `averaged` divides by 1 - momentum^t; without, the averages begin near 0.
        name: of the wrapper.

    Raises:
        ConfigError: a momentum that cannot be; in `averaged`, no update yet or another model.

    Example:
        >>> optimizer = ExponentialMovingAverage(keras.optimizers.Adam(2e-5), momentum=0.999)
        >>> model.compile(optimizer, loss)
        >>> _ = model.fit(x, y)
        >>> with optimizer.averaged(model):
        ...     model.evaluate(x_dev, y_dev)
    """

    def __init__(
        self,
        optimizer: keras.optimizers.Optimizer,
        momentum: float = 0.999,
        bias_correction: bool = True,
        name: str | None = None,
    ) -> None:
        super().__init__(optimizer, name)
        if not 0 <= momentum < 1:
            raise ConfigError(f"ExponentialMovingAverage: momentum is {momentum}; it must be at least 0 and below 1")
        self.momentum, self.bias_correction = float(momentum), bias_correction
        self._swapped = False

    def build_state(self, variables: list[keras.Variable]) -> None:
        """One average for each variable, and the count of updates."""
        self._updates = self.add_variable((), dtype="int32", name="updates")
        self._averages = [
            self.add_variable(v.shape, dtype="float32", name=f"{v.path.replace('/', '_')}_average") for v in variables
        ]

    def update(self, gradients: list[Tensor], variables: list[keras.Variable]) -> None:
        """The inner step, then the averages; a call that updated nothing leaves them alone."""
        before = snapshot(self.iterations)
        self.update_inner(gradients, variables)
        # With accumulation inside, or a step that loss scaling skips, the weights stand still: that is no sample.
        happened = ops.cast(ops.not_equal(self.iterations, before), "float32")
        share = happened * (1 - self.momentum)
        for variable, average in zip(self._trainable_variables, self._averages):
            average.assign(average + share * (ops.cast(variable, "float32") - average))
        self._updates.assign(self._updates + ops.cast(happened, "int32"))

    @property
    def begun(self) -> bool:
        """Whether there are averages yet."""
        return bool(self.built and int(ops.convert_to_numpy(self._updates)) > 0)

    def averages(self, bias_correction: bool | None = None) -> list[Tensor]:
        """The averages of the trainable variables, in their order, as new arrays in float32.

        Raises:
            ConfigError: there was no update yet.
        """
        if not self.begun:
            raise ConfigError("ExponentialMovingAverage: there are no averages before the first update")
        count = int(ops.convert_to_numpy(self._updates))
        correct = self.bias_correction if bias_correction is None else bias_correction
        # The averages start at zero, which the early ones are full of.
        scale = 1 / (1 - self.momentum**count) if correct else 1.0
        return [ops.multiply(snapshot(average), scale) for average in self._averages]

    def apply_averages(self, model: keras.Model) -> None:
        """Put the averages into the model for good, such as at the end of a training."""
        self._check(model)
        with backend.without_gradients():
            for variable, value in zip(self._trainable_variables, self.averages()):
                variable.assign(ops.cast(value, variable.dtype))

    @contextmanager
    def averaged(self, model: keras.Model) -> Iterator[None]:
        """Within, the model has the averages; afterwards, also after an error, what it had before.

        May be nested; training within is not for you: its steps would be lost.
        """
        self._check(model)
        # Already in place, as when a score is computed within another one.
        if self._swapped:
            yield
            return
        kept = [snapshot(variable) for variable in self._trainable_variables]
        self.apply_averages(model)
        self._swapped = True
        try:
            yield
        finally:
            self._swapped = False
            with backend.without_gradients():
                for variable, value in zip(self._trainable_variables, kept):
                    variable.assign(value)

    def _check(self, model: keras.Model) -> None:
        there = {id(variable) for variable in model.variables}
        if not self.built or any(id(variable) not in there for variable in self._trainable_variables):
            raise ConfigError(f"ExponentialMovingAverage: this optimizer has not trained the model {model.name!r}")

    def get_config(self) -> Config:
        """The constructor's arguments."""
        return super().get_config() | {"momentum": self.momentum, "bias_correction": self.bias_correction}


def averages_of(optimizer: keras.optimizers.Optimizer | None) -> ExponentialMovingAverage | None:
    """The averaging wrapper in an optimizer, at any depth, or None.

    Example:
        >>> averages_of(keras.optimizers.Adam()) is None
        True
    """
    return next((each for each in chain(optimizer) if isinstance(each, ExponentialMovingAverage)), None)
