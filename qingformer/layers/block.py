"""One Transformer block: attention and feed-forward, each with residual connection and normalisation."""

from typing import Any

import keras

from qingformer import backend
from qingformer.ops.dropout import dropout

Tensor = Any
PARTS = ("attention", "feed_forward", "attention_norm", "feed_forward_norm")


@keras.saving.register_keras_serializable("qingformer")
class TransformerBlock(keras.layers.Layer):
    """A post-norm block: x <- norm(x + attention(x)); x <- norm(x + feed_forward(x)), dropout on both branches.

    Its four parts are layers given from outside, so that a family chooses its own. Input `x` (B, T, d) float;
    `attention_mask` bool, broadcastable to (B, N, T, T), True = keep; `condition` (B, c) float for conditional norms;
    `scores` (B, N, T, T) float of the block before, if the attention is one with residual scores: then the block
    returns (x, scores).
    With `checkpointing` its activations are not stored but computed again in the backward pass.
    Sources: Vaswani et al. 2017, arXiv 1706.03762; Chen et al. 2016 (checkpointing), arXiv 1604.06174.

    Example:
        block = TransformerBlock(MultiHeadAttention(2, 4), FeedForward(16), keras.layers.LayerNormalization(),
                                 keras.layers.LayerNormalization())
        block(ops.ones((1, 5, 8)))
    """

    def __init__(
        self,
        attention: keras.layers.Layer,
        feed_forward: keras.layers.Layer,
        attention_norm: keras.layers.Layer,
        feed_forward_norm: keras.layers.Layer,
        dropout: float = 0.0,
        checkpointing: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.attention = attention
        self.feed_forward = feed_forward
        self.attention_norm = attention_norm
        self.feed_forward_norm = feed_forward_norm
        self.dropout = dropout
        self.checkpointing = checkpointing
        self.seed_generator = keras.random.SeedGenerator(name=f"{self.name}_seeds")

    def build(
        self, x_shape: tuple, attention_mask_shape: Any = None, condition_shape: Any = None, **shapes: Any
    ) -> None:
        conditions = () if condition_shape is None else (condition_shape,)
        for layer in (self.attention, self.feed_forward):
            if not layer.built:
                layer.build(x_shape)
        for layer in (self.attention_norm, self.feed_forward_norm):
            if not layer.built:
                layer.build(x_shape, *conditions)

    def call(
        self,
        x: Tensor,
        attention_mask: Tensor | None = None,
        condition: Tensor | None = None,
        scores: Tensor | None = None,
        training: bool = False,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Return the new hidden states, with the attention scores beside them if the attention gives them."""
        # One seed a call, drawn outside the recomputed part: drawn inside, it would change in the second pass.
        seed = self.seed_generator.next() if training and self.has_dropout else None
        arrays = [array for array in (x, seed, attention_mask, condition, scores) if array is not None]
        present = [array is not None for array in (x, seed, attention_mask, condition, scores)]

        def body(*given: Tensor) -> Tensor | tuple[Tensor, Tensor]:
            remaining = iter(given)
            return self.compute(*(next(remaining) if there else None for there in present))

        if self.checkpointing and training:
            return backend.checkpointed(body, *arrays)
        return body(*arrays)

    def compute(
        self,
        x: Tensor,
        seed: Tensor | None,
        attention_mask: Tensor | None,
        condition: Tensor | None,
        scores: Tensor | None,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """The block as a pure function of its inputs and the seed of its dropout."""
        conditions = () if condition is None else (condition,)
        attended = self.attention(x, attention_mask=attention_mask, scores=scores, seed=seed)
        if self.residual_scores:
            attended, scores = attended
        x = self.attention_norm(x + dropout(attended, self.dropout, seed, site=1), *conditions)
        x = self.feed_forward_norm(x + dropout(self.feed_forward(x), self.dropout, seed, site=2), *conditions)
        return (x, scores) if self.residual_scores else x

    @property
    def residual_scores(self) -> bool:
        """Whether the attention adds the scores of the block before and returns its own."""
        return getattr(self.attention, "residual_scores", False)

    @property
    def has_dropout(self) -> bool:
        """Whether any part of the block drops out units."""
        return self.dropout > 0 or getattr(self.attention, "dropout", 0.0) > 0

    def compute_output_spec(
        self, x: Any, attention_mask: Any = None, condition: Any = None, scores: Any = None, **_: Any
    ) -> Any:
        output = keras.KerasTensor(x.shape, self.compute_dtype)
        if not self.residual_scores:
            return output
        return output, self.attention.compute_output_spec(x)[1]

    def get_config(self) -> dict[str, Any]:
        parts = {name: keras.saving.serialize_keras_object(getattr(self, name)) for name in PARTS}
        return {**super().get_config(), **parts, "dropout": self.dropout, "checkpointing": self.checkpointing}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "TransformerBlock":
        parts = {name: keras.saving.deserialize_keras_object(config[name]) for name in PARTS}
        return cls(**{**config, **parts})
