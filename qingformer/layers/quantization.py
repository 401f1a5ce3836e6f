"""Which layers of a model are quantised, for `.keras` files: layers within layers do not tell Keras."""

from typing import Any

import keras

Config = dict[str, dict[str, Any]]


def quantization_config(model: keras.Model) -> Config | None:
    """Mode and settings of every quantised layer, by its place among all layers; None if there is none."""
    found = {}
    for index, layer in enumerate(model._flatten_layers(include_self=False)):
        mode = getattr(layer, "quantization_mode", None)
        if mode is not None:
            settings = getattr(layer, "quantization_config", None)
            found[str(index)] = {"mode": mode, "settings": keras.saving.serialize_keras_object(settings)}
    return found or None


def restore_quantization(model: keras.Model, config: Config) -> None:
    """Quantise the layers of a new model that `quantization_config` named; their values come with the weights."""
    layers: list[Any] = list(model._flatten_layers(include_self=False))
    for index, wanted in config.items():
        layer = layers[int(index)]
        if layer.quantization_mode is None:
            settings = keras.saving.deserialize_keras_object(wanted["settings"])
            layer.quantize(wanted["mode"], type_check=False, config=settings)
