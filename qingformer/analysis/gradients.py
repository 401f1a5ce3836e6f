"""Gradients of a compiled model over many small batches, without changing the model."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import keras
import numpy as np
from keras import ops

from qingformer import backend
from qingformer.analysis.noise_scale import GradientMoments
from qingformer.errors import ConfigError
from qingformer.losses.means import over_all_rows
from qingformer.objectives import Batch, ModelObjective, Objective, State
from qingformer.types import Nest, Tensor

# Sums over millions of numbers lose their last digits in float32; all of them in float64 would not fit.
_CHUNK = 2**20  # columns of a product that are converted to float64 at a time


def measure_gradients(
    model: keras.Model,
    data: Nest,
    *,
    rows: int | None = None,
    examples: int | None = None,
    training: bool = False,
    objective: Objective | None = None,
    groups: int = 10,
    done: Callable[[int], None] | None = None,
) -> GradientMoments:
    """Take the gradient of the loss at the present weights over many small batches, and keep their moments.

    The gradients are those of the compiled loss, regularisation included, as training sees them; no variable of the
    model changes. Rows of weight 0 are padding and count as nothing; other weights scale the gradient of their row.

    Args:
        model: any compiled `keras.Model`.
        data: batches `(x, y)` or `(x, y, sample_weight)`, such as a list, a `PyDataset` or `PaddedBatches`; or one
            such tuple, with `rows`. They should be drawn at random: batches of one kind of example each have other
            means, which would pass for noise.
        rows: examples per gradient; each batch is cut into pieces of as many. None for one gradient per batch. With 1
            the variance is that between single examples; more are cheaper, and estimate the same.
        examples: stop when so many were seen; None to use all.
        training: whether dropout is on, fresh for every gradient: then its noise counts too.
        objective: what to differentiate instead, such as `model.objective()` with its transforms (always in training
            mode).
        groups: of batches for the error's estimate, at least 3; the sums of each are held in memory, 4 bytes a
            parameter.
        done: told after each gradient how many examples it was over.

    Raises:
        ConfigError: a model that is not compiled or has nothing to train; fewer than 3 gradients.

    Example:
        >>> moments = measure_gradients(model, (x, y), rows=8)
        >>> moments.noise_scale().value, {name: scale.value for name, scale in moments.by_layer().items()}
    """
    if groups < 3 or (rows is not None and rows < 1):
        raise ConfigError(f"groups is {groups} and rows {rows}; there must be at least 3 groups and 1 row")
    taken = Gradients(model, objective or ModelObjective(model, training))
    sums: list[list[np.ndarray]] = []
    squares: list[np.ndarray] = []
    counts: list[list[int]] = []
    loss = 0.0
    for index, (value, gradients, lengths, count) in enumerate(taken.over(pieces(data, rows), examples)):
        if index < groups:
            sums.append([np.zeros(g.shape, "float32") for g in gradients])
            squares.append(np.zeros(len(gradients)))
            counts.append([0, 0])
        here = index % groups  # dealt out, so that a slow change along the data falls on all groups
        for total, gradient in zip(sums[here], gradients):
            # Weighted by examples: the last batch may hold fewer.
            total += np.float32(count) * gradient
        squares[here] += count * lengths
        counts[here] = [counts[here][0] + count, counts[here][1] + 1]
        loss += count * value
        if done is not None:
            done(count)
    if len(sums) < 3:
        raise ConfigError(
            f"{len(sums)} gradients are too few to measure their noise; give more data or fewer rows each"
        )
    products = [np.stack([np.ravel(s[v]) for s in sums]) for v in range(len(sums[0]))]
    table = np.array(counts)
    return GradientMoments(
        names=tuple(v.path for v in model.trainable_variables),
        products=np.stack([_products(p) for p in products]),
        squares=np.stack(squares, axis=1),
        examples=table[:, 0],
        batches=table[:, 1],
        loss=loss / table[:, 0].sum(),
    )


class Gradients:
    """Compiled gradients of an objective at the model's weights, for one batch after another."""

    def __init__(self, model: keras.Model, objective: Objective) -> None:
        if not getattr(model, "compiled", False):
            raise ConfigError(f"model {model.name!r} is not compiled: call compile with its optimizer and loss first")
        if not model.trainable_variables:
            raise ConfigError(f"model {model.name!r} has no trainable variables; unfreeze some of its layers")
        self.model, self.objective = model, objective

        def compute(trainable: list[Tensor], state: State, batch: Batch) -> tuple[Tensor, ...]:
            with over_all_rows(model):  # `pieces` scales the weights
                (_, aux), gradients = objective.value_and_grad(trainable, state, batch)
            gradients = [ops.cast(g, "float32") for g in gradients]
            return aux.loss, gradients, ops.stack([ops.sum(g**2) for g in gradients]), aux.state.non_trainable

        self._compute = backend.compile(compute)

    def over(
        self, batches: Iterable[tuple[Batch, int]], examples: int | None = None
    ) -> Iterator[tuple[float, list[np.ndarray], np.ndarray, int]]:
        """Loss, gradients (float32), their squared norms (float64) and number of examples of each batch, until there
        were `examples`.
        """
        seen = 0
        trainable, state = self.trainable(), None
        with backend.repeated_randomness():  # what follows the measurement draws what it would have drawn
            for step, (batch, count) in enumerate(batches):
                if examples is not None and seen >= examples:
                    return
                state = self.state(batch) if state is None else state
                here = state._replace(step=ops.convert_to_tensor(step, "int32"))
                loss, gradients, squares, non_trainable = self._compute(trainable, here, batch)
                state = state._replace(non_trainable=non_trainable)
                arrays = [np.asarray(ops.convert_to_numpy(g)) for g in gradients]
                seen += count
                yield float(loss), arrays, np.asarray(ops.convert_to_numpy(squares), "float64"), count

    def trainable(self) -> list[Tensor]:
        """The present weights."""
        return [variable.value for variable in self.model.trainable_variables]

    def state(self, batch: Batch) -> State:
        """What the objective reads beside the weights; the losses' own variables are made from `batch` if need be."""
        loss = self.model._compile_loss
        if loss is not None and not loss.built:
            self.model._symbolic_build(data_batch=(batch.x, batch.y, batch.sample_weight))
        return State(
            [variable.value for variable in self.model.non_trainable_variables],
            [variable.value for variable in self.model.metrics_variables],
            ops.ones(()),
            ops.convert_to_tensor(0, "int32"),
            ops.convert_to_tensor(0, "int32"),
        )


def pieces(data: Nest, rows: int | None = None) -> Iterator[tuple[Batch, int]]:
    """Cut batches into pieces of `rows`, with how many examples of weight above 0 each holds; empty ones are left out.

    Keras divides a loss by the number of rows, padding included; the weights are scaled so that what comes out is the
    mean over the examples that count.
    """
    for item in _items(data):
        whole = Batch(*keras.utils.unpack_x_y_sample_weight(item))
        whole = Batch(*(_map(_as_array, part) for part in whole))
        size = len(next(leaf for leaf in keras.tree.flatten(whole.x) if leaf is not None))
        for start in range(0, size, rows or size):
            position = slice(start, start + (rows or size))
            piece = Batch(*(_map(lambda leaf: leaf[position], part) for part in whole))  # noqa: B023
            weights = [leaf for leaf in keras.tree.flatten(piece.sample_weight) if leaf is not None]
            held = min(size - start, rows or size)
            if not weights:
                yield piece, held
                continue
            counted = np.any([(w.reshape(held, -1) != 0).any(axis=1) for w in weights], axis=0).sum()
            if counted:
                scale = np.float32(held / counted)
                yield piece._replace(sample_weight=_map(lambda w: w * scale, piece.sample_weight)), int(counted)  # noqa: B023


def _items(data: Nest) -> Iterable[Any]:
    if isinstance(data, tuple):
        return [data]
    if isinstance(data, keras.utils.PyDataset):
        return (data[index] for index in range(len(data)))
    return data if isinstance(data, Iterable) else [data]


def _map(function: Callable[[Any], Any], part: object) -> Any:
    return keras.tree.map_structure(lambda leaf: None if leaf is None else function(leaf), part)


def _as_array(leaf: Nest) -> np.ndarray:
    array: np.ndarray = leaf if isinstance(leaf, np.ndarray) else np.asarray(ops.convert_to_numpy(leaf))
    return array.astype("float32") if array.dtype == "float64" else array


def _products(sums: np.ndarray) -> np.ndarray:
    """`sums @ sums.T` in float64: numbers of like size are subtracted from each other later."""
    total = np.zeros((len(sums), len(sums)))
    for start in range(0, sums.shape[1], _CHUNK):
        part = sums[:, start : start + _CHUNK].astype("float64")
        total += part @ part.T
    return total
