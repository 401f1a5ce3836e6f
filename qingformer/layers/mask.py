"""The attention mask of a model, computed once for all its blocks."""

from typing import Any

import keras
from keras import ops

from qingformer.errors import ConfigError
from qingformer.ops.masking import causal_mask, keys_mask, unilm_mask

Tensor = Any
APPLICATIONS = ("encoder", "lm", "unilm")


@keras.saving.register_keras_serializable("qingformer")
class AttentionMask(keras.layers.Layer):
    """Combine the padding mask with what the application allows a query to see.

    "encoder": every key; "lm": keys up to the query; "unilm": the whole source and the target up to the query, by
    the cumulative segment ids. Inputs `padding_mask` (B, T) integer and, for "unilm", `segment_ids` (B, T) integer.
    Output bool, (B, 1, 1, T) for the encoder and (B, 1, T, T) otherwise, True = keep.
    Source: Dong et al. 2019, arXiv 1905.03197; 科学空间 archives/6933. Errors: `ConfigError` for another application.

    Example: `AttentionMask("lm")(ops.ones((2, 5), "int32"))`
    """

    def __init__(self, application: str = "encoder", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if application not in APPLICATIONS:
            raise ConfigError(f"unknown application {application!r}; use one of {', '.join(APPLICATIONS)}")
        self.application = application
        self.built = True

    def call(self, padding_mask: Tensor, segment_ids: Tensor | None = None) -> Tensor:
        """Return the mask, True = keep."""
        mask = keys_mask(padding_mask)
        if self.application == "lm":
            return ops.logical_and(mask, causal_mask(ops.shape(padding_mask)[1]))
        if self.application == "unilm":
            return ops.logical_and(mask, unilm_mask(segment_ids))
        return mask

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "application": self.application}
