"""The body that all encoder families share: embeddings, blocks, pooler. A family overrides the steps that differ."""

from typing import Any

import keras

from qingformer import layers
from qingformer.models.config import BackboneConfig
from qingformer.models.pretrained import PretrainedModel
from qingformer.models.registry import family_class
from qingformer.ops.activations import get_activation

Tensors = dict[str, Any]


@keras.saving.register_keras_serializable("qingformer")
class Backbone(PretrainedModel):
    """A Transformer encoder as a functional `keras.Model`, of the family that its configuration names.

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
            cls = family_class(getattr(config, "family", None) or config["family"])
        return super().__new__(cls)

    def __init__(
        self,
        config: BackboneConfig | dict[str, Any],
        initializer: Any = None,
        dtype: Any = None,
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        config = BackboneConfig.from_dict(config) if isinstance(config, dict) else config
        make = Maker(config, initializer, dtype)

        # === Layers and functional model ===
        inputs = self.make_inputs(make)
        mask = self.make_mask(make, inputs)
        condition = inputs.get("condition")
        token_embedding = self.make_token_embedding(make)
        x = self.embed(make, token_embedding, inputs)
        scores = None
        for index in range(config.num_hidden_layers):
            block = self.make_block(make, index)
            x = block(x, attention_mask=mask, condition=condition, scores=scores)
            if config.residual_attention_scores:
                x, scores = x
        outputs = {"sequence_output": x}
        if config.pooler:
            outputs["pooled_output"] = self.pool(make, x)
        super().__init__(inputs, outputs, name=name or config.family, **kwargs)

        # === Configuration ===
        self.config = config
        self.token_embedding = token_embedding
        if dtype is not None:
            self.dtype_policy = dtype

    def make_inputs(self, make: "Maker") -> Tensors:
        """The inputs by name."""
        names = ["token_ids", "padding_mask"]
        names += ["segment_ids"] if make.config.type_vocab_size else []
        names += ["position_ids"] if make.config.custom_position_ids else []
        inputs = {name: keras.Input((None,), dtype="int32", name=name) for name in names}
        if make.config.condition_size is not None:
            inputs["condition"] = keras.Input((make.config.condition_size,), dtype="float32", name="condition")
        return inputs

    def make_mask(self, make: "Maker", inputs: Tensors) -> Any:
        """The attention mask of all blocks."""
        segments = {"segment_ids": inputs["segment_ids"]} if make.config.application == "unilm" else {}
        return layers.AttentionMask(make.config.application, name="attention_mask")(inputs["padding_mask"], **segments)

    def make_token_embedding(self, make: "Maker") -> keras.layers.Layer:
        """The token table, which heads use again in reverse."""
        config = make.config
        return make.embedding(config.vocab_size, config.width_of_embeddings, "token_embedding", reversible=True)

    def embed(self, make: "Maker", token_embedding: keras.layers.Layer, inputs: Tensors) -> Any:
        """The sum of the embeddings, normalised, dropped out, and brought to the hidden size: (B, T, H)."""
        config = make.config
        x = token_embedding(inputs["token_ids"])
        if config.type_vocab_size:
            segments = token_embedding
            if not config.shared_segment_embeddings:
                segments = make.embedding(config.type_vocab_size, config.width_of_embeddings, "segment_embedding")
            x = keras.layers.Add(name="token_and_segment", dtype=make.dtype)([x, segments(inputs["segment_ids"])])
        x = self.add_positions(make, x, inputs)
        x = make.norm("embeddings_norm")(x, *make.condition(inputs))
        x = layers.Dropout(config.hidden_dropout_prob, name="embeddings_dropout", dtype=make.dtype)(x)
        if config.width_of_embeddings != config.hidden_size:
            x = make.dense(config.hidden_size, "embedding_projection")(x)
        return x

    def add_positions(self, make: "Maker", x: Any, inputs: Tensors) -> Any:
        """Add what the family adds to the embeddings for positions."""
        config = make.config
        positions = layers.PositionEmbedding(
            config.max_position_embeddings,
            config.width_of_embeddings,
            hierarchical=config.hierarchical_position,
            embeddings_initializer=make.initializer(),
            name="position_embedding",
            dtype=make.dtype,
        )
        ids = {"position_ids": inputs["position_ids"]} if config.custom_position_ids else {}
        return positions(x, **ids)

    def make_block(self, make: "Maker", index: int) -> keras.layers.Layer:
        """Block number `index`."""
        config = make.config
        return layers.TransformerBlock(
            attention=layers.MultiHeadAttention(
                config.num_attention_heads,
                config.head_size,
                key_size=config.key_size,
                dropout=config.attention_probs_dropout_prob,
                residual_scores=config.residual_attention_scores,
                kernel_initializer=make.initializer(),
                name="attention",
                dtype=make.dtype,
            ),
            feed_forward=layers.FeedForward(
                config.intermediate_size,
                config.hidden_act,
                kernel_initializer=make.initializer(),
                name="feed_forward",
                dtype=make.dtype,
            ),
            attention_norm=make.norm("attention_norm"),
            feed_forward_norm=make.norm("feed_forward_norm"),
            dropout=config.hidden_dropout_prob,
            name=f"block_{index}",
            dtype=make.dtype,
        )

    def pool(self, make: "Maker", x: Any) -> Any:
        """The sentence vector: a dense layer on the first position, (B, H)."""
        first = layers.TokenPooling(name="first_token", dtype=make.dtype)(x)
        return make.dense(make.config.hidden_size, "pooler", make.config.pooler_act)(first)


class Maker:
    """Makes the stock layers of a model with the initialiser, norm and dtype policy that its configuration asks for."""

    def __init__(self, config: BackboneConfig, initializer: Any = None, dtype: Any = None) -> None:
        self.config = config
        self.dtype = dtype
        self._initializer = initializer

    def initializer(self) -> keras.initializers.Initializer:
        """A fresh initialiser: by default the truncated normal of BERT."""
        if self._initializer is not None:
            return keras.initializers.get(self._initializer)
        return keras.initializers.TruncatedNormal(stddev=self.config.initializer_range)

    def embedding(self, rows: int, width: int, name: str, reversible: bool = False) -> keras.layers.Layer:
        """An embedding table."""
        kind = keras.layers.ReversibleEmbedding if reversible else keras.layers.Embedding
        return kind(rows, width, embeddings_initializer=self.initializer(), name=name, dtype=self.dtype)

    def dense(self, size: int, name: str, activation: str = "linear") -> keras.layers.Layer:
        """A dense layer."""
        function = get_activation(activation)
        initializer = self.initializer()
        return layers.Dense(size, activation=function, kernel_initializer=initializer, name=name, dtype=self.dtype)

    def norm(self, name: str) -> keras.layers.Layer:
        """A layer norm, conditional if the configuration has a condition."""
        config = self.config
        if config.condition_size is None:
            return keras.layers.LayerNormalization(epsilon=config.layer_norm_eps, name=name, dtype=self.dtype)
        return layers.ConditionalLayerNormalization(
            config.layer_norm_eps,
            config.condition_hidden_size,
            config.condition_hidden_act,
            name=name,
            dtype=self.dtype,
        )

    def condition(self, inputs: Tensors) -> tuple[Any, ...]:
        """The further arguments of a norm."""
        return (inputs["condition"],) if "condition" in inputs else ()
