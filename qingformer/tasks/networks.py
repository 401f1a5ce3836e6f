"""The functional models of the structured tasks: an encoder, dropout, and layers that score tags, spans or pairs."""

from typing import Any

import keras

from qingformer.errors import ConfigError
from qingformer.layers import (
    ConditionalRandomField,
    Dropout,
    EfficientGlobalPointer,
    GlobalPointer,
    IndependentTags,
    MaximumEntropyMarkovModel,
)
from qingformer.layers.linear_chain import LinearChain
from qingformer.models import Backbone
from qingformer.objectives import TrainableModel
from qingformer.tasks.head import SeededLecunNormal, SeededNormal

CHAINS = ("crf", "memm", "softmax")
POINTERS = ("global_pointer", "efficient_global_pointer")


class OnTop:
    """What stands on an encoder: the vectors of the tokens after dropout, and layers that start from one seed."""

    def __init__(self, backbone: Backbone, dropout: float, seed: int, what: str) -> None:
        if not 0.0 <= dropout < 1.0:
            raise ConfigError(f"dropout is {dropout}; expected a probability below 1")
        if "decoder_token_ids" in backbone.input:
            raise ConfigError(
                f"{what} needs an encoder, but this {backbone.config.family} has application "
                f"{backbone.config.application!r}; load it with application='encoder'"
            )
        self.backbone, self.initializer = backbone, SeededNormal(0.02, seed)
        self.wide_initializer = SeededLecunNormal(seed)
        self.mask = backbone.input.get("padding_mask")
        dtype = backbone.dtype_policy
        self.vectors = Dropout(dropout, name="task_dropout", dtype=dtype)(backbone.output["sequence_output"])

    def dense(self, size: int, name: str, x: Any = None) -> Any:
        """A linear layer to float32."""
        layer = keras.layers.Dense(size, kernel_initializer=self.initializer, name=name, dtype="float32")
        return layer(self.vectors if x is None else x)

    def pointer(self, kind: str, heads: int, name: str, **options: Any) -> Any:
        """Scores of pairs of tokens, (B, heads, T, T)."""
        maker = {"global_pointer": GlobalPointer, "efficient_global_pointer": EfficientGlobalPointer}[kind]
        options = {"kernel_initializer": self.wide_initializer, "dtype": self.backbone.dtype_policy} | options
        return maker(heads, name=name, **options)(self.vectors, self.mask)

    def model(self, outputs: Any, name: str, more_inputs: dict[str, Any] | None = None) -> TrainableModel:
        """The model from the encoder's inputs, and others, to `outputs`."""
        return TrainableModel({**self.backbone.input, **(more_inputs or {})}, outputs, name=name)


def chain_layer(head: str, lr_multiplier: float, seed: int) -> LinearChain:
    """The layer that reads the scores of tags as paths."""
    start = keras.initializers.GlorotUniform(seed=seed)
    if head == "crf":
        return ConditionalRandomField(lr_multiplier=lr_multiplier, initializer=start, name="crf")
    if head == "memm":
        return MaximumEntropyMarkovModel(lr_multiplier=lr_multiplier, initializer=start, name="memm")
    return IndependentTags(name="tags")


def chain_model(backbone: Backbone, layer: LinearChain, tags: int, dropout: float, seed: int) -> TrainableModel:
    """Scores of tags (B, T, tags) float32, read by a chain."""
    top = OnTop(backbone, dropout, seed, "a tagger")
    return top.model(layer(top.dense(tags, "emissions")), "sequence_tagger")


def pointer_model(backbone: Backbone, head: str, types: int, dropout: float, seed: int) -> TrainableModel:
    """Scores of spans (B, types, T, T) float32."""
    top = OnTop(backbone, dropout, seed, "a tagger")
    return top.model(top.pointer(head, types, "pointer"), "sequence_tagger")
