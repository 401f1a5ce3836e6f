"""RoFormer: BERT with rotary positions, and RoFormer-Sim, which writes and compares sentences.

Source: Su et al. 2021, arXiv 2104.09864; 科学空间 archives/8265 (RoFormer), archives/8454 (RoFormer-Sim).
"""

from dataclasses import replace
from typing import ClassVar

import keras
import numpy as np

from qingformer.checkpoints.weight_map import WeightMap
from qingformer.models.backbone import Backbone
from qingformer.models.bert import bert_like, block_rows, embedding_rows, head_rows
from qingformer.models.config import BackboneConfig
from qingformer.models.family import COMMON_KEYS, SUMMARY_KEYS, FamilySpec
from qingformer.models.family_registry import register_family

EMBED_POSITIONS = r"encoder\.embed_positions\.weight$"


@register_family("roformer", huggingface_class="RoFormerForMaskedLM")
@keras.saving.register_keras_serializable("qingformer")
class RoFormer(Backbone):
    """The RoFormer encoder; see `Backbone` for inputs and outputs."""

    spec: ClassVar[FamilySpec] = FamilySpec(
        defaults={"position_embedding_type": "rotary"},
        weight_signatures=(r"^roformer\.",),
        huggingface_keys={key: key for key in (*COMMON_KEYS, "embedding_size", "rotary_value")},
        ignored_keys=SUMMARY_KEYS,
    )

    @classmethod
    def fixed_tables(cls, config: BackboneConfig) -> dict[str, np.ndarray]:
        """Sines, then cosines, of n / 10000^(2i/d) for every position n: (P, d)."""
        # The whole table, although no layer here reads it: `transformers` loads it in place of computing it.
        rates = 10000.0 ** (-np.arange(0, config.head_size, 2) / config.head_size)
        angles = np.arange(config.max_position_embeddings)[:, None] * rates
        table = np.concatenate([np.sin(angles), np.cos(angles)], axis=1)
        return {"roformer.encoder.embed_positions.weight": table.astype("float32")}

    @classmethod
    def computed_tables(cls, config: BackboneConfig) -> dict[str, tuple[np.ndarray, ...]]:
        """The sines and cosines, which `transformers` takes from the file."""
        return {EMBED_POSITIONS: tuple(RoFormer.fixed_tables(config).values())}

    @staticmethod
    def weight_map(config: BackboneConfig) -> WeightMap:
        """BERT's names without the table of positions; `embeddings_project` is what Hugging Face files call it."""
        names = ("encoder/embedding_hidden_mapping_in", "embeddings_project")
        rows = embedding_rows(config, huggingface="roformer", projection=names)
        rows = [row for row in rows if "position_embedding/" not in row.ours]
        for index in range(config.num_hidden_layers):
            rows += block_rows(index, huggingface="roformer.encoder.layer.{}")
        plain = bert_like(rows + head_rows("roformer"), "roformer")
        return WeightMap(
            plain.rows,
            spellings=plain.spellings,
            copies=plain.copies,
            ignored={
                "tensorflow": plain.ignored["tensorflow"],
                "huggingface": (*plain.ignored["huggingface"], EMBED_POSITIONS),
            },
        )


@register_family("roformer_sim", huggingface_class="RoFormerForMaskedLM")
@keras.saving.register_keras_serializable("qingformer")
class RoFormerSim(RoFormer):
    """RoFormer trained to write and to compare similar sentences: UniLM, with a linear pooler as sentence vector."""

    spec: ClassVar[FamilySpec] = replace(
        RoFormer.spec,
        defaults={"position_embedding_type": "rotary", "application": "unilm", "pooler_act": "linear"},
        heads=("Similarity", "MaskedLM", "CausalLM"),
        weight_signatures=(),
    )
