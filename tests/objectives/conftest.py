"""A classifier small enough to differentiate by hand."""

import keras
import numpy as np
import pytest

from qingformer import backend
from qingformer.objectives import TrainableModel

VOCABULARY, WIDTH, CLASSES = 7, 3, 4


def build(dropout=0.0, dtype=None, seed=1):
    """Mean of embeddings, then a dense layer: token ids (B, T) -> logits (B, 4)."""
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((None,), dtype="int32", name="token_ids")
    x = keras.layers.Embedding(VOCABULARY, WIDTH, name="token_embedding", dtype=dtype)(inputs)
    x = keras.layers.GlobalAveragePooling1D(dtype=dtype)(x)
    x = keras.layers.Dropout(dropout, seed=5)(x)
    outputs = keras.layers.Dense(CLASSES, name="logits", dtype="float32")(x)
    return TrainableModel(inputs, outputs)


def cross_entropy():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def comparable_optimizer(**settings):
    """AdamW, where Keras' own step gives it dense gradients.

    On TensorFlow it does not: Keras' Adam squares the sparse gradient of an embedding once per occurrence of a token
    instead of once per row, so only a linear optimizer can be compared there.
    """
    if backend.name() == "tensorflow":
        return keras.optimizers.SGD(0.5, **settings)
    return keras.optimizers.AdamW(0.05, **{"weight_decay": 0, **settings})


@pytest.fixture
def rows():
    generator = np.random.default_rng(0)
    x = generator.integers(0, VOCABULARY, (24, 5)).astype("int32")
    return x, (x.sum(axis=1) % CLASSES).astype("int32")
