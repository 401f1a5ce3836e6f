"""The body that all encoder families share: embeddings, blocks, pooler. A family overrides the steps that differ."""

from collections.abc import Callable
from typing import ClassVar, TypeAlias

import keras

from qingformer import backend, layers
from qingformer.errors import ConfigError
from qingformer.models.config import BackboneConfig, block_group
from qingformer.models.family import Family
from qingformer.models.family_registry import family_class
from qingformer.models.layer_factory import LayerFactory
from qingformer.models.pretrained import PretrainedModel
from qingformer.types import Config, DtypeLike, InitializerLike, Tensor, Tensors

Contexts: TypeAlias = dict[str, layers.AttentionContext]


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

    # What makes the layers; a family whose norms or dense layers differ throughout has its own.
    layer_factory: ClassVar[type[LayerFactory]] = LayerFactory

    def __new__(cls, config: BackboneConfig | Config | None = None, **kwargs: object) -> "Backbone":
        if cls is Backbone and config is not None:
            family = config.get("family", "bert") if isinstance(config, dict) else config.family
            cls = family_class(family)
        return super().__new__(cls)

    def __init__(
        self,
        config: BackboneConfig | Config,
        initializer: InitializerLike = None,
        dtype: DtypeLike = None,
        name: str | None = None,
        **kwargs: object,
    ) -> None:
        backend.check_device()  # JAX would fail at the first weight, with many lines of its own
        config = BackboneConfig.from_dict(config) if isinstance(config, dict) else config
        factory = self.layer_factory(config, initializer or self.default_initializer(config), dtype)

        # === Layers and functional model ===
        inputs, outputs = self.build_graph(factory)
        super().__init__(inputs, outputs, name=name or config.family, **kwargs)

        # === Configuration ===
        self.config = config
        self.token_embedding = factory.made["token_embedding"]
        # A functional model has Keras' own policy, whatever its layers have; heads and files ask the model for it.
        if dtype is not None:
            self.dtype_policy = dtype

    def build_graph(self, factory: LayerFactory) -> tuple[Tensors, Tensors]:
        """Inputs and outputs by name: one stack of blocks between embeddings and pooler."""
        config = factory.config
        inputs = self.make_inputs(factory)
        x = self.embed(factory, self.make_token_embedding(factory), inputs)
        x = self.run_blocks(factory, x, self.make_contexts(factory, inputs, x))
        # Blocks that normalise their inputs leave the last sum as it is.
        if config.norm_position == "pre":
            x = factory.norm("final_norm")(x, *factory.condition(inputs))
        outputs = {"sequence_output": x}
        if config.pooler:
            outputs["pooled_output"] = self.pool(factory, x)
        return inputs, outputs

    def make_inputs(self, factory: LayerFactory) -> Tensors:
        """The inputs by name."""
        names = ["token_ids", "padding_mask"]
        names += ["segment_ids"] if factory.config.type_vocab_size else []
        names += ["position_ids"] if factory.config.custom_position_ids else []
        inputs = {name: keras.Input((None,), dtype="int32", name=name) for name in names}
        if factory.config.condition_size is not None:
            inputs["condition"] = keras.Input((factory.config.condition_size,), dtype="float32", name="condition")
        return inputs

    def make_contexts(self, factory: LayerFactory, inputs: Tensors, x: Tensor) -> Contexts:
        """The masks, positions and condition of the blocks, by the name under which `block_inputs` finds them.

        They are made here, once, and not by each block: masks and tables of cosines are as large as activations.
        """
        config = factory.config
        rotary = bias = None
        if config.position_embedding_type == "rotary":
            rotary = factory.rotary("rotary_positions")(x, **factory.position_ids(inputs))
        if config.position_embedding_type == "bucketed":
            bias = factory.position_bias("position_bias", config.application != "lm")(x)
        mask, condition = self.make_mask(factory, inputs), inputs.get("condition")
        return {"all": layers.AttentionContext(mask, bias, rotary, condition=condition)}

    def block_inputs(self, factory: LayerFactory, index: int, contexts: Contexts) -> layers.AttentionContext:
        """The inputs of block `index` beside the hidden states; a family whose blocks differ chooses here."""
        return contexts["all"]

    def make_mask(self, factory: LayerFactory, inputs: Tensors) -> Tensor:
        """The keys that each query may see: (B, 1, 1 or T, T) bool."""
        config = factory.config
        segments = {"segment_ids": inputs["segment_ids"]} if config.application == "unilm" else {}
        mask = layers.AttentionMask(config.application, config.mask_diagonal, name="attention_mask")
        return mask(inputs["padding_mask"], **segments)

    def run_blocks(self, factory: LayerFactory, x: Tensor, contexts: Contexts) -> Tensor:
        """The blocks one after the other, with shared weights where the configuration shares them: (B, T, H)."""
        config = factory.config
        shared: dict[int, keras.layers.Layer] = {}
        scores = None
        for index in range(config.num_hidden_layers):
            group = block_group(config, index)
            if group not in shared:
                shared[group] = self.make_block(factory, group)
            x = shared[group](x, **self.block_inputs(factory, index, contexts)._replace(scores=scores).given())
            if config.residual_attention_scores:
                x, scores = x
        return x

    def make_token_embedding(self, factory: LayerFactory) -> keras.layers.Layer:
        """The token table, which heads use again in reverse."""
        config = factory.config
        return factory.embedding(config.vocab_size, config.width_of_embeddings, "token_embedding", reversible=True)

    def embed(self, factory: LayerFactory, token_embedding: Callable[[Tensor], Tensor], inputs: Tensors) -> Tensor:
        """The sum of the embeddings, normalised, dropped out, and brought to the hidden size: (B, T, H)."""
        config = factory.config
        x = self.sum_embeddings(factory, token_embedding, inputs)
        if config.position_embedding_type == "absolute":
            x = self.add_positions(factory, x, inputs)
        if config.embedding_norm:
            x = factory.norm("embeddings_norm")(x, *factory.condition(inputs))
        x = layers.Dropout(config.hidden_dropout_prob, name="embeddings_dropout", dtype=factory.dtype)(x)
        if config.projects_embeddings:
            x = factory.dense(config.hidden_size, "embedding_projection")(x)
        return x

    def sum_embeddings(
        self, factory: LayerFactory, token_embedding: Callable[[Tensor], Tensor], inputs: Tensors
    ) -> Tensor:
        """Tokens and, where there are any, segments: (B, T, width of the embeddings)."""
        config = factory.config
        x = token_embedding(inputs["token_ids"])
        if not config.type_vocab_size:
            return x
        # CDial-GPT has rows of the token table for its speakers; all others have a table of segments.
        segments = token_embedding
        if not config.shared_segment_embeddings:
            segments = factory.embedding(config.type_vocab_size, config.width_of_embeddings, "segment_embedding")
        return keras.layers.Add(name="token_and_segment", dtype=factory.dtype)([x, segments(inputs["segment_ids"])])

    def add_positions(self, factory: LayerFactory, x: Tensor, inputs: Tensors) -> Tensor:
        """Add the learned vectors of the positions."""
        return factory.position_embedding("position_embedding")(x, **factory.position_ids(inputs))

    def make_block(self, factory: LayerFactory, index: int) -> keras.layers.Layer:
        """Block number `index`."""
        return factory.block(f"block_{index}")

    def pool(self, factory: LayerFactory, x: Tensor) -> Tensor:
        """The sentence vector: a dense layer on the first position, (B, H)."""
        first = layers.TokenPooling(name="first_token", dtype=factory.dtype)(x)
        return factory.dense(factory.config.hidden_size, "pooler", factory.config.pooler_act)(first)

    def language_logits(self, factory: LayerFactory) -> Tensor:
        """Dense, activation, norm, the transposed token table, bias: (B, T, H) to (B, T, V) float32."""
        config = factory.config
        x = self.output["sequence_output"]
        x = factory.dense(config.width_of_embeddings, "mlm_dense", config.activations[0])(x)
        x = factory.norm("mlm_norm")(x, *factory.condition(self.input))
        x = self.token_embedding(x, reverse=True)
        return layers.OutputBias(name="mlm_bias", dtype="float32")(x)

    def decoder_logits(self, factory: LayerFactory) -> Tensor:
        """The logits of the next target token, of families with a decoder of their own: (B, T, V) float32."""
        role = " with application='unilm'" if "unilm" in self.spec.applications else ""
        raise ConfigError(f"the family {factory.config.family} has no decoder beside an encoder; use CausalLM{role}")

    def tied_logits(self, x: Tensor) -> Tensor:
        """The transposed token table alone: (B, T, E) to (B, T, V) float32."""
        return keras.layers.Identity(name="logits", dtype="float32")(self.token_embedding(x, reverse=True))
