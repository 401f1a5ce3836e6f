"""The functional model of a classifier: encoder, dropout, one linear layer."""

import keras

from qingformer.errors import ConfigError
from qingformer.layers import Dropout, TokenPooling
from qingformer.models import Backbone, BackboneConfig
from qingformer.models.fine_tuned import StoredHead
from qingformer.objectives import TrainableModel
from qingformer.ops.activations import get_activation
from qingformer.tasks.head_labels import Unusable

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
