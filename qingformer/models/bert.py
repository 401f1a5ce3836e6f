"""BERT, and RoBERTa-wwm which is BERT trained longer: the common body without changes, and its weight map.

Source: Devlin et al. 2018, arXiv 1810.04805; Cui et al. 2019 (whole-word masking), arXiv 1906.08101.
"""

import keras

from qingformer.checkpoints.weight_map import TRANSPOSE, Row, WeightMap, dense, norm
from qingformer.models.backbone import Backbone
from qingformer.models.config import BackboneConfig
from qingformer.models.registry import register_family


@register_family("bert", huggingface_class="BertForPreTraining")
@keras.saving.register_keras_serializable("qingformer")
class Bert(Backbone):
    """The BERT encoder; see `Backbone` for inputs and outputs."""

    @staticmethod
    def weight_map(config: BackboneConfig) -> WeightMap:
        """Every variable of the encoder and its pre-training heads, under Google's and Hugging Face's names."""
        rows = embedding_rows(config)
        for index in range(config.num_hidden_layers):
            rows += block_rows(index)
        return WeightMap(
            tuple(rows + head_rows()),
            spellings={
                "huggingface": (
                    (r"^bert\.", ""),
                    (r"LayerNorm\.weight$", "LayerNorm.gamma"),
                    (r"LayerNorm\.bias$", "LayerNorm.beta"),
                ),
            },
            copies={
                "huggingface": {
                    "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
                    "cls.predictions.decoder.bias": "cls.predictions.bias",
                }
            },
            ignored={
                "tensorflow": (r"^global_step$", r"(^|/)(adam_[mv]|Adam(_1)?)$", r"^output_(weights|bias)$"),
                "huggingface": (r"embeddings\.position_ids$", r"^(classifier|qa_outputs)\."),
            },
        )


def embedding_rows(config: BackboneConfig) -> list[Row]:
    """The tables before the first block."""
    tensorflow, huggingface = "bert/embeddings", "bert.embeddings"
    kinds = [("token", "word"), ("position", "position")]
    if config.type_vocab_size and not config.shared_segment_embeddings:
        kinds.append(("segment", "token_type"))
    rows = [
        Row(
            f"{kind}_embedding/embeddings", f"{tensorflow}/{name}_embeddings", f"{huggingface}.{name}_embeddings.weight"
        )
        for kind, name in kinds
    ]
    rows += norm("embeddings_norm", f"{tensorflow}/LayerNorm", f"{huggingface}.LayerNorm")
    mapping = "embedding_hidden_mapping_in"
    return rows + dense("embedding_projection", f"bert/encoder/{mapping}", f"bert.encoder.{mapping}")


def block_rows(index: int) -> list[Row]:
    """One block: three projections, the output of the attention, the feed-forward, two norms."""
    ours, tensorflow, huggingface = f"block_{index}", f"bert/encoder/layer_{index}", f"bert.encoder.layer.{index}"
    rows = []
    for part, stored in (
        ("attention/query", "attention/self/query"),
        ("attention/key", "attention/self/key"),
        ("attention/value", "attention/self/value"),
        ("attention/output", "attention/output/dense"),
        ("feed_forward/intermediate", "intermediate/dense"),
        ("feed_forward/output", "output/dense"),
    ):
        rows += dense(f"{ours}/{part}", f"{tensorflow}/{stored}", f"{huggingface}.{stored.replace('/', '.')}")
    for part, stored in (("attention_norm", "attention/output/LayerNorm"), ("feed_forward_norm", "output/LayerNorm")):
        rows += norm(f"{ours}/{part}", f"{tensorflow}/{stored}", f"{huggingface}.{stored.replace('/', '.')}")
    return rows


def head_rows() -> list[Row]:
    """Pooler, masked language model and next sentence."""
    return [
        *dense("pooler", "bert/pooler/dense", "bert.pooler.dense"),
        *dense("mlm_dense", "cls/predictions/transform/dense", "cls.predictions.transform.dense"),
        *norm("mlm_norm", "cls/predictions/transform/LayerNorm", "cls.predictions.transform.LayerNorm"),
        Row("mlm_bias/bias", "cls/predictions/output_bias", "cls.predictions.bias"),
        Row(
            "next_sentence/kernel",
            "cls/seq_relationship/output_weights",
            "cls.seq_relationship.weight",
            tensorflow_steps=(TRANSPOSE,),
            huggingface_steps=(TRANSPOSE,),
        ),
        Row("next_sentence/bias", "cls/seq_relationship/output_bias", "cls.seq_relationship.bias"),
    ]
