"""SimBERT: BERT trained to write similar sentences (UniLM) and to find them ([CLS] vectors within the batch).

The sentence vector is the pooled output, whose dense layer is linear here. Source: 科学空间 archives/7427.
"""

from dataclasses import replace
from typing import ClassVar

import keras

from qingformer.models.bert import Bert
from qingformer.models.family import FamilySpec
from qingformer.models.family_registry import register_family


@register_family("simbert", huggingface_class="BertForPreTraining")
@keras.saving.register_keras_serializable("qingformer")
class SimBert(Bert):
    """BERT as SimBERT uses it; see `Backbone` for inputs and outputs, `Similarity` for its two heads."""

    spec: ClassVar[FamilySpec] = replace(
        Bert.spec,
        defaults={"application": "unilm", "pooler_act": "linear"},
        heads=("Similarity", "MaskedLM", "CausalLM"),
    )
