"""Layers on top of an encoder that score tokens, spans or pairs of tokens, started from one seed."""

from typing import Any

import keras

from qingformer.errors import ConfigError
from qingformer.layers import (
    Dropout,
    EfficientGlobalPointer,
    GlobalPointer,
)
from qingformer.models import Backbone
from qingformer.objectives import TrainableModel
from qingformer.tasks.seeded import SeededLecunNormal, SeededNormal
from qingformer.types import Options

# Heads that score spans; those that score tags are in `tagging/tagger_networks.py`.
POINTERS = ("global_pointer", "efficient_global_pointer")


class HeadBuilder:
    """Makes the layers on top of an encoder: they read the vectors of its tokens after dropout.

    `task` names the task in messages, as "a tagger".
    """

    def __init__(self, backbone: Backbone, dropout: float, seed: int, task: str) -> None:
        if not 0.0 <= dropout < 1.0:
            raise ConfigError(f"dropout is {dropout}; expected a probability below 1")
        if "decoder_token_ids" in backbone.input:
            raise ConfigError(
                f"{task} needs an encoder, but this {backbone.config.family} has application "
                f"{backbone.config.application!r}; load it with application='encoder'"
            )
        self.backbone, self.initializer = backbone, SeededNormal(0.02, seed)
        self.wide_initializer = SeededLecunNormal(seed)
        self.mask = backbone.input.get("padding_mask")
        dtype = backbone.dtype_policy
        self.vectors = Dropout(dropout, name="task_dropout", dtype=dtype)(backbone.output["sequence_output"])

    def dense(self, size: int, name: str, x: object = None) -> Any:
        """A linear layer to float32."""
        layer = keras.layers.Dense(size, kernel_initializer=self.initializer, name=name, dtype="float32")
        return layer(self.vectors if x is None else x)

    def pointer(self, kind: str, heads: int, name: str, **options: Any) -> Any:
        """Scores of pairs of tokens, (B, heads, T, T)."""
        maker = {"global_pointer": GlobalPointer, "efficient_global_pointer": EfficientGlobalPointer}[kind]
        options = {"kernel_initializer": self.wide_initializer, "dtype": self.backbone.dtype_policy} | options
        return maker(heads, name=name, **options)(self.vectors, self.mask)

    def model(self, outputs: object, name: str, more_inputs: Options | None = None) -> TrainableModel:
        """The model from the encoder's inputs, and others, to `outputs`."""
        return TrainableModel({**self.backbone.input, **(more_inputs or {})}, outputs, name=name)
