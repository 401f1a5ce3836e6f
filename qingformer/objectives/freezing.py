"""Weights that stand still for a part of the training."""

from collections.abc import Mapping, Sequence

import keras
from keras import ops

from qingformer.errors import ConfigError
from qingformer.objectives.objective import Aux, Batch, Objective, State, Transform, TransformedObjective
from qingformer.objectives.selection import select_each
from qingformer.types import Config, Tensor

Span = tuple[int, int | None]


@keras.saving.register_keras_serializable("qingformer")
class Freeze(Transform):
    """Hold the weights whose path contains a pattern still while the step is in a span.

        from <= step < until:  g <- 0, and after the update  theta <- theta before it

    A zero gradient alone does not hold a weight: momentum that was built up before goes on moving it, and decoupled
    weight decay shrinks it. So the training step also puts the old values back, to the bit, under every optimizer.

    What the optimizer keeps for a frozen weight sees a zero gradient: momenta fade, second moments too. When a weight
    is released after many steps, Adam's correction for the start is long over, and its first updates are up to
    (1 - beta_1) / sqrt(1 - beta_2) = 3.2 times the rate; a warm-up at that time, or a new `compile` for each phase,
    avoids it. A moving average of the weights (`use_ema`) averages what the optimizer wrote, before the old values are
    put back. Nothing is saved in time or memory, since one program serves the whole training: for weights that never
    train set `layer.trainable = False` before `compile`.

    Args:
        spans: regular expression (`re.search` in `variable.path`) -> (from, until), in steps of the optimizer, counted
            from 0; `until=None` is for good. A weight found by several patterns stands still whenever one says so.

    Raises:
        ConfigError: no patterns, an empty or negative span; in `compile`, a pattern that finds no weight.

    Source: gradual unfreezing: Howard & Ruder 2018, arXiv 1801.06146 (`gradual_unfreezing` makes its schedule).

    Example:
        >>> model.compile("adam", loss, transforms=[Freeze({"embedding": (0, None), "block_": (0, 100)})])
    """

    def __init__(self, spans: Mapping[str, Sequence[int | None]]) -> None:
        if not spans:
            raise ConfigError("Freeze: there is no pattern; give at least one with its (from, until)")
        self.spans = {pattern: _checked(pattern, span) for pattern, span in spans.items()}

    def __call__(self, objective: Objective) -> Objective:
        """The same value, with weights that stand still."""
        return _Frozen(objective, self.spans)

    def get_config(self) -> Config:
        """The constructor's arguments."""
        return {"spans": {pattern: list(span) for pattern, span in self.spans.items()}}


def gradual_unfreezing(patterns: Sequence[str], every: int) -> Freeze:
    """A `Freeze` that releases one pattern every `every` steps, in the order given; the rest always trains.

    The paper releases the layers from the top, one an epoch (Howard & Ruder 2018, arXiv 1801.06146).

    Example:
        >>> gradual_unfreezing(["block_1/", "block_0/", "embedding"], every=100).spans
        {'block_1/': (0, 100), 'block_0/': (0, 200), 'embedding': (0, 300)}
    """
    return Freeze({pattern: (0, place * every) for place, pattern in enumerate(patterns, start=1)})


class _Frozen(TransformedObjective):
    def __init__(self, objective: Objective, spans: dict[str, Span]) -> None:
        super().__init__(objective)
        self.spans: dict[int, list[Span]] = {}
        for pattern, indices in select_each(objective.model.trainable_variables, spans, "Freeze").items():
            for index in indices:
                self.spans.setdefault(index, []).append(spans[pattern])

    def value_and_grad(
        self, trainable: list[Tensor], state: State, batch: Batch
    ) -> tuple[tuple[Tensor, Aux], list[Tensor]]:
        result, gradients = self.objective.value_and_grad(trainable, state, batch)
        for index, frozen in self._frozen(state).items():
            gradients[index] = ops.where(frozen, ops.zeros_like(gradients[index]), gradients[index])
        return result, gradients

    def held(self, state: State) -> dict[int, Tensor]:
        held = self.objective.held(state)
        for index, frozen in self._frozen(state).items():
            held[index] = held[index] | frozen if index in held else frozen
        return held

    def _frozen(self, state: State) -> dict[int, Tensor]:
        step = ops.cast(state.step, "int32")
        return {index: _any([_within(step, span) for span in spans]) for index, spans in self.spans.items()}


def _within(step: Tensor, span: Span) -> Tensor:
    start, end = span
    return (step >= start) if end is None else (step >= start) & (step < end)


def _any(conditions: list[Tensor]) -> Tensor:
    first, *others = conditions
    for other in others:
        first = first | other
    return first


def _checked(pattern: str, span: Sequence[int | None]) -> Span:
    try:
        start, end = span
        first, last = int(start or 0), None if end is None else int(end)
        valid = (first, last) == (start, end) and first >= 0 and (last is None or last > first)
    except (TypeError, ValueError):
        valid = False
    if not valid:
        raise ConfigError(
            f"Freeze: the span of {pattern!r} is {span!r}; expected (from, until) in steps, 0 <= from < until, or "
            "until=None for good"
        )
    return first, last
