"""GAU-α: RoFormerV2 with gated attention units in place of attention and feed-forward, two for each pair.

One head of `attention_key_size` 128, `intermediate_size` 2d, activation swish, entropy-invariant softmax; 24 units of
width 768 in the published model, trained without warm-up. Source: 科学空间 archives/9052 (GAU-α), archives/8934 (the
unit); Hua et al. 2022, arXiv 2202.10447.
"""

from dataclasses import replace
from typing import ClassVar

import keras

from qingformer import layers
from qingformer.checkpoints.weight_map import Row, WeightMap
from qingformer.errors import ConfigError
from qingformer.models.bert import bert_like, embedding_rows
from qingformer.models.config import BackboneConfig
from qingformer.models.family import FamilySpec
from qingformer.models.family_registry import register_family
from qingformer.models.layer_factory import LayerFactory
from qingformer.models.roformer_v2 import DEPTH_FREE, RoFormerV2
from qingformer.types import Config


@register_family("gau_alpha")
@keras.saving.register_keras_serializable("qingformer")
class GauAlpha(RoFormerV2):
    """The GAU-α encoder; see `Backbone` for inputs and outputs."""

    spec: ClassVar[FamilySpec] = replace(
        RoFormerV2.spec,
        defaults=DEPTH_FREE
        | {
            "attention_normalization": "softmax_plus",
            "hidden_act": "swish",
            "num_attention_heads": 1,
            "attention_key_size": 128,
            "intermediate_size": 1536,
            "num_hidden_layers": 24,
        },
        model_types=("gau-alpha",),
        weight_signatures=(r"^GAU_alpha/",),
        ignored_keys=("summary_type",),
        supported_values={
            "position_embedding_type": ("rotary", "none"),
            "query_key_norm": (False,),
            "num_key_value_heads": (None,),
            "rotary_value": (False,),
        },
    )
    depth_order = 3

    @classmethod
    def read_config(cls, values: Config, source: str) -> Config:
        """The normalisation has another name there, and the number of heads, which is one, says nothing."""
        if "normalization" in values:
            values["attention_normalization"] = values.pop("normalization")
        values["num_attention_heads"] = 1
        return super().read_config(values, source)

    def make_block(self, factory: LayerFactory, index: int) -> keras.layers.Layer:
        """One gated attention unit with residual connection and norm."""
        config = factory.config
        if len(config.activations) > 1:
            raise ConfigError(f"hidden_act is {config.hidden_act!r}: a gated attention unit has one activation")
        unit = layers.GatedAttentionUnit(
            config.intermediate_size,
            config.key_size,
            activation=config.activations[0],
            use_bias=config.use_bias,
            normalization=config.attention_normalization,
            attention_scale=config.attention_scale,
            dropout=config.attention_probs_dropout_prob,
            kernel_initializer=factory.initializer(),
            interleaved_rotary=config.rotary_interleaved,
            residual_scores=config.residual_attention_scores,
            name="attention",
            dtype=factory.dtype,
        )
        # The unit has its own gate in place of a feed-forward part, so the block has one branch and one norm.
        return factory.block(f"block_{index}", attention=unit, feed_forward=None, feed_forward_norm=None)

    @staticmethod
    def weight_map(config: BackboneConfig) -> WeightMap:
        """The original's names; the embeddings are under BERT's."""
        rows = [row for row in embedding_rows(config) if row.ours.endswith("/embeddings")]
        rows = [Row(row.ours, row.tensorflow, None) for row in rows if "position_embedding/" not in row.ours]
        for index in range(config.num_hidden_layers):
            ours, stored = f"block_{index}/attention", f"GAU_alpha/encoder/layer_{index}/gau"
            for part, name in (
                ("input/kernel", "i_dense/kernel"),
                ("query_scale/gamma", "q_scaleoffset/gamma"),
                ("key_scale/gamma", "k_scaleoffset/gamma"),
                ("output/kernel", "o_dense/kernel"),
            ):
                rows.append(Row(f"{ours}/{part}", f"{stored}/{name}", None))
        return bert_like(rows)
