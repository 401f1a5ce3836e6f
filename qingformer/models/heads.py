"""The heads with which models are pre-trained and generate: language models, sentence pairs, replaced tokens."""

from typing import Any

import keras

from qingformer.errors import ConfigError
from qingformer.models.backbone import Backbone
from qingformer.models.config import BackboneConfig
from qingformer.models.family_registry import check_role, family_class
from qingformer.models.layer_factory import LayerFactory
from qingformer.models.pretrained import PretrainedModel
from qingformer.types import Config, DtypeLike, InitializerLike


class HeadModel(PretrainedModel):
    """A backbone with a head, as one functional model: same inputs, layers and variable paths as the backbone's."""

    default_application = "encoder"
    needs_pooler = False

    def __init__(
        self,
        config: BackboneConfig | Config | Backbone,
        initializer: InitializerLike = None,
        dtype: DtypeLike = None,
        name: str | None = None,
        **kwargs: object,
    ) -> None:
        backbone = config if isinstance(config, Backbone) else self.make_backbone(config, initializer, dtype)
        if self.needs_pooler and not backbone.config.pooler:
            family = family_class(backbone.config.family)
            raise ConfigError(
                f"{type(self).__name__} needs the pooler, which this model does not have; "
                f"heads of the family {family.spec.name} are {', '.join(family.spec.heads)}"
            )
        # The family's own factory: the norms and layers of a head are those of its body.
        factory = backbone.layer_factory(backbone.config, initializer, dtype or backbone.dtype_policy)
        outputs = self.head(factory, backbone)
        super().__init__(backbone.input, outputs, name=name, **kwargs)
        self.backbone = backbone
        self.config = backbone.config
        if dtype is not None:
            self.dtype_policy = dtype

    def make_backbone(
        self, config: BackboneConfig | Config, initializer: InitializerLike, dtype: DtypeLike
    ) -> Backbone:
        """The body under the head, in the application that the head needs."""
        config = BackboneConfig.from_dict(config) if isinstance(config, dict) else config
        # An application that was asked for stays; the default of the configuration gives way to that of the head.
        if config.application == "encoder":
            check_role(type(self).__name__, config.family, self.default_application)
            config = config.replace(application=self.default_application)
        return Backbone(config, initializer=initializer, dtype=dtype)

    def head(self, factory: LayerFactory, backbone: Backbone) -> Any:
        """The outputs, made from `backbone.output`."""
        raise TypeError(f"{type(self).__name__} has no head of its own; use one of its subclasses")


def next_sentence_logits(factory: LayerFactory, backbone: Backbone) -> Any:
    """Dense on the pooled vector: (B, H) to (B, 2) float32; index 0 says that the second sentence follows."""
    # float32 whatever the body has: two logits cost nothing, and their loss is taken from them.
    factory = LayerFactory(factory.config, factory.initializer(), "float32")
    return factory.dense(2, "next_sentence", use_bias=True)(backbone.output["pooled_output"])


@keras.saving.register_keras_serializable("qingformer")
class MaskedLM(HeadModel):
    """The masked language model: logits (B, T, V) float32 over the vocabulary at every position.

    logits = norm(act(h W + b)) E^T + c, E the token table. Inputs as `Backbone`. Source: Devlin et al. 2018,
    arXiv 1810.04805.

    Example: `MaskedLM.from_pretrained("chinese_L-12_H-768_A-12")({"token_ids": ids})`
    """

    def head(self, factory: LayerFactory, backbone: Backbone) -> Any:
        """The logits over the vocabulary."""
        return backbone.language_logits(factory)


@keras.saving.register_keras_serializable("qingformer")
class CausalLM(MaskedLM):
    """The same head over a model that sees only what came before: logits (B, T, V) float32 of the next token.

    The application is "lm" (causal) unless "unilm" (source seen whole, target causal, by segment ids) is asked for.
    Source: Dong et al. 2019, arXiv 1905.03197.

    Example: `CausalLM.from_pretrained("chinese_L-12_H-768_A-12", application="unilm")`
    """

    default_application = "lm"


@keras.saving.register_keras_serializable("qingformer")
class NextSentencePrediction(HeadModel):
    """Whether the second sentence follows the first: logits (B, 2) float32, index 0 = it does.

    Source: Devlin et al. 2018, arXiv 1810.04805, section 3.1.

    Example: `NextSentencePrediction.from_pretrained("chinese_L-12_H-768_A-12")({"token_ids": ids, "segment_ids": s})`
    """

    needs_pooler = True

    def head(self, factory: LayerFactory, backbone: Backbone) -> Any:
        """The two logits."""
        return next_sentence_logits(factory, backbone)


@keras.saving.register_keras_serializable("qingformer")
class PreTraining(HeadModel):
    """Both heads of BERT's pre-training: `mlm_logits` (B, T, V) and `next_sentence_logits` (B, 2), float32.

    Source: Devlin et al. 2018, arXiv 1810.04805.

    Example: `PreTraining(BackboneConfig(vocab_size=100))`
    """

    needs_pooler = True

    def head(self, factory: LayerFactory, backbone: Backbone) -> Any:
        """Both sets of logits by name."""
        return {
            "mlm_logits": backbone.language_logits(factory),
            "next_sentence_logits": next_sentence_logits(factory, backbone),
        }


@keras.saving.register_keras_serializable("qingformer")
class SentenceOrderPrediction(NextSentencePrediction):
    """Whether two sentences stand in their order or were swapped: logits (B, 2) float32, index 0 = in order.

    The same layer as next sentence prediction, trained on another question. Source: Lan et al. 2019, arXiv 1909.11942.

    Example: `SentenceOrderPrediction.from_pretrained("albert_base_zh")({"token_ids": ids, "segment_ids": s})`
    """


@keras.saving.register_keras_serializable("qingformer")
class ReplacedTokenDetection(HeadModel):
    """Whether each token was replaced by the generator: logits (B, T) float32, positive = replaced.

    logit = w . act(h W + b) + c. Source: Clark et al. 2020 (ELECTRA), arXiv 2003.10555.

    Example: `ReplacedTokenDetection.from_pretrained("electra_180g_base")({"token_ids": ids})`
    """

    def head(self, factory: LayerFactory, backbone: Backbone) -> Any:
        """One logit for each position."""
        config = factory.config
        x = factory.dense(config.hidden_size, "replaced_dense", config.activations[0], use_bias=True)(
            backbone.output["sequence_output"]
        )
        float32 = LayerFactory(config, factory.initializer(), "float32")
        x = float32.dense(1, "replaced_output", use_bias=True)(x)
        return keras.layers.Reshape((-1,), name="replaced_logits", dtype="float32")(x)


@keras.saving.register_keras_serializable("qingformer")
class Similarity(HeadModel):
    """A sentence vector of length 1 and a language model over the same body: SimBERT and RoFormer-Sim.

    `sentence_embedding` (B, H) float32 = p / |p|, p the pooled output, so that products are cosines; `lm_logits`
    (B, T, V) float32, which write a similar sentence in the application "unilm".
    Source: 科学空间 archives/7427 (SimBERT), archives/8454 (RoFormer-Sim).

    Example: `Similarity.from_pretrained("chinese_simbert_L-12_H-768_A-12", family="simbert")`
    """

    needs_pooler = True
    default_application = "unilm"

    def head(self, factory: LayerFactory, backbone: Backbone) -> Any:
        """Both outputs by name."""
        pooled = backbone.output["pooled_output"]
        return {
            "sentence_embedding": keras.layers.UnitNormalization(name="sentence_embedding", dtype="float32")(pooled),
            "lm_logits": backbone.language_logits(factory),
        }
