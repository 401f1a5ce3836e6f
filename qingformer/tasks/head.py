"""The functional model of a classifier: encoder, dropout, one linear layer; and new encoders."""

from typing import Any

import keras
import numpy as np

from qingformer import backend
from qingformer.errors import ConfigError
from qingformer.layers import Dropout, TokenPooling
from qingformer.models import Backbone, BackboneConfig
from qingformer.models.fine_tuned import StoredHead
from qingformer.objectives import TrainableModel
from qingformer.ops.activations import get_activation
from qingformer.tasks.head_labels import Unusable
from qingformer.tasks.scratch import size_named
from qingformer.tokenization import Tokenizer

HIDDEN, OUTPUT = "classifier_hidden", "classifier"


def classifier_model(
    backbone: Backbone, outputs: int, dropout: float, seed: int, hidden_activation: str = ""
) -> TrainableModel:
    """Logits `(B, outputs)` float32 on top of the pooled vector, or of the first position without a pooler.

    With `hidden_activation` a dense layer of the encoder's width on the first position takes the place of the pooler.
    """
    if not 0.0 <= dropout < 1.0:
        raise ConfigError(f"dropout is {dropout}; expected a probability below 1")
    if "decoder_token_ids" in backbone.input:
        raise ConfigError(
            f"a classifier reads with an encoder, but this {backbone.config.family} has application "
            f"{backbone.config.application!r}; load it with application='encoder'"
        )
    found = backbone.output
    vector = None if hidden_activation else found.get("pooled_output")
    if vector is None:
        vector = TokenPooling(name="first_token", dtype=backbone.dtype_policy)(found["sequence_output"])
    initializer = keras.initializers.TruncatedNormal(stddev=0.02, seed=seed)
    if hidden_activation:
        vector = Dropout(dropout, name="hidden_dropout", dtype=backbone.dtype_policy)(vector)
        vector = keras.layers.Dense(
            backbone.config.hidden_size, get_activation(hidden_activation), name=HIDDEN, dtype=backbone.dtype_policy,
            kernel_initializer=keras.initializers.TruncatedNormal(stddev=0.02, seed=seed + 1),
        )(vector)  # fmt: skip
    vector = Dropout(dropout, name="classifier_dropout", dtype=backbone.dtype_policy)(vector)
    logits = keras.layers.Dense(outputs, kernel_initializer=initializer, name=OUTPUT, dtype="float32")(vector)
    return TrainableModel(backbone.input, logits, name="text_classifier")


def head_layers(hidden_activation: str) -> tuple[str, ...]:
    """The names of the layers of `classifier_model` that have weights."""
    return (HIDDEN, OUTPUT) if hidden_activation else (OUTPUT,)


def check_hidden(activation: str | None, backbone: Backbone | None) -> str:
    """The activation of the layer before the last one: "" for no such layer, None for what the family has.

    Raises:
        ConfigError: an unknown activation.
    """
    if activation is None:
        return own_hidden(backbone.config) if backbone is not None else ""
    if activation:
        get_activation(activation)
    return activation


def own_hidden(config: BackboneConfig) -> str:
    """The activation of the hidden layer that the family's classifiers have in `transformers`, "" for none."""
    if config.family == "electra":
        return "gelu"
    return config.activations[0] if config.family == "roformer" and not config.pooler else ""


def check_vector(head: StoredHead, kind: str, backbone: Backbone) -> None:
    """Refuse a stored head for another kind of task, or over another vector than this encoder gives.

    Raises:
        Unusable: says which.
    """
    if head.kind not in (None, kind):
        raise Unusable(f"it is for {head.kind}, not for {kind}")
    if len(head.layers) == 1 and bool(backbone.config.pooler) != (head.activation != "linear"):
        raise Unusable("it reads a vector that this encoder does not have; see the option pooler=")


LONGEST = 131_072


def new_backbone(size: str, tokenizer: Tokenizer, max_length: int, *, seed: int, dtype: Any = None) -> Backbone:
    """A BERT of a size of `SIZES` with random weights, for the vocabulary of `tokenizer`."""
    backend.check_device()
    shape = size_named(size)
    if max_length > LONGEST:
        raise ConfigError(
            f"max_length={max_length} is too much for a new model, which has a vector for each position; choose "
            f"{LONGEST} or less"
        )
    config = BackboneConfig(
        vocab_size=tokenizer.vocab_size,
        hidden_size=shape.hidden_size,
        num_hidden_layers=shape.num_hidden_layers,
        num_attention_heads=shape.num_attention_heads,
        intermediate_size=shape.intermediate_size,
        max_position_embeddings=max(512, max_length),
        pad_token_id=tokenizer.pad_token_id,
    )
    return Backbone(config, initializer=SeededNormal(config.initializer_range, seed), dtype=dtype)


@keras.saving.register_keras_serializable("qingformer")
class SeededNormal(keras.initializers.TruncatedNormal):
    """The truncated normal for all matrices of a model, repeatable without seeding the whole process.

    Layers clone their initialiser. A clone of one with a seed would give every matrix of one shape the same numbers, so
    all clones are this one, and each matrix gets the next numbers of its generator.
    """

    def __init__(self, stddev: float, seed: int) -> None:
        super().__init__(stddev=stddev, seed=keras.random.SeedGenerator(seed))
        self._start = seed

    def get_config(self) -> dict[str, Any]:
        """The deviation and the seed."""
        return {"stddev": self.stddev, "seed": self._start}

    def clone(self) -> "SeededNormal":
        """This very object."""
        return self


@keras.saving.register_keras_serializable("qingformer")
class SeededLecunNormal(keras.initializers.LecunNormal):
    """The truncated normal of deviation sqrt(1 / inputs), repeatable as `SeededNormal` is."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed=keras.random.SeedGenerator(seed))
        self._start = seed

    def get_config(self) -> dict[str, Any]:
        """The seed."""
        return {"seed": self._start}

    def clone(self) -> "SeededLecunNormal":
        """This very object."""
        return self


def reseed(model: keras.Model, seed: int) -> None:
    """Set every random generator of the model (dropout) as a function of `seed` alone, so that runs can be repeated."""
    states = [variable for variable in model.variables if variable.path.endswith("seed_generator_state")]
    for place, state in enumerate(states):
        words = np.random.SeedSequence((seed, place)).generate_state(1)
        state.assign(np.array([words[0], 0], "uint32"))
