"""Makes the layers of a model as its configuration asks for them."""

from collections.abc import Callable

import keras

from qingformer import layers
from qingformer.models.config import BackboneConfig
from qingformer.ops.activations import get_activation
from qingformer.types import Config, DtypeLike, InitializerLike, Tensor, Tensors


class LayerFactory:
    """Makes the layers of a model with the initialiser, norm and dtype policy that its configuration asks for.

    `made` holds them by name, for a step that uses one again; `notes` holds tensors that one step leaves for another.
    """

    def __init__(self, config: BackboneConfig, initializer: InitializerLike = None, dtype: DtypeLike = None) -> None:
        self.config = config
        self.dtype = dtype
        self._initializer = initializer
        self.made: dict[str, keras.layers.Layer] = {}
        self.notes: Tensors = {}

    def remember(self, layer: keras.layers.Layer) -> keras.layers.Layer:
        """The layer itself, entered in `made`."""
        self.made[layer.name] = layer
        return layer

    def initializer(self) -> keras.initializers.Initializer:
        """A fresh initialiser: by default the truncated normal of BERT."""
        if self._initializer is not None:
            # A clone: Keras gives the same numbers to all layers that share one initialiser.
            return keras.initializers.get(self._initializer).clone()
        return keras.initializers.TruncatedNormal(stddev=self.config.initializer_range)

    def embedding(self, rows: int, width: int, name: str, reversible: bool = False) -> keras.layers.Layer:
        """An embedding table."""
        kind = keras.layers.ReversibleEmbedding if reversible else keras.layers.Embedding
        return self.remember(kind(rows, width, embeddings_initializer=self.initializer(), name=name, dtype=self.dtype))

    def dense(
        self, size: int, name: str, activation: str = "linear", use_bias: bool | None = None
    ) -> keras.layers.Layer:
        """A dense layer, by default with a bias if the configuration has biases."""
        return self.remember(
            layers.Dense(
                size,
                activation=get_activation(activation),
                use_bias=self.config.use_bias if use_bias is None else use_bias,
                kernel_initializer=self.initializer(),
                name=name,
                dtype=self.dtype,
            )
        )

    def attention(self, name: str, positions: bool = True) -> keras.layers.Layer:
        """Multi-head attention; `positions` says whether it may look at them (cross attention does not)."""
        config = self.config
        kind: type[layers.MultiHeadAttention] = layers.MultiHeadAttention
        relative: Config = {}
        if positions and config.position_embedding_type == "relative":
            kind, relative = layers.RelativeMultiHeadAttention, {"max_relative_position": config.max_relative_position}
        bias = config.use_bias if config.attention_bias is None else config.attention_bias
        return kind(
            config.num_attention_heads,
            config.head_size,
            key_size=config.key_size,
            dropout=config.attention_probs_dropout_prob,
            use_bias=bias,
            output_bias=config.use_bias if config.attention_output_bias is None else config.attention_output_bias,
            kernel_initializer=self.initializer(),
            residual_scores=positions and config.residual_attention_scores,
            num_key_value_heads=config.num_key_value_heads,
            normalization=config.attention_normalization,
            scaled=config.attention_scale,
            interleaved_rotary=config.rotary_interleaved,
            rotary_value=config.rotary_value,
            query_key_norm=config.layer_norm_eps if config.query_key_norm else None,
            name=name,
            dtype=self.dtype,
            **relative,
        )

    def feed_forward(self, name: str, dropout: float = 0.0) -> keras.layers.Layer:
        """The feed-forward part, gated if the configuration has several activations."""
        config = self.config
        return layers.FeedForward(
            config.intermediate_size,
            config.hidden_act,
            use_bias=config.use_bias,
            kernel_initializer=self.initializer(),
            dropout=dropout,
            name=name,
            dtype=self.dtype,
        )

    def rotary(self, name: str, base: float | None = None) -> keras.layers.Layer:
        """The table of rotary positions, with another `base` than the configuration's where blocks differ."""
        config = self.config
        return layers.RotaryPositions(
            config.key_size, base or config.rotary_base, config.rotary_scaling, config.rotary_limit, name=name
        )

    def block(
        self, name: str, kind: type[layers.TransformerBlock] = layers.TransformerBlock, **parts: object
    ) -> keras.layers.Layer:
        """A block of the configuration's parts, `parts` and options in their place."""
        config = self.config
        # In this order: a layer's random start depends on how many were made before it.
        makers: dict[str, Callable[[], keras.layers.Layer]] = {
            "attention": lambda: self.attention("attention"),
            "feed_forward": lambda: self.feed_forward("feed_forward"),
            "attention_norm": lambda: self.norm("attention_norm"),
            "feed_forward_norm": lambda: self.norm("feed_forward_norm"),
        }
        whole: Config = {part: parts.pop(part) if part in parts else make() for part, make in makers.items()}
        options: Config = {"dropout": config.hidden_dropout_prob, "norm_position": config.norm_position, **parts}
        return kind(**whole, **options, name=name, dtype=self.dtype)

    def position_embedding(self, name: str) -> keras.layers.Layer:
        """The learned vectors of the positions."""
        config = self.config
        return self.remember(
            layers.PositionEmbedding(
                config.max_position_embeddings,
                config.width_of_embeddings,
                hierarchical=config.hierarchical_position,
                embeddings_initializer=self.initializer(),
                name=name,
                dtype=self.dtype,
            )
        )

    def position_bias(self, name: str, bidirectional: bool) -> keras.layers.Layer:
        """The bias of bucketed distances."""
        config = self.config
        return layers.RelativePositionBias(
            config.num_attention_heads,
            config.relative_attention_num_buckets,
            config.relative_attention_max_distance,
            bidirectional,
            embeddings_initializer=self.initializer(),
            name=name,
            dtype=self.dtype,
        )

    def norm(self, name: str) -> keras.layers.Layer:
        """A norm of the configuration's type, conditional if it has a condition."""
        config = self.config
        centred = config.norm_type == "layer_norm"
        common: Tensors = {"epsilon": config.layer_norm_eps, "name": name, "dtype": self.dtype}
        if config.condition_size is not None:
            sizes: Tensors = {"hidden_size": config.condition_hidden_size, "hidden_act": config.condition_hidden_act}
            kind = layers.ConditionalLayerNormalization
            return self.remember(kind(**sizes, zero_mean=centred, offset=centred, **common))
        if centred:
            return self.remember(keras.layers.LayerNormalization(**common))
        return self.remember(layers.RMSNormalization(use_scale=config.norm_type == "rms_norm", **common))

    def condition(self, inputs: Tensors) -> tuple[Tensor, ...]:
        """The further arguments of a norm."""
        return (inputs["condition"],) if "condition" in inputs else ()

    def position_ids(self, inputs: Tensors) -> Tensors:
        """The positions that were given, if any."""
        return {"position_ids": inputs["position_ids"]} if "position_ids" in inputs else {}
