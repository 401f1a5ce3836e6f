"""The head of encoder-decoders: what the decoder says next."""

from typing import Any

import keras

from qingformer.models.backbone import Backbone
from qingformer.models.heads import HeadModel
from qingformer.models.layer_factory import LayerFactory


@keras.saving.register_keras_serializable("qingformer")
class Seq2SeqLM(HeadModel):
    """An encoder-decoder with the logits (B, T, V) float32 of the next target token at every target position.

    logits = (y H^-1/2) E^T with the token table E, or y W with a table of its own; `scale_decoder_output` of the
    configuration says otherwise. y is the decoder's output; inputs as the backbone's (`T5`), so that with the
    application "decoder" the encoder's output is given. Errors: `ConfigError` for a family without a decoder.
    Source: Raffel et al. 2019, arXiv 1910.10683.

    Example: `Seq2SeqLM.from_pretrained("mt5-small")({"token_ids": ids, "decoder_token_ids": targets})`
    """

    default_application = "seq2seq"

    def head(self, factory: LayerFactory, backbone: Backbone) -> Any:
        """The logits over the vocabulary."""
        return backbone.decoder_logits(factory)
