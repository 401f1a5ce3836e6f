"""Freezing, and the weights of a model seen through its low-rank adapters."""

import re
from collections.abc import Iterator

import keras
import numpy as np
from keras import ops

from qingformer.adapters.low_rank_layer import LowRank
from qingformer.errors import CheckpointError, ConfigError


def is_weight(variable: keras.Variable) -> bool:
    """Whether a checkpoint holds the variable: not the state of a random generator, not an adapter's."""
    return not re.search(r"(seed_generator_state|lora_\w+)$", variable.path)


def named_variables(model: keras.Model) -> dict[str, keras.Variable]:
    """The weights of a model by path."""
    return {variable.path: variable for variable in model.variables if is_weight(variable)}


def weight_arrays(model: keras.Model) -> dict[str, np.ndarray]:
    """The weights as arrays by path; a kernel with a low-rank update is given as the sum.

    Errors: `CheckpointError` for quantized layers, whose weights checkpoints do not hold.
    """
    merged = {}
    for layer in all_layers(model):
        if getattr(layer, "quantization_mode", None) is not None:
            raise CheckpointError(
                f"{layer.path} is quantized ({layer.quantization_mode}): save before quantize(), or as .keras"
            )
        if isinstance(layer, LowRank) and layer.lora_enabled:
            merged[f"{layer.path}/kernel"] = layer.merged_kernel()
        elif getattr(layer, "lora_enabled", False):
            name = "embeddings" if isinstance(layer, keras.layers.Embedding) else "kernel"
            merged[f"{layer.path}/{name}"] = ops.convert_to_numpy(getattr(layer, name))
    return {
        path: merged[path] if path in merged else ops.convert_to_numpy(variable.value)
        for path, variable in named_variables(model).items()
    }


def all_layers(model: keras.Model) -> Iterator[keras.layers.Layer]:
    """Every layer of a model, layers within layers included, the model itself not."""
    return (layer for layer in model._flatten_layers(include_self=False))


def freeze(model: keras.Model, pattern: str) -> list[str]:
    """See `PretrainedModel.freeze`."""
    with_weights = [layer for layer in all_layers(model) if layer.variables]
    matching = [layer for layer in with_weights if re.search(pattern, layer.path or layer.name)]
    if not matching:
        names = ", ".join(layer.name for layer in model.layers if layer.variables)
        raise ConfigError(f"freeze: no layer matches {pattern!r}; layers are {names}")
    for layer in matching:
        layer.trainable = False
    return [layer.path or layer.name for layer in matching]
