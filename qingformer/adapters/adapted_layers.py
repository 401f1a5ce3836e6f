"""Which layers of a model have low-rank adapters, in a form that a model's configuration can hold."""

from collections.abc import Iterator
from typing import Any

import keras

from qingformer.adapters.low_rank_layer import LowRank
from qingformer.errors import ConfigError

Config = dict[str, Any]


def dense_layers(model: keras.Model) -> dict[str, LowRank]:
    """The dense layers of a model by path, layers within layers included."""
    found = (layer for layer in model._flatten_layers(include_self=False) if isinstance(layer, LowRank))
    return dict(sorted(((layer.path, layer) for layer in found), key=lambda item: _natural(item[0])))


def adapted_layers(model: keras.Model) -> dict[str, LowRank]:
    """Those of them that have adapters."""
    return {path: layer for path, layer in dense_layers(model).items() if layer.lora_enabled}


def check_dense_alone(model: keras.Model, method: str) -> None:
    """Refuse a model in which layers other than dense ones have adapters, by Keras' own `enable_lora`.

    A token table is tied to the output, which reads it transposed: its update acts on both sides, and only the whole
    table can be written.

    Raises:
        ConfigError: names the layer.
    """
    for layer in model._flatten_layers(include_self=False):
        if getattr(layer, "lora_enabled", False) and not isinstance(layer, LowRank):
            tied = ", a table that is tied to the output" if hasattr(layer, "tie_weights") else ""
            raise ConfigError(
                f"{method}: {layer.path or layer.name}{tied}, has an adapter of Keras' own, which is neither "
                "merged nor saved alone; save_pretrained writes the sum"
            )


def keyed_variables(model: keras.Model) -> dict[str, keras.Variable]:
    """Every variable of a model's layers as "path of the layer/name": the path of a variable made late is shorter."""
    return {
        f"{layer.path or layer.name}/{variable.name}": variable
        for layer in model._flatten_layers(include_self=False)
        for variable in _own_variables(layer)
    }


def low_rank_config(model: keras.Model) -> Config | None:
    """Rank, alpha and start of every adapted layer, and what is trainable; None if there are no adapters.

    Layers are told by their place among all: the path of a layer within a layer changes when a file is read.
    """
    layers = {
        str(index): {"rank": layer.lora_rank, "alpha": layer.lora_alpha, "symmetric": layer.lora_symmetric}
        for index, layer in enumerate(_all_layers(model))
        if isinstance(layer, LowRank) and layer.lora_enabled
    }
    trained = [f"{index}/{variable.name}" for index, variable in _placed_variables(model) if variable.trainable]
    return {"layers": layers, "trainable": trained} if layers else None


def restore_low_rank(model: keras.Model, config: Config) -> None:
    """Give a new model the adapters that `low_rank_config` described; their values come with the weights."""
    layers: list[Any] = _all_layers(model)
    for index, settings in config["layers"].items():
        layer = layers[int(index)]
        if not layer.lora_enabled:
            layer.enable_lora(settings["rank"], settings["alpha"])
        if settings["symmetric"] and not layer.lora_symmetric:
            layer.add_start()
    model.trainable = True
    trained = set(config["trainable"])
    for index, variable in _placed_variables(model):
        variable.trainable = f"{index}/{variable.name}" in trained


def train_only(model: keras.Model, keys: set[str]) -> None:
    """Make the variables with these keys trainable and no others."""
    model.trainable = True
    for key, variable in keyed_variables(model).items():
        variable.trainable = key in keys


def _all_layers(model: keras.Model) -> list[keras.layers.Layer]:
    return list(model._flatten_layers(include_self=False))


def _placed_variables(model: keras.Model) -> Iterator[tuple[int, keras.Variable]]:
    for index, layer in enumerate(_all_layers(model)):
        yield from ((index, variable) for variable in _own_variables(layer))


def _own_variables(layer: keras.layers.Layer) -> Iterator[keras.Variable]:
    yield from layer._trainable_variables
    yield from layer._non_trainable_variables


def _natural(path: str) -> list[tuple[int, Any]]:
    """Sorts block_10 behind block_9."""
    return [(0, int(part)) if part.isdigit() else (1, part) for part in path.replace("/", "_").split("_")]
