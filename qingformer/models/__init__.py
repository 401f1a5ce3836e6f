"""Models: a configuration, a backbone made of bricks, heads, and one file a family."""

from qingformer.models.backbone import Backbone
from qingformer.models.bert import Bert
from qingformer.models.config import BackboneConfig
from qingformer.models.heads import CausalLM, MaskedLM, NextSentencePrediction, PreTraining
from qingformer.models.registry import FAMILIES

__all__ = [
    "FAMILIES",
    "Backbone",
    "BackboneConfig",
    "Bert",
    "CausalLM",
    "MaskedLM",
    "NextSentencePrediction",
    "PreTraining",
]
