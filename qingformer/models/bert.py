"""BERT, and RoBERTa-wwm which is BERT trained longer: the common body without changes, and its weight map.

WoBERT is BERT over a vocabulary of words (`Tokenizer.from_pretrained(..., pre_tokenize="jieba")`), LaBSE is BERT over
109 languages whose pooled vector, normalised, stands for the sentence: the same family.
Sources: Devlin et al. 2018, arXiv 1810.04805; Cui et al. 2019 (whole-word masking), arXiv 1906.08101; 科学空间
archives/7758 (WoBERT); Feng et al. 2020 (LaBSE), arXiv 2007.01852.
"""

import keras

from qingformer.checkpoints.weight_map import TRANSPOSE, Row, WeightMap, dense, norm
from qingformer.models.backbone import Backbone
from qingformer.models.config import BackboneConfig
from qingformer.models.family_registry import register_family

# Ports of Google's files into the first releases of `transformers` kept TensorFlow's names of gain and offset.
OLD_NORMS = ((r"LayerNorm\.weight$", "LayerNorm.gamma"), (r"LayerNorm\.bias$", "LayerNorm.beta"))
# What Google's trainers save beside the weights: the step, and Adam's two moments of every variable.
TRAINING_STATE = (r"^global_step$", r"(^|/)(adam_[mv]|Adam(_1)?|AdamWeightDecayOptimizer(_1)?)$")


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
        return bert_like(rows + head_rows())


def bert_like(rows: list[Row], huggingface: str = "bert") -> WeightMap:
    """The map of a family that stores its weights as BERT does, under another first word in Hugging Face files."""
    return WeightMap(
        tuple(rows),
        spellings={"huggingface": ((rf"^{huggingface}\.", ""), *OLD_NORMS)},
        copies={
            "huggingface": {
                # Saved twice by some releases, since the output and the table are one parameter in two modules.
                "cls.predictions.decoder.weight": f"{huggingface}.embeddings.word_embeddings.weight",
                "cls.predictions.decoder.bias": "cls.predictions.bias",
            }
        },
        ignored={
            "tensorflow": TRAINING_STATE,
            # Buffers with 0 ... T - 1 and zeros.
            "huggingface": (r"embeddings\.(position|token_type)_ids$",),
        },
    )


def embedding_rows(
    config: BackboneConfig,
    tensorflow: str = "bert",
    huggingface: str = "bert",
    projection: tuple[str, str] = ("encoder/embedding_hidden_mapping_in", "encoder.embedding_hidden_mapping_in"),
) -> list[Row]:
    """The tables before the first block, their norm and their projection to the hidden size."""
    kinds = [("token", "word"), ("position", "position"), ("segment", "token_type")]
    rows = [
        Row(
            f"{kind}_embedding/embeddings",
            f"{tensorflow}/embeddings/{name}_embeddings",
            f"{huggingface}.embeddings.{name}_embeddings.weight",
        )
        for kind, name in kinds
    ]
    rows += norm("embeddings_norm", f"{tensorflow}/embeddings/LayerNorm", f"{huggingface}.embeddings.LayerNorm")
    return rows + dense("embedding_projection", f"{tensorflow}/{projection[0]}", f"{huggingface}.{projection[1]}")


def block_rows(
    index: int, tensorflow: str = "bert/encoder/layer_{}", huggingface: str = "bert.encoder.layer.{}"
) -> list[Row]:
    """One block: three projections, the output of the attention, the feed-forward, two norms."""
    ours, tensorflow, huggingface = f"block_{index}", tensorflow.format(index), huggingface.format(index)
    rows = []
    # Google's scopes and Hugging Face's modules have the same words here, apart by "/" and ".".
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


def head_rows(huggingface: str = "bert") -> list[Row]:
    """Pooler, masked language model and next sentence."""
    return [
        *dense("pooler", "bert/pooler/dense", f"{huggingface}.pooler.dense"),
        *dense("mlm_dense", "cls/predictions/transform/dense", "cls.predictions.transform.dense"),
        *norm("mlm_norm", "cls/predictions/transform/LayerNorm", "cls.predictions.transform.LayerNorm"),
        Row("mlm_bias/bias", "cls/predictions/output_bias", "cls.predictions.bias"),
        *next_sentence_rows("cls.seq_relationship"),
    ]


def next_sentence_rows(huggingface: str) -> list[Row]:
    """The two outputs on the pooled vector; TensorFlow files store the matrix as (2, H)."""
    return [
        Row(
            "next_sentence/kernel",
            "cls/seq_relationship/output_weights",
            f"{huggingface}.weight",
            tensorflow_steps=(TRANSPOSE,),
            huggingface_steps=(TRANSPOSE,),
        ),
        Row("next_sentence/bias", "cls/seq_relationship/output_bias", f"{huggingface}.bias"),
    ]
