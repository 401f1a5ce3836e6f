"""Labelled rows out of what `fit` takes, for transforms that measure something before training."""

import copy
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from qingformer.errors import ConfigError
from qingformer.types import Nest

Rows = tuple[Any, Any, Any]  # inputs, labels, weights: nests of NumPy arrays, batch first; the last two may be None


# NumPy, one batch at a time, whatever the data come as.
def rows_of(data: tuple[Any, ...], owner: str, endless: bool = False) -> Iterator[Rows]:
    """Batches of `fit`'s `(x, y, sample_weight, batch_size)` as NumPy arrays, in order, without disturbing the data.

    Args:
        data: arrays or nests of arrays; or in place of `x` a `PyDataset`, a `tf.data.Dataset`, a `DataLoader`, or
            anything else that can be iterated again and again. `PaddedBatches` are read from the begin of their epoch.
        owner: who asks; the errors begin with it.
        endless: whether data without an end are allowed, because the caller stops.

    Raises:
        ConfigError: data that can be read only once, that never end, or that are nothing of the above.

    Example:
        >>> [len(x) for x, y, weight in rows_of((np.zeros((5, 2)), np.zeros(5), None, 2), "mine")]
        [2, 2, 1]
    """
    x, y, sample_weight, batch_size = data
    leaves = [leaf for leaf in keras.tree.flatten((x, y, sample_weight)) if leaf is not None]
    if all(hasattr(leaf, "shape") for leaf in leaves):
        yield from _slices(tuple(data[:3]), len(leaves[0]), batch_size or 32)
        return
    for item in _items(x, owner, endless):
        inputs, labels, weight = keras.utils.unpack_x_y_sample_weight(item)
        yield _as_numpy(inputs), _as_numpy(labels), _as_numpy(weight)


def _slices(arrays: Rows, count: int, batch_size: int) -> Iterator[Rows]:
    for start in range(0, count, batch_size):
        part = slice(start, start + batch_size)
        x, y, weight = (
            keras.tree.map_structure(lambda leaf: None if leaf is None else leaf[part], nest)  # noqa: B023
            for nest in arrays
        )
        yield _as_numpy(x), _as_numpy(y), _as_numpy(weight)


def _items(x: Nest, owner: str, endless: bool) -> Iterator[Any]:
    if isinstance(x, keras.utils.PyDataset):
        x = copy.copy(x)  # reading must not move on the epoch that training is about to begin
        if hasattr(x, "start_at"):
            x.start_at(getattr(x, "epoch", 0), 0)
        if x.num_batches is None and not endless:
            raise ConfigError(f"{owner}: the data have no end; say how many samples to measure on")
        index = 0
        while x.num_batches is None or index < x.num_batches:
            yield x[index]
            index += 1
        return
    if hasattr(x, "__next__"):
        raise ConfigError(
            f"{owner}: a {type(x).__name__} can be read only once, and {owner} reads the data before training; pass "
            "arrays, a keras.utils.PyDataset or another data set that can be iterated again"
        )
    if not hasattr(x, "__iter__"):
        raise ConfigError(f"{owner}: cannot read examples out of a {type(x).__name__}; pass arrays or a data set")
    if not endless and _is_infinite(x):
        raise ConfigError(f"{owner}: the data have no end; say how many samples to measure on")
    yield from x


def _is_infinite(x: Nest) -> bool:
    cardinality = getattr(x, "cardinality", None)  # of tf.data; -1 stands for infinite
    return callable(cardinality) and int(cardinality()) == -1


def _as_numpy(nest: Nest) -> Any:
    def convert(leaf: Nest) -> Any:
        if leaf is None:
            return None
        return keras.ops.convert_to_numpy(leaf) if keras.ops.is_tensor(leaf) else np.asarray(leaf)

    return keras.tree.map_structure(convert, nest)
