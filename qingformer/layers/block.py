"""One Transformer block: attention, cross attention, feed-forward, each with residual connection and normalisation."""

import functools
from collections.abc import Callable

import keras

from qingformer import backend
from qingformer.errors import ConfigError
from qingformer.layers.attention_context import AttentionContext
from qingformer.layers.dropout_streams import DropoutStream
from qingformer.ops.seeded_dropout import dropout
from qingformer.types import Config, Shape, Tensor

# The layers that a block is made of.
PARTS = """attention feed_forward attention_norm feed_forward_norm cross_attention cross_attention_norm""".split()
NORM_POSITIONS = ("post", "pre")


@keras.saving.register_keras_serializable("qingformer")
class TransformerBlock(keras.layers.Layer):
    """Attention and feed-forward with residual connections, normalised after each ("post") or before it ("pre").

    post: x <- norm(x + f(x)); pre: x <- x + f(norm(x)); f the attention, then the cross attention if there is one, then
    the feed-forward if there is one (a gated attention unit needs none); dropout on every branch.

    The parts are layers given from outside, so that a family chooses its own; a branch whose norm is None is not
    normalised. Input `x` (B, T, d) float; the other inputs are those of `AttentionContext`. If the attention is one
    with residual scores, the block returns (x, scores). `context` goes to the cross attention; in a block without one
    it gives the keys and values of the attention.
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
        attention_norm: keras.layers.Layer | None,
        feed_forward_norm: keras.layers.Layer | None = None,
        dropout: float = 0.0,
        checkpointing: bool = False,
        *,
        cross_attention: keras.layers.Layer | None = None,
        cross_attention_norm: keras.layers.Layer | None = None,
        norm_position: str = "post",
        **kwargs: object,
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
        # Named after the block: its state is a variable, and files tell variables apart by path.
        self.seed_generator = keras.random.SeedGenerator(name=f"{self.name}_seeds")

    def build(
        self,
        x_shape: Shape,
        context_shape: Shape | None = None,
        condition_shape: Shape | None = None,
        **shapes: Shape,
    ) -> None:
        context = {} if context_shape is None else {"context_shape": context_shape}
        conditions = () if condition_shape is None else (condition_shape,)
        own = {} if self.cross_attention is not None else context
        # Parts that came built (shared with another model) stay as they are.
        norms = (self.attention_norm, self.cross_attention_norm, self.feed_forward_norm)
        for layer, more in ((self.attention, own), (self.cross_attention, context), (self.feed_forward, {})):
            if layer is not None and not layer.built:
                layer.build(x_shape, **more)
        for norm in norms:
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
        inputs = AttentionContext(attention_mask, bias, rotary, scores, condition, context, context_mask, context_bias)
        if not (self.checkpointing and training):
            return self.compute(x, inputs, seed)
        # Recomputation has gradients for arguments alone, and takes no None among them.
        given = {**inputs.given(), **({} if seed is None else {"seed": seed})}

        def body(x: Tensor, *tensors: Tensor) -> Tensor | tuple[Tensor, Tensor]:
            named = dict(zip(given, tensors))
            seed = named.pop("seed", None)
            return self.compute(x, AttentionContext(**named), seed)

        return backend.remat(body, x, *given.values())

    def compute(self, x: Tensor, inputs: AttentionContext, seed: Tensor | None) -> Tensor | tuple[Tensor, Tensor]:
        """The block as a pure function of its inputs and the seed of its dropout."""
        scores = None

        def attend(x: Tensor) -> Tensor:
            nonlocal scores
            attended = self.attention(x, seed=seed, **inputs.of_attention(crosses=self.cross_attention is not None))
            if self.residual_scores:
                attended, scores = attended
            return attended

        x = self.residual(x, attend, self.attention_norm, inputs, seed, DropoutStream.ATTENTION_OUTPUT)
        if self.cross_attention is not None:
            cross = functools.partial(
                self.cross_attention,
                seed=seed,
                stream=DropoutStream.CROSS_ATTENTION_WEIGHTS,
                **inputs.of_cross_attention(),
            )
            x = self.residual(x, cross, self.cross_attention_norm, inputs, seed, DropoutStream.CROSS_ATTENTION_OUTPUT)
        if self.feed_forward is not None:
            # A layer of the user's own need not know of seeds.
            inner = {"seed": seed} if getattr(self.feed_forward, "dropout", 0.0) else {}
            transform = functools.partial(self.feed_forward, **inner)
            x = self.residual(x, transform, self.feed_forward_norm, inputs, seed, DropoutStream.FEED_FORWARD_OUTPUT)
        return (x, scores) if self.residual_scores else x

    def residual(
        self,
        x: Tensor,
        branch: Callable[[Tensor], Tensor],
        norm: keras.layers.Layer | None,
        inputs: AttentionContext,
        seed: Tensor | None,
        stream: DropoutStream,
    ) -> Tensor:
        """One branch with its residual connection, dropout and norm."""

        def normalize(x: Tensor) -> Tensor:
            if norm is None:
                return x
            return norm(x) if inputs.condition is None else norm(x, inputs.condition)

        # "pre" leaves the path of the residuals free of norms, so that gradients reach the first block undamped.
        if self.norm_position == "pre":
            return x + dropout(branch(normalize(x)), self.dropout, seed, stream)
        return normalize(x + dropout(branch(x), self.dropout, seed, stream))

    @property
    def residual_scores(self) -> bool:
        """Whether the attention adds the scores of the block before and returns its own."""
        return getattr(self.attention, "residual_scores", False)

    @property
    def has_dropout(self) -> bool:
        """Whether any part of the block drops out units."""
        # Without dropout no seed is drawn, which would change the generator's state at every step.
        parts = (self.attention, self.cross_attention, self.feed_forward)
        rates = [getattr(part, "dropout", 0.0) for part in parts if part is not None]
        return max(self.dropout, *rates) > 0

    def compute_output_spec(
        self, x: Tensor, context: Tensor | None = None, **others: object
    ) -> keras.KerasTensor | tuple[keras.KerasTensor, keras.KerasTensor]:
        output = keras.KerasTensor(x.shape, self.compute_dtype)
        if not self.residual_scores:
            return output
        keys = None if self.cross_attention is not None else context
        return output, self.attention.compute_output_spec(x, keys)[1]

    def get_config(self) -> Config:
        parts = {name: keras.saving.serialize_keras_object(getattr(self, name)) for name in PARTS}
        settings = {name: getattr(self, name) for name in ("dropout", "checkpointing", "norm_position")}
        return {**super().get_config(), **parts, **settings}

    @classmethod
    def from_config(cls, config: Config) -> "TransformerBlock":
        parts = {name: keras.saving.deserialize_keras_object(config.get(name)) for name in PARTS}
        return cls(**{**config, **parts})
