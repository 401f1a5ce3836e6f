"""AdaFactor: an adaptive optimizer whose state is a row and a column for each matrix."""

import math
from collections.abc import Iterable, Sequence

import keras
from keras import ops

from qingformer import backend
from qingformer.errors import ConfigError
from qingformer.optimizers.optimizer import Optimizer, checked, norm
from qingformer.optimizers.patterns import checked_patterns
from qingformer.types import Config, LearningRate, Tensor


@keras.saving.register_keras_serializable("qingformer")
class AdaFactor(Optimizer):
    """RMSprop whose mean squares are a product of row and column, with steps relative to the size of the weights.

        b_t = 1 - t^-0.8                                (or the constant beta_2; no bias correction either way)
        R = b_t R + (1 - b_t) mean_j(g_ij^2 + e1),      C = b_t C + (1 - b_t) mean_i(g_ij^2 + e1)
        v_ij = R_i C_j / mean(R),                       u = g / sqrt(v)
        u <- u / max(1, RMS(u) / clipping_threshold)
        m = beta_1 m + (1 - beta_1) u,  u <- m          (only if beta_1 > 0)
        theta -= lr * (max(e2, RMS(theta)) u + weight_decay * theta)

    A variable is factored when both of its two largest dimensions are at least `min_dim_size_to_factor`; with more
    than two axes each slice along the other axes is a matrix of its own. The others keep v as they are. With
    `learning_rate=None` the rate is min(0.01, 1/sqrt(t)), and a twentieth of it without the scaling by RMS(theta).

    State of an (n, m) matrix: n + m floats, where Adam keeps 2 n m. With `beta_1 > 0`, n m more.

    Args:
        learning_rate: number, schedule, or None for the relative step above. Around 1e-3 also for fine-tuning.
        beta_1: decay of the momentum of updates, in [0, 1); 0 for none.
        beta_2: decay of the mean squares, in [0, 1); None for 1 - t^-0.8.
        epsilon_1: added to the squared gradient, > 0.
        epsilon_2: least size of a variable that its steps are relative to, >= 0. Something that starts at 0 moves
            only because of it.
        multiply_by_parameter_scale: whether steps are relative to RMS(theta).
        clipping_threshold: largest RMS of an update, > 0; None for no limit.
        min_dim_size_to_factor: see above; larger than any dimension switches factoring off.
        exclude_from_parameter_scale: regular expressions of paths whose steps are not relative.
        weight_decay: decoupled decay; None for none.
        exclude_from_weight_decay: regular expressions of paths that do not decay.
        options: see `Optimizer`. With `gradient_accumulation_steps` t counts updates; Keras' accumulator is as large as
            the weights.

    Raises:
        ConfigError: an argument that cannot be.

    Source: Shazeer, Stern 2018, arXiv 1804.04235; 科学空间 archives/7302. The original toolkit adds epsilon_1 a second
    time under the root, which changes nothing above 1e-15 of gradient.

    Example:
        >>> model.compile(AdaFactor(1e-3), "sparse_categorical_crossentropy")
    """

    def __init__(
        self,
        learning_rate: LearningRate = 1e-3,
        beta_1: float = 0.0,
        beta_2: float | None = None,
        epsilon_1: float = 1e-30,
        epsilon_2: float = 1e-3,
        multiply_by_parameter_scale: bool = True,
        clipping_threshold: float | None = 1.0,
        min_dim_size_to_factor: int = 128,
        exclude_from_parameter_scale: Iterable[str] = (),
        weight_decay: float | None = None,
        exclude_from_weight_decay: Iterable[str] = (),
        **options: object,
    ) -> None:
        relative = learning_rate is None
        rate = RelativeStep(1.0 if multiply_by_parameter_scale else 0.05) if relative else learning_rate
        super().__init__(rate, weight_decay, exclude_from_weight_decay, **options)
        self.relative_step = relative
        self.beta_1 = checked("AdaFactor", "beta_1", beta_1, below=1.0)
        self.beta_2 = None if beta_2 is None else checked("AdaFactor", "beta_2", beta_2, below=1.0)
        self.epsilon_1 = checked("AdaFactor", "epsilon_1", epsilon_1, least=1e-37)
        self.epsilon_2 = checked("AdaFactor", "epsilon_2", epsilon_2)
        self.multiply_by_parameter_scale = multiply_by_parameter_scale
        if clipping_threshold is not None:
            clipping_threshold = checked("AdaFactor", "clipping_threshold", clipping_threshold, least=1e-30)
        self.clipping_threshold = clipping_threshold
        if min_dim_size_to_factor < 1:
            raise ConfigError(f"AdaFactor: min_dim_size_to_factor is {min_dim_size_to_factor}; expected 1 or more")
        self.min_dim_size_to_factor = int(min_dim_size_to_factor)
        self._unscaled = checked_patterns("AdaFactor", "exclude_from_parameter_scale", exclude_from_parameter_scale)

    def build(self, variables: Sequence[keras.Variable]) -> None:
        """Make a row and a column for what is factored, mean squares for the rest."""
        if self.built:
            return
        super().build(variables)
        self._axes = [factored_axes(v.shape, self.min_dim_size_to_factor) for v in variables]
        self._squares: list[keras.Variable | None] = []
        self._columns: list[keras.Variable | None] = []
        for variable, axes in zip(variables, self._axes):
            if axes is None or self._overwrite_variable_with_gradient(variable):
                self._squares.append(self._add_slot(variable, "velocity"))
                self._columns.append(None)
            else:
                row, column = (list(variable.shape) for _ in range(2))
                # The two longest axes are kept as their means: of a (d, e) matrix d + e numbers in place of d e.
                row[axes[1]] = column[axes[0]] = 1
                self._squares.append(self.add_small_slot(variable, "row", row))
                self._columns.append(self.add_small_slot(variable, "column", column))
        self._momenta = self.add_slots(variables, "momentum") if self.beta_1 else []
        unscaled = self.matching("exclude_from_parameter_scale", self._unscaled, variables)
        self._scaled = [self.multiply_by_parameter_scale and not kept for kept in unscaled]

    def scalars(self) -> dict[str, Tensor]:
        """1 - b_t, the share of the newest gradient."""
        # beta_2 = 1 - t^-0.8 (Shazeer and Stern 2018, section 7); the first share is 1, so no correction is needed.
        return {"share": self.step_number() ** -0.8 if self.beta_2 is None else ops.ones(()) * (1 - self.beta_2)}

    def direction(self, gradient: Tensor, value: Tensor, index: int) -> Tensor:
        """The normalised, clipped, averaged and scaled gradient, in this order."""
        update = self._normalised(gradient, index)
        factor = None
        if self.clipping_threshold is not None:
            # The factors are collected and multiplied once: each would be a pass over the whole update.
            factor = 1 / ops.maximum(1.0, root_mean_square(update) / self.clipping_threshold)
        if self.beta_1:
            clipped = update if factor is None else factor * update
            update, factor = backend.assign_lerp(self._momenta[index], clipped, 1 - self.beta_1), None
        if self._scaled[index]:
            # Relative to the size of the parameter; the least size lets zeros move at all.
            scale = ops.maximum(root_mean_square(value), self.epsilon_2)
            factor = scale if factor is None else factor * scale
        return update if factor is None else factor * update

    def _normalised(self, gradient: Tensor, index: int) -> Tensor:
        share = self.scalar("share", index)
        squares, axes = ops.square(gradient), self._axes[index]
        if axes is None:
            return gradient * ops.rsqrt(backend.assign_lerp(self._squares[index], squares + self.epsilon_1, share))
        row, column = (
            backend.assign_lerp(slot, ops.mean(squares, axis=axis, keepdims=True) + self.epsilon_1, share)
            for slot, axis in ((self._squares[index], axes[1]), (self._columns[index], axes[0]))
        )
        # Roots of the two vectors: their product would underflow at zero gradients, and a matrix of roots costs more.
        return gradient * ops.rsqrt(row / ops.mean(row, axis=axes[0], keepdims=True)) * ops.rsqrt(column)

    def _get_current_learning_rate(self) -> Tensor:
        # Schedules of Keras count batches; the relative step belongs to the algorithm and counts updates.
        return self._learning_rate(self.iterations) if self.relative_step else super()._get_current_learning_rate()

    def get_config(self) -> Config:
        """The constructor's arguments."""
        config = super().get_config()
        return config | {
            "learning_rate": None if self.relative_step else config["learning_rate"],
            "beta_1": self.beta_1,
            "beta_2": self.beta_2,
            "epsilon_1": self.epsilon_1,
            "epsilon_2": self.epsilon_2,
            "multiply_by_parameter_scale": self.multiply_by_parameter_scale,
            "clipping_threshold": self.clipping_threshold,
            "min_dim_size_to_factor": self.min_dim_size_to_factor,
            "exclude_from_parameter_scale": list(self._unscaled),
        }


@keras.saving.register_keras_serializable("qingformer")
class RelativeStep(keras.optimizers.schedules.LearningRateSchedule):
    """AdaFactor's own rate, `factor * min(0.01, 1/sqrt(t))` with t from 1."""

    def __init__(self, factor: float = 1.0) -> None:
        self.factor = factor

    def __call__(self, step: Tensor) -> Tensor:
        """The rate after `step` updates, a float32 scalar."""
        # Constant for ten thousand steps, then as the root of the step falls; from 1, as steps are counted from 0.
        return self.factor * ops.minimum(0.01, ops.rsqrt(ops.cast(step, "float32") + 1.0))

    def get_config(self) -> Config:
        """The argument."""
        return {"factor": self.factor}


def factored_axes(shape: Sequence[int], least: int) -> tuple[int, int] | None:
    """The second largest and the largest axis (of equal ones the later counts as larger), or None if one is too short.

    Example:
        >>> factored_axes((3, 512, 256), 128)
        (2, 1)
    """
    # The two longest axes, as in the original; of equally long ones the later.
    order = sorted(range(len(shape)), key=lambda axis: (shape[axis], axis))
    return (order[-2], order[-1]) if len(shape) >= 2 and shape[order[-2]] >= least else None


def root_mean_square(x: Tensor, axis: int | None = None) -> Tensor:
    """`sqrt(mean(x^2))`, over everything (a scalar) or over one axis that is kept."""
    if axis is None:
        return norm(x) / math.sqrt(max(math.prod(x.shape), 1))
    return ops.sqrt(ops.mean(ops.square(x), axis=axis, keepdims=True))
