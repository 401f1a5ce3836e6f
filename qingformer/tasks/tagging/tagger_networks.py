"""The functional models of a tagger: scores of tags that a chain reads, or of spans."""

import keras

from qingformer.layers import ConditionalRandomField, IndependentTags, MaximumEntropyMarkovModel
from qingformer.layers.linear_chain import LinearChain
from qingformer.models import Backbone
from qingformer.objectives import TrainableModel
from qingformer.tasks.networks import HeadBuilder

CHAINS = ("crf", "memm", "softmax")


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
    top = HeadBuilder(backbone, dropout, seed, "a tagger")
    return top.model(layer(top.dense(tags, "emissions")), "sequence_tagger")


def pointer_model(backbone: Backbone, head: str, types: int, dropout: float, seed: int) -> TrainableModel:
    """Scores of spans (B, types, T, T) float32."""
    top = HeadBuilder(backbone, dropout, seed, "a tagger")
    return top.model(top.pointer(head, types, "pointer"), "sequence_tagger")
