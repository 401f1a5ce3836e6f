"""GPT (OpenAI's first, CDial-GPT): BERT's blocks behind a causal mask, no norm after the embeddings, tied output.

Files of `transformers` have no segments by themselves; dialogue models that use them take segment ids from the token
table: `shared_segment_embeddings=True, type_vocab_size=2`.
Sources: Radford et al. 2018, "Improving Language Understanding by Generative Pre-Training"; Wang et al. 2020
(CDial-GPT), arXiv 2008.03946.
"""

from typing import ClassVar

import keras

from qingformer.checkpoints.weight_map import Row, Step, WeightMap
from qingformer.errors import ConfigError
from qingformer.models.backbone import Backbone
from qingformer.models.bert import TRAINING_STATE, block_rows
from qingformer.models.config import BackboneConfig
from qingformer.models.family import FamilySpec, padding_of
from qingformer.models.family_registry import register_family
from qingformer.models.layer_factory import LayerFactory
from qingformer.types import Config, Tensor

OPENAI_KEYS = {
    "vocab_size": "vocab_size",
    "hidden_size": "n_embd",
    "num_hidden_layers": "n_layer",
    "num_attention_heads": "n_head",
    "max_position_embeddings": "n_positions",
    "hidden_dropout_prob": "resid_pdrop",
    "attention_probs_dropout_prob": "attn_pdrop",
    "layer_norm_eps": "layer_norm_epsilon",
    "initializer_range": "initializer_range",
}
OPENAI_IGNORED = (
    "embd_pdrop",
    "n_ctx",
    "n_special",
    "predict_special_tokens",
    "summary_activation",
    "summary_first_dropout",
    "summary_proj_to_labels",
    "summary_type",
    "summary_use_proj",
)
QUERY_KEY_VALUE = ("query", "key", "value")


@register_family("gpt", huggingface_class="OpenAIGPTLMHeadModel")
@keras.saving.register_keras_serializable("qingformer")
class GPT(Backbone):
    """The GPT decoder; see `Backbone` for inputs and outputs."""

    spec: ClassVar[FamilySpec] = FamilySpec(
        defaults={"application": "lm", "embedding_norm": False, "pooler": False},
        applications=("lm", "unilm", "encoder"),
        heads=("CausalLM",),
        model_types=("openai-gpt",),
        config_signatures=("afn",),
        weight_signatures=(
            r"^gpt/transformer/layer_0/attention/output/LayerNorm/",
            r"^(transformer\.)?tokens_embed\.",
        ),
        huggingface_keys={**OPENAI_KEYS, "hidden_act": "afn", "pad_token_id": "pad_token_id"},
        implied_keys=("intermediate_size", "type_vocab_size"),
        ignored_keys=OPENAI_IGNORED,
    )

    @classmethod
    def read_config(cls, values: Config, source: str) -> Config:
        """OpenAI's keys: "gelu" is the tanh form there, the inner width is four times the hidden size."""
        # Files in BERT's form, which bert4keras' users have, already have our names.
        theirs = "n_embd" in values
        if theirs:
            values["afn"] = {"gelu": "gelu_new"}.get(values.get("afn", "gelu"), values.get("afn", "gelu_new"))
            values["pad_token_id"] = padding_of(values)
            values = {
                "type_vocab_size": 0,
                "layer_norm_epsilon": 1e-5,
                "intermediate_size": 4 * values["n_embd"],
            } | values
        return super().read_config(values, source)

    @classmethod
    def write_config(cls, values: Config) -> Config:
        """The reverse; other widths than four times the hidden size have no place there."""
        check_inner_width(values, "gpt")
        written = super().write_config(values) | {
            "model_type": "openai-gpt",
            "embd_pdrop": values["hidden_dropout_prob"],
        }
        return written | {
            "afn": {"gelu_new": "gelu", "gelu_tanh": "gelu"}.get(values["hidden_act"], values["hidden_act"])
        }

    def language_logits(self, factory: LayerFactory) -> Tensor:
        """The transposed token table alone: (B, T, V) float32."""
        return self.tied_logits(self.output["sequence_output"])

    @staticmethod
    def weight_map(config: BackboneConfig) -> WeightMap:
        """bert4keras' names and Hugging Face's, where queries, keys and values are one matrix."""
        rows = [
            Row("token_embedding/embeddings", "gpt/embeddings/word_embeddings", "transformer.tokens_embed.weight"),
            Row(
                "position_embedding/embeddings",
                "gpt/embeddings/position_embeddings",
                "transformer.positions_embed.weight",
            ),
            Row("segment_embedding/embeddings", "gpt/embeddings/token_type_embeddings", None),
        ]
        for index in range(config.num_hidden_layers):
            blocks = block_rows(index, tensorflow="gpt/transformer/layer_{}")
            rows += [Row(row.ours, row.tensorflow, None) for row in blocks]
            rows += openai_rows(f"block_{index}", f"transformer.h.{index}", huggingface=True)
        return openai_map(rows, "transformer.tokens_embed.weight")


def check_inner_width(values: Config, family: str) -> None:
    """Refuse a feed-forward width that the family's files cannot say."""
    if values["intermediate_size"] != 4 * values["hidden_size"]:
        raise ConfigError(
            f"intermediate_size {values['intermediate_size']} is not four times the hidden size, which has no place "
            f"in {family}'s huggingface format; save with format='qingformer'"
        )


def openai_map(rows: list[Row], token_table: str) -> WeightMap:
    """The map of OpenAI's families: with or without the first word, an output that copies the token table."""
    return WeightMap(
        tuple(rows),
        spellings={"huggingface": ((r"^transformer\.", ""),)},
        copies={"huggingface": {"lm_head.weight": token_table}},
        # `attn.bias` is no bias: older releases stored the triangle of the causal mask under this name.
        ignored={"tensorflow": TRAINING_STATE, "huggingface": (r"attn\.(masked_)?bias$", r"position_ids$")},
    )


def openai_rows(ours: str, stored: str, huggingface: bool, steps: tuple[Step, ...] = ()) -> list[Row]:
    """One block under OpenAI's names, with `transformers`' endings or the original's; matrices are (in, out)."""
    join, weight, bias, gain = (".", "weight", "bias", "weight") if huggingface else ("/", "w", "b", "g")

    def row(path: str, part: str, end: str, steps: tuple[Step, ...] = (), share: tuple[int, int] | None = None) -> Row:
        name = join.join([stored, part.replace(".", join), end])
        if huggingface:
            return Row(f"{ours}/{path}", None, name, huggingface_steps=steps, part=share)
        return Row(f"{ours}/{path}", name, None, tensorflow_steps=steps, part=share)

    rows = []
    # `c_attn` is (in, 3 out), queries, keys and values side by side.
    for index, name in enumerate(QUERY_KEY_VALUE):
        rows.append(row(f"attention/{name}/kernel", "attn.c_attn", weight, steps, (index, 3)))
        rows.append(row(f"attention/{name}/bias", "attn.c_attn", bias, (), (index, 3)))
    for path, part in (
        ("attention/output", "attn.c_proj"),
        ("feed_forward/intermediate", "mlp.c_fc"),
        ("feed_forward/output", "mlp.c_proj"),
    ):
        rows += [row(f"{path}/kernel", part, weight, steps), row(f"{path}/bias", part, bias)]
    for path, part in (("attention_norm", "ln_1"), ("feed_forward_norm", "ln_2")):
        rows += [row(f"{path}/gamma", part, gain), row(f"{path}/beta", part, bias)]
    return rows
