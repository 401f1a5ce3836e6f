"""ELECTRA: BERT trained to find replaced tokens, and the small generator that replaces them.

The discriminator has no pooler and no language model (`qf.ReplacedTokenDetection` is its head); the generator
(`generator=True`, or found from the names) is a `qf.MaskedLM`. Google's files hold both.
Source: Clark et al. 2020, arXiv 2003.10555.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import keras

from qingformer.checkpoints.weight_map import Row, WeightMap, dense, norm
from qingformer.errors import ConfigError
from qingformer.models.backbone import Backbone
from qingformer.models.bert import OLD_NORMS, TRAINING_STATE, block_rows, embedding_rows
from qingformer.models.config import BackboneConfig
from qingformer.models.family import COMMON_KEYS, SUMMARY_KEYS, FamilySpec
from qingformer.models.family_registry import register_family
from qingformer.models.layer_factory import LayerFactory


@register_family("electra", huggingface_class="ElectraForPreTraining")
@keras.saving.register_keras_serializable("qingformer")
class Electra(Backbone):
    """The ELECTRA encoder, discriminator or generator; see `Backbone` for inputs and outputs."""

    spec: ClassVar[FamilySpec] = FamilySpec(
        defaults={"pooler": False},
        applications=("encoder",),
        heads=("ReplacedTokenDetection", "MaskedLM"),
        weight_signatures=(r"^(electra|generator|discriminator_predictions|generator_predictions)[./]",),
        huggingface_keys={key: key for key in (*COMMON_KEYS, "embedding_size")},
        implied_keys=("generator",),
        ignored_keys=SUMMARY_KEYS,
    )

    @classmethod
    def adapt_config(cls, config: BackboneConfig, layout: str, names: Sequence[str]) -> BackboneConfig:
        """A file with the generator's head alone, or its blocks alone, is a generator's."""
        heads = {name.replace(".", "/").split("/")[0] for name in names}
        alone = "generator_predictions" in heads and "discriminator_predictions" not in heads
        alone = alone or ("generator" in heads and not any(name.startswith("electra/encoder/") for name in names))
        return config.replace(generator=True) if alone else config

    @classmethod
    def huggingface_class_of(cls, config: BackboneConfig) -> str | None:
        """The generator has a class of its own."""
        return "ElectraForMaskedLM" if config.generator else cls.spec.huggingface_class

    def language_logits(self, factory: LayerFactory) -> Any:
        """BERT's head, which the generator alone has."""
        if not factory.config.generator:
            raise ConfigError(
                "ELECTRA's discriminator has no language model; use ReplacedTokenDetection, or pass generator=True for "
                "the generator's"
            )
        return super().language_logits(factory)

    @staticmethod
    def weight_map(config: BackboneConfig) -> WeightMap:
        """Google's and Hugging Face's names of the part that the configuration asks for."""
        part = "generator" if config.generator else "electra"
        other = "electra" if config.generator else "generator"
        rows = embedding_rows(config, "electra", "electra", ("embeddings_project", "embeddings_project"))
        for index in range(config.num_hidden_layers):
            rows += block_rows(index, f"{part}/encoder/layer_{{}}", "electra.encoder.layer.{}")
        rows = [own_projection(row, part) for row in rows]
        spelling = ((r"^generator/", "electra/"),) if config.generator else ()
        return WeightMap(
            tuple(rows + head_rows()),
            spellings={"huggingface": ((r"^electra\.", ""), *OLD_NORMS), "tensorflow": spelling},
            copies={"huggingface": {"generator_lm_head.weight": "electra.embeddings.word_embeddings.weight"}},
            ignored={
                "tensorflow": (*TRAINING_STATE, rf"^{other}/(encoder|embeddings_project)/"),
                "huggingface": (r"embeddings\.(position|token_type)_ids$",),
            },
        )


def own_projection(row: Row, part: str) -> Row:
    """The embeddings are one table for both parts in Google's files, their projection is not."""
    name = (row.tensorflow or "").replace("electra/embeddings_project", f"{part}/embeddings_project")
    return Row(row.ours, name, row.huggingface, row.tensorflow_steps, row.huggingface_steps)


def head_rows() -> list[Row]:
    """The discriminator's two layers, and the generator's language model."""
    return [
        *dense("replaced_dense", "discriminator_predictions/dense", "discriminator_predictions.dense"),
        *dense("replaced_output", "discriminator_predictions/dense_1", "discriminator_predictions.dense_prediction"),
        *dense("mlm_dense", "generator_predictions/dense", "generator_predictions.dense"),
        *norm("mlm_norm", "generator_predictions/LayerNorm", "generator_predictions.LayerNorm"),
        Row("mlm_bias/bias", "generator_predictions/output_bias", "generator_lm_head.bias"),
    ]
