"""Gradient accumulation inside of one step: the gradient of a large batch with the memory of a small one."""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from qingformer import backend
from qingformer.errors import ConfigError
from qingformer.losses.means import rows_with_weight
from qingformer.objectives.objective import Aux, Batch, Objective, State, Transform, TransformedObjective
from qingformer.objectives.reduction import PLAIN, SUM, reductions
from qingformer.types import Config, Nest, Tensor

Result = tuple[tuple[Tensor, Aux], list[Tensor]]
_TINY = 1e-20  # weight of a part that counts for nothing, so that a batch of such parts is not divided by zero


@keras.saving.register_keras_serializable("qingformer")
class GradientAccumulation(Transform):
    """Cut each batch into parts, compute their gradients one after the other, and give the optimizer the mean.

        g = sum_i w_i g_i / sum_i w_i,   i = 1 .. parts

    with g_i the gradient of part i and w_i what its loss was divided by. This is the gradient of the whole batch: for
    Keras' mean over the batch, with or without sample weights, the w_i are equal; for an output with a Keras mask w_i
    counts what the mask keeps, for `mean_with_sample_weight` it is the sum of the weights; for `sum` nothing is divided
    and the parts are added. Loss, logs, metrics and the update are those of the whole batch, in one step of the
    optimizer and of its schedule, with one additional copy of the gradient in memory (float32) and the activations of
    one part. Put it behind other transforms: `[FGM(0.5), GradientAccumulation(4)]` perturbs for each part anew; the
    other way round FGM finds one perturbation for the whole batch, and both of its passes are divided.

    What differs from the undivided batch: dropout draws other masks, moving statistics are updated for each part in
    turn, and losses that compare the examples of a batch with each other (contrastive ones, batch normalisation) see
    those of one part only. `state.part` tells the inner transforms which part they see.

    Keras' own `gradient_accumulation_steps` waits over several batches instead: there each of them is a step of `fit`
    and of the schedule, and on JAX the whole update is computed every time and mostly thrown away.

    Args:
        parts: how many. A batch whose size this does not divide is cut into the next larger number of equal parts (10
            examples with `parts=4`: 5 parts of 2; 7 examples: 7 parts), so that no part is ever larger than promised.

    Raises:
        ConfigError: `parts` is not a whole number above 0; in `compile`, several outputs whose losses are averaged in
            different ways; in the first step, several outputs with Keras masks or weighted means, or inputs with
            different numbers of rows.

    Source: the sum of gradients is exact; Ott et al. 2018, arXiv 1806.00187, use it to train with large batches.

    Example:
        >>> model.compile("adam", "sparse_categorical_crossentropy", transforms=[GradientAccumulation(4)])
        >>> model.fit(x, y, batch_size=128)  # memory as for 32
    """

    def __init__(self, parts: int = 2) -> None:
        if int(parts) != parts or parts < 1:
            raise ConfigError(f"GradientAccumulation: parts is {parts}; it must be a whole number, 1 or more")
        self.parts = int(parts)

    def build(self, model: keras.Model) -> None:
        """Check that the parts' losses can be put together."""
        kinds = set(reductions(model))
        # A mean and a sum put together from parts need different weights, and the parts have one.
        if len(kinds - set(PLAIN)) + bool(kinds & set(PLAIN)) > 1:
            raise ConfigError(
                f"GradientAccumulation: the losses are reduced in different ways ({', '.join(sorted(kinds))}), so the "
                "parts have no common weight; give all outputs the same reduction"
            )

    def __call__(self, objective: Objective) -> Objective:
        """The objective, evaluated part by part."""
        return objective if self.parts == 1 else _Accumulated(objective, self.parts)

    def get_config(self) -> Config:
        """The constructor's arguments."""
        return {"parts": self.parts}


class _Accumulated(TransformedObjective):
    def __init__(self, objective: Objective, parts: int) -> None:
        super().__init__(objective)
        self.parts = parts
        kinds = reductions(objective.model)
        self.summed = SUM in kinds
        # Several outputs whose means are over the rows that have a weight, the same for all.
        self.by_rows = getattr(objective.model, "_only_weighted", False) and len(kinds) > 1 and set(kinds) <= set(PLAIN)

    def __call__(self, trainable: list[Tensor], state: State, batch: Batch) -> tuple[Tensor, Aux]:
        return self._in_parts(lambda *part: (self.objective(trainable, *part), []), [], state, batch)[0]

    def value_and_grad(self, trainable: list[Tensor], state: State, batch: Batch) -> Result:
        evaluate = self.objective.value_and_grad
        return self._in_parts(lambda *part: evaluate(trainable, *part), trainable, state, batch)

    def _in_parts(
        self, evaluate: Callable[[State, Batch], Result], like: list[Tensor], state: State, batch: Batch
    ) -> Result:
        parts, divided = _divide(batch, self.parts)

        def one_part(carry: Any, element: Any) -> Any:
            sums, non_trainable, metrics = carry
            index, part = element
            here = state._replace(non_trainable=non_trainable, metrics=metrics, part=state.part * parts + index)
            part = Batch(*part)
            # Below, parts are averaged; a sum over the batch is the mean of `parts` times as large sums.
            if self.summed:
                part = part._replace(sample_weight=_times(part.sample_weight, parts))
            (loss, aux), gradients = evaluate(here, part)
            weight = _weight_of(aux, part, self.by_rows)
            terms = [weight, weight * _float(loss), weight * _float(aux.loss), *(weight * _float(g) for g in gradients)]
            sums = [total + term for total, term in zip(sums, terms)]
            return (sums, list(aux.state.non_trainable), list(aux.state.metrics)), aux.predictions

        # Weight, scaled loss, plain loss, gradients: all summed in float32, whatever the weights are kept in.
        zeros = [ops.zeros(())] * 3 + [ops.zeros(ops.shape(value), "float32") for value in like]
        start = (zeros, list(state.non_trainable), list(state.metrics))
        elements = (ops.arange(parts, dtype="int32"), tuple(divided))
        (sums, non_trainable, metrics), predictions = backend.scan(one_part, start, elements, parts)
        total, loss, plain_loss, *gradients = sums
        after = state._replace(non_trainable=non_trainable, metrics=metrics)
        aux = Aux(plain_loss / total, keras.tree.map_structure(_joined, predictions), after, (total,))
        return (loss / total, aux), [ops.cast(g / total, value.dtype) for g, value in zip(gradients, like)]


def _times(sample_weight: Nest, parts: object) -> Any:
    """Under the reduction `sum` the mean over the parts is right if each counts as often as there are parts."""
    parts = ops.cast(parts, "float32")
    if sample_weight is None:
        return parts  # fits losses of any shape; only with a Keras mask on torch, Keras wants the shape of the mask
    return keras.tree.map_structure(lambda w: None if w is None else _float(w) * parts, sample_weight)


def _weight_of(aux: Aux, batch: Batch, by_rows: bool) -> Tensor:
    known = [weight for weight in aux.weights if weight is not None]
    if not known:
        return ops.ones(())
    if by_rows and not keras.tree.is_nested(batch.sample_weight):
        return ops.maximum(rows_with_weight(batch.sample_weight), _TINY)
    if len(aux.weights) > 1:
        raise ConfigError(
            "GradientAccumulation: of several outputs at least one has a Keras mask or a loss with the reduction "
            "mean_with_sample_weight, so the parts have no common weight; pass sample weights instead of masks, with "
            "the reduction sum_over_batch_size"
        )
    return ops.maximum(_float(known[0]), _TINY)


def _float(array: Tensor) -> Tensor:
    return ops.cast(array, "float32")


def _rows(batch: Batch) -> Any:
    """The number of examples: a whole number, or a tensor where TensorFlow does not know it yet."""
    sizes = [ops.shape(leaf)[0] for leaf in keras.tree.flatten(tuple(batch)) if leaf is not None]
    known = {size for size in sizes if isinstance(size, int)}
    if len(known) > 1:
        raise ConfigError(f"GradientAccumulation: the arrays of a batch have {sorted(known)} rows; they must agree")
    return known.pop() if known else sizes[0]


def _parts(rows: Any, parts: int) -> Any:
    """The smallest number of equal parts that is not below `parts`; `rows` if there are fewer."""
    if isinstance(rows, int):
        # The next number of parts that divides the rows: all parts must have one shape, or each would be compiled.
        return next((n for n in range(parts, rows) if rows % n == 0), max(rows, 1))
    numbers = ops.arange(1, rows + 1, dtype="int32")
    return ops.min(ops.where((rows % numbers == 0) & (numbers >= parts), numbers, rows))


def _divide(batch: Batch, parts: int) -> tuple[Any, Batch]:
    rows = _rows(batch)
    found = _parts(rows, parts)

    def divide(leaf: Tensor) -> Tensor:
        return None if leaf is None else ops.reshape(leaf, (found, rows // found, *ops.shape(leaf)[1:]))

    return found, Batch(*(keras.tree.map_structure(divide, part) for part in batch))


def _joined(stacked: Tensor) -> Tensor:
    shape = ops.shape(stacked)
    return ops.reshape(stacked, (shape[0] * shape[1], *shape[2:]))
