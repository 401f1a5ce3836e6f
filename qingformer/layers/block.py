"""One Transformer block: attention, cross attention, feed-forward, each with residual connection and normalisation."""

from collections.abc import Callable
from typing import Any

import keras

from qingformer import backend
from qingformer.errors import ConfigError
from qingformer.ops.seeded_dropout import dropout
from qingformer.types import Tensor

PARTS = (
    "attention",
    "feed_forward",
    "attention_norm",
    "feed_forward_norm",
    "cross_attention",
    "cross_attention_norm",
)
ATTENTION_INPUTS = ("context", "attention_mask", "bias", "rotary", "scores")
NORM_POSITIONS = ("post", "pre")


@keras.saving.register_keras_serializable("qingformer")
class TransformerBlock(keras.layers.Layer):
    """Attention and feed-forward with residual connections, normalised after each ("post") or before it ("pre").

    post: x <- norm(x + f(x)); pre: x <- x + f(norm(x)); f the attention, then the cross attention if there is one, then
    the feed-forward if there is one (a gated attention unit needs none); dropout on every branch.

    The parts are layers given from outside, so that a family chooses its own. Input `x` (B, T, d) float;
    `attention_mask`, `bias`, `rotary` as `MultiHeadAttention`; `condition` (B, c) float for conditional norms; `scores`
    (B, N, T, T) float of the block before, if the attention is one with residual scores: then the block returns (x,
    scores). `context` (B, S, d) float with its `context_mask` and `context_bias` goes to the cross attention; in a
    block without one it gives the keys and values of the attention.
    With `checkpointing` its activations are not stored but computed again in the backward pass.
    Sources: Vaswani et al. 2017, arXiv 1706.03762; Xiong et al. 2020 (where to normalise), arXiv 2002.04745; Chen et
    al. 2016 (checkpointing), arXiv 1604.06174.

    Example:
        block = TransformerBlock(MultiHeadAttention(2, 4), FeedForward(16), keras.layers.LayerNormalization(),
                                 keras.layers.LayerNormalization())
        block(ops.ones((1, 5, 8)))
    """

    def __init__(
        self,
        attention: keras.layers.Layer,
        feed_forward: keras.layers.Layer | None,
        attention_norm: keras.layers.Layer,
        feed_forward_norm: keras.layers.Layer | None = None,
        dropout: float = 0.0,
        checkpointing: bool = False,
        *,
        cross_attention: keras.layers.Layer | None = None,
        cross_attention_norm: keras.layers.Layer | None = None,
        norm_position: str = "post",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if norm_position not in NORM_POSITIONS:
            raise ConfigError(f"norm_position is {norm_position!r}: expected one of {', '.join(NORM_POSITIONS)}")
        self.attention = attention
        self.feed_forward = feed_forward
        self.attention_norm = attention_norm
        self.feed_forward_norm = feed_forward_norm
        self.cross_attention = cross_attention
        self.cross_attention_norm = cross_attention_norm
        self.dropout = dropout
        self.checkpointing = checkpointing
        self.norm_position = norm_position
        self.seed_generator = keras.random.SeedGenerator(name=f"{self.name}_seeds")

    def build(
        self,
        x_shape: tuple[Any, ...],
        context_shape: tuple[Any, ...] | None = None,
        condition_shape: Any = None,
        **shapes: Any,
    ) -> None:
        conditions = () if condition_shape is None else (condition_shape,)
        own = None if self.cross_attention is not None else context_shape
        for layer, others in (
            (self.attention, {"context_shape": own}),
            (self.cross_attention, {"context_shape": context_shape}),
            (self.feed_forward, {}),
        ):
            if layer is not None and not layer.built:
                layer.build(x_shape, **{key: shape for key, shape in others.items() if shape is not None})
        for norm in (self.attention_norm, self.cross_attention_norm, self.feed_forward_norm):
            if norm is not None and not norm.built:
                norm.build(x_shape, *conditions)

    def call(
        self,
        x: Tensor,
        context: Tensor | None = None,
        attention_mask: Tensor | None = None,
        context_mask: Tensor | None = None,
        bias: Tensor | None = None,
        context_bias: Tensor | None = None,
        rotary: Tensor | None = None,
        condition: Tensor | None = None,
        scores: Tensor | None = None,
        training: bool = False,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Return the new hidden states, with the attention scores beside them if the attention gives them."""
        # One seed a call, drawn outside the recomputed part: drawn inside, it would change in the second pass.
        seed = self.seed_generator.next() if training and self.has_dropout else None
        given = {
            "x": x,
            "seed": seed,
            "context": context,
            "attention_mask": attention_mask,
            "context_mask": context_mask,
            "bias": bias,
            "context_bias": context_bias,
            "rotary": rotary,
            "condition": condition,
            "scores": scores,
        }
        names = [name for name, array in given.items() if array is not None]

        def body(*arrays: Tensor) -> Tensor | tuple[Tensor, Tensor]:
            return self.compute(**dict(zip(names, arrays)))

        arrays = [given[name] for name in names]
        if self.checkpointing and training:
            return backend.checkpointed(body, *arrays)
        return body(*arrays)

    def compute(
        self, x: Tensor, seed: Tensor | None = None, condition: Tensor | None = None, **given: Tensor
    ) -> Tensor | tuple[Tensor, Tensor]:
        """The block as a pure function of its inputs and the seed of its dropout."""
        conditions = () if condition is None else (condition,)
        context = {name: given[f"context_{name}"] for name in ("mask", "bias") if f"context_{name}" in given}
        own = {name: given[name] for name in ATTENTION_INPUTS if name in given}
        if self.cross_attention is not None:
            own.pop("context", None)
        scores = None

        def attend(x: Tensor) -> Tensor:
            nonlocal scores
            attended = self.attention(x, seed=seed, **own)
            if self.residual_scores:
                attended, scores = attended
            return attended

        def look(x: Tensor) -> Tensor:
            return self.cross_attention(  # type: ignore[misc]  # called where there is one
                x,
                context=given["context"],
                attention_mask=context.get("mask"),
                bias=context.get("bias"),
                seed=seed,
                site=4,
            )

        x = self.residual(x, attend, self.attention_norm, conditions, seed, site=1)
        if self.cross_attention is not None:
            x = self.residual(x, look, self.cross_attention_norm, conditions, seed, site=3)

        def transform(x: Tensor) -> Tensor:
            inner = {"seed": seed} if getattr(self.feed_forward, "dropout", 0.0) else {}
            return self.feed_forward(x, **inner)  # type: ignore[misc]  # called where there is one

        if self.feed_forward is not None:
            x = self.residual(x, transform, self.feed_forward_norm, conditions, seed, site=2)
        return (x, scores) if self.residual_scores else x

    def residual(
        self,
        x: Tensor,
        branch: Callable[[Tensor], Tensor],
        norm: keras.layers.Layer | None,
        conditions: tuple[Tensor, ...],
        seed: Tensor | None,
        site: int,
    ) -> Tensor:
        """One branch with its residual connection, dropout and norm."""
        if norm is None:
            return x + dropout(branch(x), self.dropout, seed, site)
        if self.norm_position == "pre":
            return x + dropout(branch(norm(x, *conditions)), self.dropout, seed, site)
        return norm(x + dropout(branch(x), self.dropout, seed, site), *conditions)

    @property
    def residual_scores(self) -> bool:
        """Whether the attention adds the scores of the block before and returns its own."""
        return getattr(self.attention, "residual_scores", False)

    @property
    def has_dropout(self) -> bool:
        """Whether any part of the block drops out units."""
        parts = (self.attention, self.cross_attention, self.feed_forward)
        rates = [getattr(part, "dropout", 0.0) for part in parts if part is not None]
        return max(self.dropout, *rates) > 0

    def compute_output_spec(self, x: Any, context: Any = None, **others: Any) -> Any:
        output = keras.KerasTensor(x.shape, self.compute_dtype)
        if not self.residual_scores:
            return output
        keys = None if self.cross_attention is not None else context
        return output, self.attention.compute_output_spec(x, keys)[1]

    def get_config(self) -> dict[str, Any]:
        parts = {
            name: None if getattr(self, name) is None else keras.saving.serialize_keras_object(getattr(self, name))
            for name in PARTS
        }
        return {
            **super().get_config(),
            **parts,
            "dropout": self.dropout,
            "checkpointing": self.checkpointing,
            "norm_position": self.norm_position,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "TransformerBlock":
        parts = {
            name: keras.saving.deserialize_keras_object(config[name]) for name in PARTS if config.get(name) is not None
        }
        return cls(**{**config, **parts})
