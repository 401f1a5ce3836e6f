"""Models: a configuration, a backbone made of bricks, heads, and one file a family."""

from qingformer.models.albert import Albert
from qingformer.models.backbone import Backbone
from qingformer.models.bert import Bert
from qingformer.models.config import BackboneConfig
from qingformer.models.electra import Electra
from qingformer.models.ernie import Ernie
from qingformer.models.family_registry import FAMILIES
from qingformer.models.gau_alpha import GauAlpha
from qingformer.models.gpt import GPT
from qingformer.models.gpt2 import GPT2
from qingformer.models.gpt2_ml import GPT2ML
from qingformer.models.heads import (
    CausalLM,
    MaskedLM,
    NextSentencePrediction,
    PreTraining,
    ReplacedTokenDetection,
    SentenceOrderPrediction,
    Similarity,
)
from qingformer.models.llama import Llama
from qingformer.models.modernbert import ModernBert
from qingformer.models.nezha import Nezha
from qingformer.models.roformer import RoFormer, RoFormerSim
from qingformer.models.roformer_v2 import RoFormerV2
from qingformer.models.seq2seq import Seq2SeqLM
from qingformer.models.simbert import SimBert
from qingformer.models.t5 import T5
from qingformer.models.tta import TTA

__all__ = [
    "FAMILIES",
    "GPT",
    "GPT2",
    "GPT2ML",
    "T5",
    "TTA",
    "Albert",
    "Backbone",
    "BackboneConfig",
    "Bert",
    "CausalLM",
    "Electra",
    "Ernie",
    "GauAlpha",
    "Llama",
    "MaskedLM",
    "ModernBert",
    "NextSentencePrediction",
    "Nezha",
    "PreTraining",
    "ReplacedTokenDetection",
    "RoFormer",
    "RoFormerSim",
    "RoFormerV2",
    "SentenceOrderPrediction",
    "Seq2SeqLM",
    "SimBert",
    "Similarity",
]
