"""GPT2 (OpenAI's, CPM-LM): pre-norm blocks behind a causal mask, a last norm, tied output, no segments.

Source: Radford et al. 2019, "Language Models are Unsupervised Multitask Learners"; Zhang et al. 2020 (CPM), arXiv
2012.00413.
"""

from dataclasses import replace
from typing import ClassVar

import keras

from qingformer.checkpoints.weight_map import UNWRAP, Row, WeightMap, norm
from qingformer.errors import ConfigError
from qingformer.models.bert import block_rows
from qingformer.models.config import BackboneConfig
from qingformer.models.family import FamilySpec, padding_of
from qingformer.models.family_registry import register_family
from qingformer.models.gpt import GPT, OPENAI_IGNORED, OPENAI_KEYS, openai_map, openai_rows
from qingformer.types import Config

ONLY = {"scale_attn_weights": True, "scale_attn_by_inverse_layer_idx": False, "add_cross_attention": False}


@register_family("gpt2", huggingface_class="GPT2LMHeadModel")
@keras.saving.register_keras_serializable("qingformer")
class GPT2(GPT):
    """The GPT2 decoder; see `Backbone` for inputs and outputs."""

    spec: ClassVar[FamilySpec] = replace(
        GPT.spec,
        defaults={
            "application": "lm",
            "norm_position": "pre",
            "embedding_norm": False,
            "pooler": False,
            "type_vocab_size": 0,
            "layer_norm_eps": 1e-5,
            "max_position_embeddings": 1024,
        },
        applications=("lm", "encoder"),
        model_types=("gpt-2",),
        config_signatures=("n_ctx",),
        weight_signatures=(
            r"^gpt/transformer/layer_0/attention/input/",
            r"^model/h0/",
            r"^(transformer\.)?wte\.",
        ),
        huggingface_keys={
            **OPENAI_KEYS,
            "hidden_act": "activation_function",
            "intermediate_size": "n_inner",
            "pad_token_id": "pad_token_id",
        },
        ignored_keys=(*OPENAI_IGNORED, *ONLY, "reorder_and_upcast_attn"),
    )

    @classmethod
    def read_config(cls, values: Config, source: str) -> Config:
        """OpenAI's `hparams.json` and `transformers`' `config.json`, which have the same keys."""
        for key, expected in ONLY.items():
            if values.get(key, expected) != expected:
                raise ConfigError(f"{source}: {key} is {values[key]!r}, which this family does not have")
        if "n_embd" in values:
            if "n_vocab" in values:
                values["vocab_size"] = values.pop("n_vocab")
            values["n_inner"] = values.get("n_inner") or 4 * values["n_embd"]
            values.setdefault("n_positions", values.get("n_ctx", 1024))
            values.setdefault("activation_function", "gelu_new")
            values["pad_token_id"] = padding_of(values)
        values["type_vocab_size"] = 0  # files in BERT's form name segments that the family does not have
        return super(GPT, cls).read_config(values, source)

    @classmethod
    def write_config(cls, values: Config) -> Config:
        """The reverse."""
        return super(GPT, cls).write_config(values) | {"embd_pdrop": values["hidden_dropout_prob"]}

    @staticmethod
    def weight_map(config: BackboneConfig) -> WeightMap:
        """bert4keras' names, OpenAI's own (to read), and Hugging Face's."""
        rows = [
            Row("token_embedding/embeddings", "gpt/embeddings/word_embeddings", "transformer.wte.weight"),
            Row("position_embedding/embeddings", "gpt/embeddings/position_embeddings", "transformer.wpe.weight"),
            Row("token_embedding/embeddings", "model/wte", None),
            Row("position_embedding/embeddings", "model/wpe", None),
            *norm("final_norm", "gpt/output/LayerNorm", "transformer.ln_f"),
            Row("final_norm/gamma", "model/ln_f/g", None),
            Row("final_norm/beta", "model/ln_f/b", None),
        ]
        for index in range(config.num_hidden_layers):
            rows += [before_the_branch(row) for row in block_rows(index, tensorflow="gpt/transformer/layer_{}")]
            rows += openai_rows(f"block_{index}", f"transformer.h.{index}", huggingface=True)
            rows += openai_rows(f"block_{index}", f"model/h{index}", huggingface=False, steps=(UNWRAP,))
        return openai_map(rows, "transformer.wte.weight")


def before_the_branch(row: Row) -> Row:
    """BERT's row as the pre-norm checkpoint names it: the norms stand at the inputs."""
    name = (row.tensorflow or "").replace("/attention/output/LayerNorm/", "/attention/input/LayerNorm/")
    name = name.replace("/output/LayerNorm/", "/input/LayerNorm/")
    return Row(row.ours, name, None)
