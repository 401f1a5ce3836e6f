"""Indices beyond a table: JAX reads NaN or another row there without a word, so they are refused."""

from collections.abc import Mapping

import keras
import numpy as np

from qingformer import backend
from qingformer.errors import DataError
from qingformer.losses.loss import ClassLoss
from qingformer.types import Nest


def index_limits(model: keras.Model) -> dict[str, tuple[int, str]]:
    """For each input of a functional model that goes into an embedding: its number of rows, and the layer's name.

    Example: `index_limits(backbone)` is `{"token_ids": (21128, "token_embedding"), ...}`
    """
    found: dict[str, tuple[int, str]] = {}
    for layer in model._flatten_layers(include_self=False):
        if not isinstance(layer, keras.layers.Embedding | keras.layers.ReversibleEmbedding):
            continue
        for node in layer._inbound_nodes:
            for tensor in node.input_tensors:
                source = tensor._keras_history.operation
                if isinstance(source, keras.layers.InputLayer):
                    known = found.get(source.name)
                    if known is None or layer.input_dim < known[0]:
                        found[source.name] = (layer.input_dim, layer.name)
    return found


def check_indices(inputs: Nest, limits: Mapping[str, tuple[int, str]], names: list[str]) -> None:
    """Refuse indices in `inputs` (a nest, or a data set with `index_ranges`) that a table does not have.

    What is not known yet, within a compiled function, is passed over. `names` are those of the inputs, in their order.

    Raises:
        DataError: names the input, the index, and the size of the table.
    """
    if hasattr(inputs, "index_ranges"):
        for name, (least, largest) in inputs.index_ranges().items():
            if name in limits:
                _check(name, least, largest, limits[name])
        return
    given = inputs.items() if isinstance(inputs, Mapping) else zip(names, keras.tree.flatten(inputs))
    for name, values in given:
        known = backend.known_values(values) if name in limits else None
        if known is not None and known.size:
            _check(name, int(known.min()), int(known.max()), limits[name])


def check_labels(labels: Nest, outputs: Nest, losses: object) -> None:
    """Refuse class numbers of one output of classes that has not so many.

    Raises:
        DataError: names the label and the number of classes.
    """
    function = getattr(losses, "fn", losses)
    sparse = function in (keras.losses.sparse_categorical_crossentropy, "sparse_categorical_crossentropy")
    if not (sparse or isinstance(losses, ClassLoss)) or not hasattr(outputs, "shape"):
        return
    known = backend.known_values(labels)
    rank, classes = len(outputs.shape), outputs.shape[-1]
    if known is None or not known.size or classes is None or not np.all(np.isfinite(known)):
        return
    if known.ndim != rank - 1 and not (known.ndim == rank and known.shape[-1] == 1):
        return
    ignored = getattr(losses, "_fn_kwargs", {}).get("ignore_class")
    known = known if ignored is None else known[known != ignored]
    if known.size and (known.max() >= classes or (sparse and known.min() < 0)):
        wrong = int(known.max() if known.max() >= classes else known.min())
        raise DataError(f"label {wrong}, but the model has {classes} classes; labels are 0 to {classes - 1}")


def _check(name: str, least: int, largest: int, limit: tuple[int, str]) -> None:
    rows, layer = limit
    if least < 0 or largest >= rows:
        wrong = largest if largest >= rows else least
        raise DataError(
            f"{name}: index {wrong}, but the table {layer} has {rows} rows; indices are 0 to {rows - 1}: use the "
            "vocabulary that belongs to the model"
        )
