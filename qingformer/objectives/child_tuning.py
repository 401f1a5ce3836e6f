"""Fine-tuning of a random part of the weights, another one in each step."""

from collections.abc import Iterable

import keras
from keras import ops

from qingformer import backend
from qingformer.errors import ConfigError
from qingformer.objectives.objective import Aux, Batch, Objective, State, Transform, TransformedObjective
from qingformer.objectives.selection import select, select_body
from qingformer.types import Config, Tensor

_SALT, _APART = 2109, 104729  # two weights of one shape share no mask within so many steps


@keras.saving.register_keras_serializable("qingformer")
class ChildTuningF(Transform):
    """Keep a random fraction of the gradient's elements, drawn anew in each step: dropout on the gradient.

        g <- g * M / p,   M ~ Bernoulli(p) for each element

    before the optimizer. The mean is that of the full gradient g, of mean mu and deviation sigma over the batches; the
    variance grows from sigma^2 to sigma^2 + (1 - p)/p (mu^2 + sigma^2). With SGD an element whose gradient is dropped
    stays where it is; with momentum it moves on. Under Adam the displacement in the long run is sqrt(p) times that of
    full training, since the second moment grows by 1/p: p is also a smaller learning rate.

    The masks are functions of the step alone (`State.seed`): a resumed training draws the same. Behind
    `GradientAccumulation` there is one mask a step, in front of it one for each part.

    Args:
        p: fraction that is kept, in (0, 1]; 1 is plain training to the bit.
        select: regular expressions of the paths of the weights to mask; the others train fully. None: all weights but
            those of the task's head, which is new and has to be learnt (see `select_body`). `""` takes all.
        scale: divide by p; without, the mean gradient is p times as long.

    Raises:
        ConfigError: `p` out of range; in `compile`, a pattern that finds no weight.

    Source: Xu et al. 2021, arXiv 2109.05687 (ChildTuning-F); analysis: 科学空间, archives/8764.

    Example:
        >>> model.compile("adam", loss, transforms=[ChildTuningF(0.2)])
    """

    def __init__(self, p: float = 0.2, select: str | Iterable[str] | None = None, scale: bool = True) -> None:
        self.p = checked_fraction(p, "ChildTuningF")
        self.select = as_patterns(select)
        self.scale = scale

    def __call__(self, objective: Objective) -> Objective:
        """The same value with a masked gradient."""
        return objective if self.p == 1 else _RandomlyMasked(objective, self)

    def get_config(self) -> Config:
        """The constructor's arguments."""
        return {"p": self.p, "select": self.select, "scale": self.scale}


class _RandomlyMasked(TransformedObjective):
    def __init__(self, objective: Objective, settings: ChildTuningF) -> None:
        super().__init__(objective)
        self.p, self.scale = settings.p, settings.scale
        self.indices = selected(objective.model, settings.select, "ChildTuningF")

    def value_and_grad(
        self, trainable: list[Tensor], state: State, batch: Batch
    ) -> tuple[tuple[Tensor, Aux], list[Tensor]]:
        result, gradients = self.objective.value_and_grad(trainable, state, batch)
        gradients = list(gradients)
        for index in self.indices:
            g = gradients[index]
            seed = state.seed(_SALT + _APART * index).next()
            keep = ops.reshape(backend.keep_mask(seed, tuple(g.shape) or (1,), 1 - self.p), g.shape)
            gradients[index] = masked(g, keep, self.p if self.scale else 1.0)
        return result, gradients


def masked(gradient: Tensor, keep: Tensor, fraction: float) -> Tensor:
    """`gradient / fraction` where `keep`, exactly 0 elsewhere (an infinite element is dropped with the rest)."""
    return ops.where(keep, gradient / ops.cast(fraction, gradient.dtype), ops.zeros_like(gradient))


def selected(model: keras.Model, patterns: list[str] | None, owner: str) -> list[int]:
    """The indices of the weights to mask: those that the patterns find, or all but the task's head."""
    if patterns is None:
        return select_body(model, owner)
    return select(model.trainable_variables, patterns, owner)


def as_patterns(select: str | Iterable[str] | None) -> list[str] | None:
    """One pattern or several, as a list."""
    return [select] if isinstance(select, str) else None if select is None else list(select)


def checked_fraction(p: float, owner: str) -> float:
    """`p` as a float in (0, 1].

    Raises:
        ConfigError: it is not.
    """
    if not 0 < p <= 1:
        raise ConfigError(f"{owner}: p is {p}; it must be a fraction above 0 and at most 1")
    return float(p)
