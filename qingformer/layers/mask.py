"""The attention mask of a model, computed once for all its blocks."""

import keras
from keras import ops

from qingformer.errors import ConfigError
from qingformer.ops.masking import causal_mask, keys_mask, others_mask, unilm_mask
from qingformer.types import Config, Tensor

APPLICATIONS = ("encoder", "lm", "unilm")


@keras.saving.register_keras_serializable("qingformer")
class AttentionMask(keras.layers.Layer):
    """Combine the padding mask with what the application allows a query to see.

    "encoder": every key; "lm": keys up to the query; "unilm": the whole source and the target up to the query, by
    the cumulative segment ids. Inputs `padding_mask` (B, T) integer and, for "unilm", `segment_ids` (B, T) integer.
    With `mask_diagonal` no query sees its own position (a text autoencoder). Output bool, (B, 1, 1, T) for an encoder
    that sees itself and (B, 1, T, T) otherwise, True = keep. Errors: `ConfigError` for another application.
    Sources: Dong et al. 2019, arXiv 1905.03197; 科学空间 archives/6933; Shin et al. 2020 (T-TA), arXiv 2004.08097.

    Example: `AttentionMask("lm")(ops.ones((2, 5), "int32"))`
    """

    def __init__(self, application: str = "encoder", mask_diagonal: bool = False, **kwargs: object) -> None:
        super().__init__(**kwargs)
        if application not in APPLICATIONS:
            raise ConfigError(f"unknown application {application!r}; use one of {', '.join(APPLICATIONS)}")
        self.application = application
        self.mask_diagonal = mask_diagonal
        self.built = True

    def call(self, padding_mask: Tensor, segment_ids: Tensor | None = None) -> Tensor:
        """Return the mask, True = keep."""
        mask = keys_mask(padding_mask)  # (B, 1, 1, T): without queries' axis where all see the same keys
        length = ops.shape(padding_mask)[1]
        if self.application == "lm":
            mask = ops.logical_and(mask, causal_mask(length))
        if self.application == "unilm":
            mask = ops.logical_and(mask, unilm_mask(segment_ids))
        return ops.logical_and(mask, others_mask(length)) if self.mask_diagonal else mask

    def get_config(self) -> Config:
        return {**super().get_config(), "application": self.application, "mask_diagonal": self.mask_diagonal}

    @classmethod
    def from_config(cls, config: Config) -> "AttentionMask":
        """Also from files in which `mask_diagonal` has its earlier name."""
        config = {("mask_diagonal" if key == "hide_self" else key): value for key, value in config.items()}
        return cls(**config)
