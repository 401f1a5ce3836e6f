"""Freezing, low-rank adapters, and the weights of a model seen through them."""

import re
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from qingformer.errors import CheckpointError, ConfigError


def is_weight(variable: keras.Variable) -> bool:
    """Whether a checkpoint holds the variable: not the state of a random generator, not an adapter's."""
    return not re.search(r"(seed_generator_state|lora_\w+)$", variable.path)


def named_variables(model: Any) -> dict[str, keras.Variable]:
    """The weights of a model by path."""
    return {variable.path: variable for variable in model.variables if is_weight(variable)}


def weight_arrays(model: Any) -> dict[str, np.ndarray]:
    """The weights as arrays by path; a kernel with a low-rank update is given as the sum.

    Errors: `CheckpointError` for quantized layers, whose weights checkpoints do not hold.
    """
    merged = {}
    for layer in all_layers(model):
        if getattr(layer, "quantization_mode", None) is not None:
            raise CheckpointError(
                f"{layer.path} is quantized ({layer.quantization_mode}): save before quantize(), or as .keras"
            )
        if getattr(layer, "lora_enabled", False):
            name = "embeddings" if isinstance(layer, keras.layers.Embedding) else "kernel"
            merged[f"{layer.path}/{name}"] = getattr(layer, name)
    return {
        path: ops.convert_to_numpy(merged.get(path, variable.value))
        for path, variable in named_variables(model).items()
    }


def all_layers(model: Any) -> Iterator[keras.layers.Layer]:
    """Every layer of a model, layers within layers included, the model itself not."""
    return (layer for layer in model._flatten_layers(include_self=False))


def enable_lora(model: Any, rank: int, targets: Sequence[str]) -> list[str]:
    """See `PretrainedModel.enable_lora`."""
    dense = [layer for layer in all_layers(model) if isinstance(layer, keras.layers.Dense)]
    chosen = [layer for layer in dense if layer.name in targets]
    absent = set(targets) - {layer.name for layer in chosen}
    if absent or rank < 1:
        names = ", ".join(sorted({layer.name for layer in dense}))
        what = f"no dense layer named {', '.join(sorted(absent))}" if absent else f"rank {rank} is not positive"
        raise ConfigError(f"enable_lora: {what}; dense layers are {names}")
    model.trainable = True
    for layer in all_layers(model):
        if not list(layer._layers):
            layer.trainable = False
    for layer in chosen:
        layer.trainable = True
        layer.enable_lora(rank)
        if layer.bias is not None:
            layer.bias.trainable = False
    return [layer.path for layer in chosen]


def freeze(model: Any, pattern: str) -> list[str]:
    """See `PretrainedModel.freeze`."""
    with_weights = [layer for layer in all_layers(model) if layer.variables]
    matching = [layer for layer in with_weights if re.search(pattern, layer.path or layer.name)]
    if not matching:
        names = ", ".join(layer.name for layer in model.layers if layer.variables)
        raise ConfigError(f"freeze: no layer matches {pattern!r}; layers are {names}")
    for layer in matching:
        layer.trainable = False
    return [layer.path or layer.name for layer in matching]
