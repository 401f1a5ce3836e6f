"""NEZHA: BERT with the fixed vectors of clipped distances in place of absolute positions.

Every attention adds the sinusoidal vector of the distance to its keys and to its values. NEZHA-GEN is the same model
as language model. Source: Wei et al. 2019, arXiv 1909.00204.
"""

from typing import Any, ClassVar

import keras

from qingformer.checkpoints.weight_map import WeightMap
from qingformer.models.backbone import Backbone
from qingformer.models.bert import bert_like, block_rows, embedding_rows, head_rows
from qingformer.models.config import BackboneConfig
from qingformer.models.family import COMMON_KEYS, FamilySpec
from qingformer.models.family_registry import register_family
from qingformer.types import Config


@register_family("nezha", huggingface_class="NezhaForPreTraining")
@keras.saving.register_keras_serializable("qingformer")
class Nezha(Backbone):
    """The NEZHA encoder; see `Backbone` for inputs and outputs."""

    spec: ClassVar[FamilySpec] = FamilySpec(
        defaults={"position_embedding_type": "relative"},
        config_signatures=("use_relative_position", "max_relative_position"),
        weight_signatures=(r"^nezha\.",),
        huggingface_keys={key: key for key in (*COMMON_KEYS, "max_relative_position")},
        ignored_keys=("use_relative_position",),
    )

    @classmethod
    def write_config(cls, values: Any) -> Config:
        """With the mark by which other readers know the family."""
        return {**super().write_config(values), "use_relative_position": True}

    @staticmethod
    def weight_map(config: BackboneConfig) -> WeightMap:
        """BERT's names without the table of positions; later Hugging Face files begin with the family's own name."""
        rows = [row for row in embedding_rows(config, huggingface="nezha") if "position_embedding/" not in row.ours]
        for index in range(config.num_hidden_layers):
            rows += block_rows(index, huggingface="nezha.encoder.layer.{}")
        plain = bert_like(rows + head_rows("nezha"), "nezha")
        return WeightMap(
            plain.rows,
            # Huawei's own files, before `transformers` had the family, begin with BERT's name.
            spellings={"huggingface": ((r"^nezha\.", "bert."), *plain.spellings["huggingface"])},
            copies=plain.copies,
            ignored={
                "tensorflow": plain.ignored["tensorflow"],
                # The fixed vectors, stored as a buffer by every layer.
                "huggingface": (*plain.ignored["huggingface"], r"relative_positions_encoding"),
            },
        )
