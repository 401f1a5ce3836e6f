"""Fine-tuning of the part of the weights that matters most for the task, found before training."""

import math
from collections.abc import Iterable
from fractions import Fraction
from typing import Any

import keras
import numpy as np
from keras import ops

from qingformer.errors import ConfigError
from qingformer.objectives.child_tuning import as_patterns, checked_fraction, masked, selected
from qingformer.objectives.fisher import fisher_information
from qingformer.objectives.objective import Aux, Batch, Objective, State, Transform, TransformedObjective
from qingformer.types import Config, Tensor


@keras.saving.register_keras_serializable("qingformer")
class ChildTuningD(Transform):
    """Train only the fraction of the elements with the largest Fisher information, chosen once before training.

        F_i = 1/N sum_j (d log p(y_j | x_j) / d theta_i)^2      at the weights training starts from
        M_i = 1 for the ceil(p * n) largest of the n elements of all selected weights together, else 0
        g  <- g * M / p

    The gradients are those of single examples (see `fisher_information`). Among equal values those that come first are
    taken. An element outside of the mask never moves under SGD or Adam, since its gradient is always 0; weight decay
    still shrinks it, as in the paper.

    The first `fit` measures; the mask is kept in two variables of the model's state (one bool an element, and whether
    it is there), so that a resumed training (`qingformer.training.run`) goes on with the same one, and another `fit`
    keeps it. A new `compile`, and a model loaded from a `.keras` file, measure again. A loop of your own calls
    `prepare(model, (x, y, sample_weight, batch_size))` first.

    Args:
        p: fraction that is trained, in (0, 1]; 1 is plain training to the bit, and nothing is measured.
        select: regular expressions of the paths of the weights to mask; the others train fully. None: all weights but
            those of the task's head, which is new, has by far the largest gradients, and has to be learnt. `""` takes
            all.
        scale: divide by p, so that the step is about as long as without the mask; False leaves what is kept as it is.
            Under Adam this makes no difference.
        samples: measure on the first so many examples only; None for all.
        group: examples in one gradient; above 1 faster and no longer exact (see `fisher_information`).

    Raises:
        ConfigError: an argument out of range; in `compile`, a pattern that finds no weight; in `fit`, data that can be
            read only once; in a step, nothing measured yet.

    Source: Xu et al. 2021, arXiv 2109.05687 (ChildTuning-D); 科学空间, archives/8764.

    Example:
        >>> model.compile("adam", loss, transforms=[ChildTuningD(0.2)])
        >>> model.fit(x, y)
    """

    def __init__(
        self,
        p: float = 0.2,
        select: str | Iterable[str] | None = None,
        scale: bool = True,
        samples: int | None = None,
        group: int = 1,
    ) -> None:
        self.p = checked_fraction(p, "ChildTuningD")
        self.select = as_patterns(select)
        self.scale = scale
        for name, number in (("samples", samples), ("group", group)):
            if number is not None and (int(number) != number or number < 1):
                raise ConfigError(f"ChildTuningD: {name} is {number}; it must be a whole number, 1 or more")
        self.samples, self.group = samples, group
        self.indices: list[int] = []
        self.mask: keras.Variable | None = None
        self.ready: keras.Variable | None = None
        self.measured = False  # as `ready`, but known while the step is traced

    @property
    def variables(self) -> list[keras.Variable]:
        """The mask, (n,) bool over the elements of the selected weights in order, and whether it is there."""
        return [v for v in (self.mask, self.ready) if v is not None]

    def build(self, model: keras.Model) -> None:
        """Choose the weights, and make the variables."""
        self.indices = selected(model, self.select, "ChildTuningD")
        if self.p == 1:
            return
        # One flat mask for all chosen variables: the largest values are picked over all of them together.
        count = sum(math.prod(model.trainable_variables[i].shape) for i in self.indices)
        settings = {"trainable": False, "dtype": "bool"}
        self.mask = keras.Variable(np.zeros(count, bool), name="child_tuning_mask", **settings)
        self.ready = keras.Variable(np.array(False), name="child_tuning_ready", **settings)
        self.measured = False

    def prepare(self, model: keras.Model, data: tuple[Any, ...]) -> None:
        """Measure the Fisher information and choose the mask, unless that is done."""
        if self.mask is None or self.ready is None:
            return
        if not bool(ops.convert_to_numpy(self.ready.value)):
            options = {"samples": self.samples, "group": self.group, "owner": "ChildTuningD"}
            found = fisher_information(model, data, self.indices, **options)  # type: ignore[arg-type]
            self.mask.assign(largest(np.concatenate([f.reshape(-1) for f in found]), self.p))
            self.ready.assign(np.array(True))
        self.measured = True

    def __call__(self, objective: Objective) -> Objective:
        """The same value with a masked gradient."""
        return objective if self.p == 1 else _Masked(objective, self)

    def get_config(self) -> Config:
        """The constructor's arguments."""
        return {
            "p": self.p,
            "select": self.select,
            "scale": self.scale,
            "samples": self.samples,
            "group": self.group,
        }


def largest(values: np.ndarray, fraction: float) -> np.ndarray:
    """A bool array that is True for the ceil(fraction * n) largest of n values, the first ones among equals.

    Example:
        >>> largest(np.array([3.0, 1.0, 2.0, 2.0]), 0.5).tolist()
        [True, False, True, False]
    """
    count = math.ceil(Fraction(repr(fraction)) * len(values))  # 0.07 * 100 is above 7 in floating point
    # The count-th largest value, without sorting all: a model has a hundred million of them.
    threshold = np.partition(values, len(values) - count)[len(values) - count]
    chosen = values > threshold
    # Of values equal to the threshold only as many as are still missing: rows never seen are all exactly 0.
    equal = np.flatnonzero(values == threshold)
    chosen[equal[: count - int(chosen.sum())]] = True
    return chosen


class _Masked(TransformedObjective):
    def __init__(self, objective: Objective, settings: ChildTuningD) -> None:
        super().__init__(objective)
        self.settings = settings

    def value_and_grad(
        self, trainable: list[Tensor], state: State, batch: Batch
    ) -> tuple[tuple[Tensor, Aux], list[Tensor]]:
        settings = self.settings
        if not settings.measured or settings.mask is None:
            raise ConfigError(
                "ChildTuningD: the mask has not been measured; train with fit, or call prepare(model, (x, y, "
                "sample_weight, batch_size)) first"
            )
        result, gradients = self.objective.value_and_grad(trainable, state, batch)
        gradients = list(gradients)
        mask, start = self.value_of(settings.mask, state), 0
        for index in settings.indices:
            shape = tuple(gradients[index].shape)
            end = start + math.prod(shape)
            # The part of the flat mask that belongs to this variable.
            keep = ops.reshape(mask[start:end], shape)
            gradients[index] = masked(gradients[index], keep, settings.p if settings.scale else 1.0)
            start = end
        return result, gradients
