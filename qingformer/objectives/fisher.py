"""Fisher information of the weights, from one pass over labelled data."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from qingformer import backend
from qingformer.errors import ConfigError, DataError
from qingformer.losses.means import over_all_rows
from qingformer.objectives.reduction import SUM, reductions
from qingformer.objectives.rows import Rows, rows_of
from qingformer.types import Nest, Tensor


def fisher_information(
    model: keras.Model,
    data: tuple[Any, ...],
    indices: list[int],
    *,
    samples: int | None = None,
    group: int = 1,
    owner: str = "fisher_information",
) -> list[np.ndarray]:
    """The diagonal of the empirical Fisher information of some weights.

        F_i = 1/N sum_j (d log p(y_j | x_j) / d theta_i)^2

    where -log p is the compiled loss of example j alone, without regularisation, dropout being off. Gradients are those
    of single examples, one after the other, so that memory is that of one. Rows whose weights are all 0 (padding) are
    left out; weights of whole examples, of shape (B,), do not count otherwise.

    Args:
        model: compiled, with its weights as they are to be measured.
        data: `(x, y, sample_weight, batch_size)` as `fit` takes them; see `rows_of`.
        indices: which entries of `model.trainable_variables`.
        samples: measure on the first so many examples; None for all.
        group: examples in one gradient. Above 1 it is faster and no longer exact: group * (mean gradient)^2 takes the
            place of the sum of squares, so that F has group times the square of the mean gradient in it, instead of
            once.
        owner: who asks; the errors begin with it.

    Returns:
        for each index a float32 array with the shape of the weight.

    Raises:
        ConfigError: data that cannot be read twice or never end, or a result that is not finite.
        DataError: no examples.

    Source: the empirical Fisher information as a measure of importance: Xu et al. 2021, arXiv 2109.05687.

    Example:
        >>> kernel, bias = fisher_information(model, (x, y, None, 32), [0, 1])
    """
    sums = [ops.zeros(model.trainable_variables[i].shape, "float32") for i in indices]
    count, add = 0, None
    for rows in rows_of(data, owner, endless=samples is not None):
        if add is None:
            model._symbolic_build(data_batch=rows)  # makes what the losses of several outputs keep
            add = backend.compile(_summation(model, indices))
            trainable = [v.value for v in model.trainable_variables]
            others = [v.value for v in [*model.non_trainable_variables, *model.metrics_variables]]
        # Rows that only fill a batch have weight 0 and are no examples.
        kept = _kept(rows)
        if samples is not None:
            # The batch in which the number is reached counts up to that row only.
            kept &= count + np.cumsum(kept) <= samples
        sums = add(trainable, others, sums, *_grouped(rows, kept, group))
        count += int(kept.sum())
        if samples is not None and count >= samples:
            break
    return _means(model, indices, sums, count, owner)


def _summation(model: keras.Model, indices: list[int]) -> Callable[..., list[Tensor]]:
    """`(trainable, others, sums, groups, kept) -> sums`, with the groups of a batch one after the other."""
    factor_is_size = SUM not in reductions(model)
    split = len(model.non_trainable_variables)

    def loss_of(
        chosen: list[Tensor], trainable: list[Tensor], others: list[Tensor], x: Nest, y: Nest, weight: object
    ) -> Tensor:
        values = list(trainable)
        for index, value in zip(indices, chosen):
            values[index] = value
        predictions, _ = model.stateless_call(values, others[:split], x, training=False)
        model._losses_override = [ops.zeros(())]  # instead of the regularisation
        try:
            with over_all_rows(model):
                loss, _ = model.stateless_compute_loss(
                    values, others[:split], others[split:], x=x, y=y, y_pred=predictions, sample_weight=weight,
                    training=False,
                )  # fmt: skip
        finally:
            model._losses_override = []
        return loss

    def add(
        trainable: list[Tensor], others: list[Tensor], sums: list[Tensor], groups: Any, kept: Tensor
    ) -> list[Tensor]:
        def one_group(sums: list[Tensor], element: Any) -> tuple[list[Tensor], Tensor]:
            (x, y, weight), kept = element
            chosen = [trainable[index] for index in indices]
            loss, gradients = backend.value_and_grad(loss_of)(chosen, trainable, others, x, y, weight)
            # A mean over the group divides the gradient by its size, which is taken back here.
            size = ops.cast(ops.shape(kept)[0] if factor_is_size else 1, "float32")
            # At least 1: a group of padding alone adds zero, but must not divide by it.
            number = ops.maximum(ops.sum(ops.cast(kept, "float32")), 1.0)
            precise = [ops.cast(g, "float32") * size for g in gradients]
            counted = ops.any(kept)
            return [s + ops.where(counted, g**2 / number, 0.0) for s, g in zip(sums, precise)], loss

        return backend.scan(one_group, sums, (groups, kept), ops.shape(kept)[0])[0]

    return add


def _kept(rows: Rows) -> np.ndarray:
    """Which rows count, (B,) bool: those with any weight that is not 0."""
    count = len(next(leaf for leaf in keras.tree.flatten(rows) if leaf is not None))
    weights = [w.reshape(count, -1) for w in keras.tree.flatten(rows[2]) if w is not None]
    if not weights:
        return np.ones(count, bool)
    return np.any([w.any(-1) for w in weights], axis=0)


def _grouped(rows: Rows, kept: np.ndarray, group: int) -> tuple[Rows, np.ndarray]:
    """The batch as (groups, group, ...), filled up with rows that do not count."""
    # Filled up to whole groups with row 0, which is not kept.
    missing = -len(kept) % group
    numbers = np.concatenate([np.arange(len(kept)), np.zeros(missing, int)])
    kept = np.concatenate([kept, np.zeros(missing, bool)])

    def cut(leaf: Nest) -> Any:
        return None if leaf is None else leaf[numbers].reshape(-1, group, *leaf.shape[1:])

    x, y, weight = (keras.tree.map_structure(cut, part) for part in rows)
    kept = kept.reshape(-1, group)
    counted = kept.astype("float32")
    if weight is None:
        weight = counted
    else:  # whole examples count or do not; tokens keep their weights

        def weigh(leaf: Nest) -> Any:
            # (groups, group) against weights (groups, group, ...) of tokens.
            by_row = counted.reshape(*counted.shape, *[1] * (leaf.ndim - 2))
            return counted if leaf.size == counted.size else (leaf * by_row).astype("float32")

        weight = keras.tree.map_structure(lambda leaf: None if leaf is None else weigh(leaf), weight)
    return (x, y, weight), kept


def _means(model: keras.Model, indices: list[int], sums: list[Tensor], count: int, owner: str) -> list[np.ndarray]:
    if not count:
        raise DataError(f"{owner}: the data hold no example with a weight above 0")
    means = [np.asarray(ops.convert_to_numpy(s)) / np.float32(count) for s in sums]
    for index, mean in zip(indices, means):
        if not np.isfinite(mean).all():
            raise ConfigError(
                f"{owner}: the gradient of {model.trainable_variables[index].path} is not finite for some example; "
                "look at the data and the loss"
            )
    return means
