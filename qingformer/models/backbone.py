"""The body that all encoder families share: embeddings, blocks, pooler. A family overrides the steps that differ."""

from typing import Any

import keras

from qingformer import backend, layers
from qingformer.errors import ConfigError
from qingformer.models.config import BackboneConfig, block_group
from qingformer.models.family import Family
from qingformer.models.family_registry import family_class
from qingformer.models.pretrained import PretrainedModel
from qingformer.ops.activations import get_activation
from qingformer.types import Tensors


@keras.saving.register_keras_serializable("qingformer")
class Backbone(Family, PretrainedModel):
    """A Transformer as a functional `keras.Model`, of the family that its configuration names.

    Inputs, a dictionary: `token_ids` (B, T) int32, `segment_ids` (B, T) int32 where the family has segments,
    `padding_mask` (B, T) int32 with 1 = keep, and where the configuration asks for them `position_ids` (B, T) int32
    and `condition` (B, c) float. Called directly, missing segment ids are zeros and a missing mask keeps what is not
    padding. Outputs, a dictionary: `sequence_output` (B, T, H) and, with a pooler, `pooled_output` (B, H), float.
    `initializer` replaces the truncated normal of the configuration; `dtype` is a Keras dtype policy.
    Sources: Devlin et al. 2018, arXiv 1810.04805; the bricks name theirs.

    Example:
        backbone = Backbone(BackboneConfig(vocab_size=100, hidden_size=32, num_hidden_layers=2, num_attention_heads=4))
        backbone({"token_ids": ops.array([[2, 7, 3]])})["sequence_output"]
    """

    def __new__(cls, config: Any = None, **kwargs: Any) -> Any:
        if cls is Backbone and config is not None:
            cls = family_class(getattr(config, "family", None) or config.get("family", "bert"))
        return super().__new__(cls)

    def __init__(
        self,
        config: BackboneConfig | dict[str, Any],
        initializer: Any = None,
        dtype: Any = None,
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        backend.check_device()
        config = BackboneConfig.from_dict(config) if isinstance(config, dict) else config
        make = Maker(config, initializer or self.default_initializer(config), dtype)

        # === Layers and functional model ===
        inputs, outputs = self.build_graph(make)
        super().__init__(inputs, outputs, name=name or config.family, **kwargs)

        # === Configuration ===
        self.config = config
        self.token_embedding = make.made["token_embedding"]
        if dtype is not None:
            self.dtype_policy = dtype

    def build_graph(self, make: "Maker") -> tuple[Tensors, Tensors]:
        """Inputs and outputs by name: one stack of blocks between embeddings and pooler."""
        config = make.config
        inputs = self.make_inputs(make)
        x = self.embed(make, self.make_token_embedding(make), inputs)
        given = self.make_attention_inputs(make, inputs, x)
        x = self.run_blocks(make, x, given)
        if config.norm_position == "pre":
            x = make.norm("final_norm")(x, *make.condition(inputs))
        outputs = {"sequence_output": x}
        if config.pooler:
            outputs["pooled_output"] = self.pool(make, x)
        return inputs, outputs

    def make_inputs(self, make: "Maker") -> Tensors:
        """The inputs by name."""
        names = ["token_ids", "padding_mask"]
        names += ["segment_ids"] if make.config.type_vocab_size else []
        names += ["position_ids"] if make.config.custom_position_ids else []
        inputs = {name: keras.Input((None,), dtype="int32", name=name) for name in names}
        if make.config.condition_size is not None:
            inputs["condition"] = keras.Input((make.config.condition_size,), dtype="float32", name="condition")
        return inputs

    def make_attention_inputs(self, make: "Maker", inputs: Tensors, x: Any) -> Tensors:
        """What every block is given beside the hidden states: mask, condition, positions."""
        config = make.config
        given = {"attention_mask": self.make_mask(make, inputs)}
        if "condition" in inputs:
            given["condition"] = inputs["condition"]
        if config.position_embedding_type == "rotary":
            given["rotary"] = make.rotary("rotary_positions")(x, **make.position_ids(inputs))
        if config.position_embedding_type == "bucketed":
            given["bias"] = make.position_bias("position_bias", config.application != "lm")(x)
        return given

    def make_mask(self, make: "Maker", inputs: Tensors) -> Any:
        """The attention mask of all blocks."""
        config = make.config
        segments = {"segment_ids": inputs["segment_ids"]} if config.application == "unilm" else {}
        mask = layers.AttentionMask(config.application, config.hide_self, name="attention_mask")
        return mask(inputs["padding_mask"], **segments)

    def run_blocks(self, make: "Maker", x: Any, given: Tensors) -> Any:
        """The blocks one after the other, with shared weights where the configuration shares them: (B, T, H)."""
        config = make.config
        shared: dict[int, keras.layers.Layer] = {}
        scores: Tensors = {}
        for index in range(config.num_hidden_layers):
            group = block_group(config, index)
            if group not in shared:
                shared[group] = self.make_block(make, group)
            x = shared[group](x, **given, **scores)
            if config.residual_attention_scores:
                x, scores["scores"] = x
        return x

    def make_token_embedding(self, make: "Maker") -> keras.layers.Layer:
        """The token table, which heads use again in reverse."""
        config = make.config
        return make.embedding(config.vocab_size, config.width_of_embeddings, "token_embedding", reversible=True)

    def embed(self, make: "Maker", token_embedding: keras.layers.Layer, inputs: Tensors) -> Any:
        """The sum of the embeddings, normalised, dropped out, and brought to the hidden size: (B, T, H)."""
        config = make.config
        x = self.sum_embeddings(make, token_embedding, inputs)
        if config.position_embedding_type == "absolute":
            x = self.add_positions(make, x, inputs)
        if config.embedding_norm:
            x = make.norm("embeddings_norm")(x, *make.condition(inputs))
        x = layers.Dropout(config.hidden_dropout_prob, name="embeddings_dropout", dtype=make.dtype)(x)
        if config.projects_embeddings:
            x = make.dense(config.hidden_size, "embedding_projection")(x)
        return x

    def sum_embeddings(self, make: "Maker", token_embedding: Any, inputs: Tensors) -> Any:
        """Tokens and, where there are any, segments: (B, T, width of the embeddings)."""
        config = make.config
        x = token_embedding(inputs["token_ids"])
        if not config.type_vocab_size:
            return x
        segments = token_embedding
        if not config.shared_segment_embeddings:
            segments = make.embedding(config.type_vocab_size, config.width_of_embeddings, "segment_embedding")
        return keras.layers.Add(name="token_and_segment", dtype=make.dtype)([x, segments(inputs["segment_ids"])])

    def add_positions(self, make: "Maker", x: Any, inputs: Tensors) -> Any:
        """Add the learned vectors of the positions."""
        config = make.config
        positions = make.remember(
            layers.PositionEmbedding(
                config.max_position_embeddings,
                config.width_of_embeddings,
                hierarchical=config.hierarchical_position,
                embeddings_initializer=make.initializer(),
                name="position_embedding",
                dtype=make.dtype,
            )
        )
        return positions(x, **make.position_ids(inputs))

    def make_block(self, make: "Maker", index: int) -> keras.layers.Layer:
        """Block number `index`."""
        return layers.TransformerBlock(
            attention=make.attention("attention"),
            feed_forward=make.feed_forward("feed_forward"),
            attention_norm=make.norm("attention_norm"),
            feed_forward_norm=make.norm("feed_forward_norm"),
            dropout=make.config.hidden_dropout_prob,
            norm_position=make.config.norm_position,
            name=f"block_{index}",
            dtype=make.dtype,
        )

    def pool(self, make: "Maker", x: Any) -> Any:
        """The sentence vector: a dense layer on the first position, (B, H)."""
        first = layers.TokenPooling(name="first_token", dtype=make.dtype)(x)
        return make.dense(make.config.hidden_size, "pooler", make.config.pooler_act)(first)

    def language_logits(self, make: "Maker") -> Any:
        """Dense, activation, norm, the transposed token table, bias: (B, T, H) to (B, T, V) float32."""
        config = make.config
        x = self.output["sequence_output"]
        x = make.dense(config.width_of_embeddings, "mlm_dense", config.activations[0])(x)
        x = make.norm("mlm_norm")(x, *make.condition(self.input))
        x = self.token_embedding(x, reverse=True)
        return layers.OutputBias(name="mlm_bias", dtype="float32")(x)

    def decoder_logits(self, make: "Maker") -> Any:
        """The logits of the next target token, of families with a decoder of their own: (B, T, V) float32."""
        role = " with application='unilm'" if "unilm" in self.applications else ""
        raise ConfigError(f"the family {make.config.family} has no decoder beside an encoder; use CausalLM{role}")

    def tied_logits(self, x: Any) -> Any:
        """The transposed token table alone: (B, T, E) to (B, T, V) float32."""
        return keras.layers.Identity(name="logits", dtype="float32")(self.token_embedding(x, reverse=True))


class Maker:
    """Makes the layers of a model with the initialiser, norm and dtype policy that its configuration asks for.

    `made` holds them by name, for a step that uses one again; `notes` is what one step leaves for another.
    """

    def __init__(self, config: BackboneConfig, initializer: Any = None, dtype: Any = None) -> None:
        self.config = config
        self.dtype = dtype
        self._initializer = initializer
        self.made: dict[str, keras.layers.Layer] = {}
        self.notes: dict[str, Any] = {}

    def remember(self, layer: keras.layers.Layer) -> keras.layers.Layer:
        """The layer itself, entered in `made`."""
        self.made[layer.name] = layer
        return layer

    def initializer(self) -> keras.initializers.Initializer:
        """A fresh initialiser: by default the truncated normal of BERT."""
        if self._initializer is not None:
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
        relative = positions and config.position_embedding_type == "relative"
        bias = config.use_bias if config.attention_bias is None else config.attention_bias
        return layers.MultiHeadAttention(
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
            max_relative_position=config.max_relative_position if relative else None,
            interleaved_rotary=config.rotary_interleaved,
            rotary_value=config.rotary_value,
            query_key_norm=config.layer_norm_eps if config.query_key_norm else None,
            name=name,
            dtype=self.dtype,
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

    def rotary(self, name: str) -> keras.layers.Layer:
        """The table of rotary positions."""
        config = self.config
        return layers.RotaryPositions(
            config.key_size, config.rotary_base, config.rotary_scaling, config.rotary_limit, name=name
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

    def condition(self, inputs: Tensors) -> tuple[Any, ...]:
        """The further arguments of a norm."""
        return (inputs["condition"],) if "condition" in inputs else ()

    def position_ids(self, inputs: Tensors) -> Tensors:
        """The positions that were given, if any."""
        return {"position_ids": inputs["position_ids"]} if "position_ids" in inputs else {}
