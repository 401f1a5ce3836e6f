"""Paths and shapes of models' weights without the weights: to see what a checkpoint can fill before loading it."""

from collections.abc import Sequence
from typing import Any

import keras

from qingformer.backend.keras_internals import global_state
from qingformer.models.backbone import Backbone
from qingformer.models.config import BackboneConfig

WAITING = "uninitialized_variables"


def weight_shapes(kinds: Sequence[type], config: BackboneConfig) -> list[dict[str, tuple[int, ...]]]:
    """For each kind of model over one body the shapes of its weights by path; no memory is taken for weights.

    `kinds` are `Backbone` and classes of heads. Errors: `ConfigError` for a head that the body cannot have.

    Example: `weight_shapes([Backbone, MaskedLM], BackboneConfig(vocab_size=21128))`
    """
    # Keras notes the variables of a stateless scope, to fill them at the next occasion: never these.
    before = list(global_state.get_global_attribute(WAITING) or [])
    try:
        with keras.StatelessScope(initialize_variables=False):
            body = Backbone(config, initializer="zeros")
            models: list[Any] = [body if kind is Backbone else kind(body, initializer="zeros") for kind in kinds]
    finally:
        global_state.set_global_attribute(WAITING, before)
    return [{path: tuple(v.shape) for path, v in model.named_variables().items()} for model in models]
