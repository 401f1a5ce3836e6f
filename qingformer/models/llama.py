"""LLaMA, Qwen2 and Qwen3: pre-norm decoder with RMS norm, gated feed-forward, rotary, grouped queries.

Rotary pairs are the two halves of a head, as files of `transformers` have them. Qwen2 has biases on queries, keys and
values; Qwen3 none, but norms on queries and keys.
Sources: Touvron et al. 2023, arXiv 2302.13971; Ainslie et al. 2023 (grouped queries), arXiv 2305.13245; Yang et al.
2024 (Qwen2), arXiv 2407.10671; Yang et al. 2025 (Qwen3), arXiv 2505.09388.
"""

from collections.abc import Sequence
from typing import ClassVar

import keras
import numpy as np

from qingformer.checkpoints.weight_map import Row, WeightMap, dense
from qingformer.errors import ConfigError
from qingformer.models.backbone import Backbone
from qingformer.models.config import BackboneConfig
from qingformer.models.family import FamilySpec, padding_of
from qingformer.models.family_registry import register_family
from qingformer.models.layer_factory import LayerFactory
from qingformer.types import Config, Tensor

ONLY = {"mlp_bias": (False, None), "pretraining_tp": (1, None), "use_sliding_window": (False, None)}
INVERSE_FREQUENCIES = r"rotary_emb\.inv_freq$"


@register_family("llama", huggingface_class="LlamaForCausalLM")
@keras.saving.register_keras_serializable("qingformer")
class Llama(Backbone):
    """The LLaMA decoder; see `Backbone` for inputs and outputs."""

    spec: ClassVar[FamilySpec] = FamilySpec(
        defaults={
            "application": "lm",
            "position_embedding_type": "rotary",
            "rotary_interleaved": False,
            "norm_type": "rms_norm",
            "norm_position": "pre",
            "layer_norm_eps": 1e-6,
            "embedding_norm": False,
            "hidden_act": ("silu", "linear"),
            "use_bias": False,
            "type_vocab_size": 0,
            "hidden_dropout_prob": 0.0,
            "attention_probs_dropout_prob": 0.0,
            "pooler": False,
            "tie_word_embeddings": False,
            "max_position_embeddings": 2048,
        },
        applications=("lm", "encoder"),
        heads=("CausalLM",),
        model_types=("qwen2", "qwen3"),
        weight_signatures=(r"^model\.layers\.0\.self_attn\.",),
        huggingface_keys={
            "vocab_size": "vocab_size",
            "hidden_size": "hidden_size",
            "num_hidden_layers": "num_hidden_layers",
            "num_attention_heads": "num_attention_heads",
            "num_key_value_heads": "num_key_value_heads",
            "intermediate_size": "intermediate_size",
            "hidden_act": "hidden_act",
            "attention_head_size": "head_dim",
            "attention_probs_dropout_prob": "attention_dropout",
            "attention_bias": "attention_bias",
            "max_position_embeddings": "max_position_embeddings",
            "layer_norm_eps": "rms_norm_eps",
            "initializer_range": "initializer_range",
            "tie_word_embeddings": "tie_word_embeddings",
            "pad_token_id": "pad_token_id",
            "rotary_base": "rope_theta",
            "rotary_scaling": "rope_scaling",
            "query_key_norm": "query_key_norm",
        },
        implied_keys=("attention_output_bias",),
        ignored_keys=(
            *ONLY,
            "sliding_window",
            "max_window_layers",
            "layer_types",
            "rope_interleaved",
        ),
        can_untie_embeddings=True,
    )

    @classmethod
    def read_config(cls, values: Config, source: str) -> Config:
        """`transformers`' keys of LLaMA, Qwen2 and Qwen3; rotary scalings other than linear are refused."""
        for key, allowed in ONLY.items():
            if values.get(key) not in (*allowed, None):
                raise ConfigError(f"{source}: {key} is {values[key]!r}, which this family does not have")
        kind = values.get("model_type")
        check_window(values, source, (cls.spec.name, *cls.spec.model_types))
        if "rms_norm_eps" not in values and kind not in cls.spec.model_types:
            return values
        # Release 5 gathers in `rope_parameters` what earlier ones say with `rope_theta` and `rope_scaling`.
        rope = {**(values.pop("rope_scaling", None) or {}), **(values.pop("rope_parameters", None) or {})}
        values["rope_theta"] = rope.get("rope_theta", values.get("rope_theta", 10000.0))
        scaling = rope.get("rope_type", rope.get("type", "default"))
        if scaling not in ("default", "linear"):
            raise ConfigError(f"{source}: rotary scaling {scaling!r} is not supported: expected 'default' or 'linear'")
        values["rope_scaling"] = float(rope.get("factor", 1.0)) if scaling == "linear" else 1.0
        values["hidden_act"] = (values.get("hidden_act", "silu"), "linear")
        values["pad_token_id"] = padding_of(values)
        values.setdefault("tie_word_embeddings", False)
        # Neither is a key of its files: the classes of `transformers` have these layers or do not.
        values["query_key_norm"] = kind == "qwen3"
        if kind == "qwen2":
            values["attention_bias"] = True
        return super().read_config(values, source)

    @classmethod
    def adapt_config(cls, config: BackboneConfig, layout: str, names: Sequence[str]) -> BackboneConfig:
        """LLaMA's `attention_bias` is of the output as well; Qwen2's is not: the stored names tell."""
        if config.attention_bias and any(name.endswith("self_attn.o_proj.bias") for name in names):
            return config.replace(attention_output_bias=True)
        return config

    @classmethod
    def write_config(cls, values: Config) -> Config:
        """The reverse, as that of the three whose arrangement it is."""
        written = super().write_config(values)
        rope = {"rope_type": "default", "rope_theta": written.pop("rope_theta")}
        factor = written.pop("rope_scaling")
        written["rope_parameters"] = rope if factor == 1.0 else rope | {"rope_type": "linear", "factor": factor}
        written["hidden_act"] = values["hidden_act"][0]
        written["num_key_value_heads"] = values["num_key_value_heads"] or values["num_attention_heads"]
        written["head_dim"] = values["attention_head_size"] or values["hidden_size"] // values["num_attention_heads"]
        written["attention_bias"] = bool(values["attention_bias"])
        if written.pop("query_key_norm"):
            return written | {"model_type": "qwen3"}
        if values["attention_bias"] and not values["attention_output_bias"]:
            written.pop("attention_bias")
            return written | {"model_type": "qwen2"}
        return written

    @classmethod
    def huggingface_class_of(cls, config: BackboneConfig) -> str:
        """The class that reads such a model."""
        if config.query_key_norm:
            return "Qwen3ForCausalLM"
        return "Qwen2ForCausalLM" if config.attention_bias and not config.attention_output_bias else "LlamaForCausalLM"

    @classmethod
    def computed_tables(cls, config: BackboneConfig) -> dict[str, tuple[np.ndarray, ...]]:
        """The rates of the rotary positions, which older files hold, with or without the scaling."""
        # Either may lie in a file, since releases differed in where they divide by the factor.
        rates = config.rotary_base ** -(np.arange(0, config.key_size, 2) / config.key_size)
        return {INVERSE_FREQUENCIES: (rates, rates / config.rotary_scaling)}

    def language_logits(self, factory: LayerFactory) -> Tensor:
        """The transposed token table, or a table of its own: (B, T, V) float32."""
        if factory.config.tie_word_embeddings:
            return self.tied_logits(self.output["sequence_output"])
        logits = factory.dense(factory.config.vocab_size, "lm_head", use_bias=False)(self.output["sequence_output"])
        return keras.layers.Identity(name="logits", dtype="float32")(logits)

    @staticmethod
    def weight_map(config: BackboneConfig) -> WeightMap:
        """Hugging Face's names; there is no TensorFlow file of the family."""
        rows = [
            Row("token_embedding/embeddings", None, "model.embed_tokens.weight"),
            Row("final_norm/gamma", None, "model.norm.weight"),
        ]
        for index in range(config.num_hidden_layers):
            rows += block_rows(f"block_{index}", f"model.layers.{index}")
        tied = {"lm_head.weight": "model.embed_tokens.weight"} if config.tie_word_embeddings else {}
        if not tied:
            rows += dense("lm_head", None, "lm_head", bias=False)
        return WeightMap(
            tuple(rows),
            spellings={"huggingface": ((r"^model\.", ""),)},
            copies={"huggingface": tied},
            ignored={"huggingface": (INVERSE_FREQUENCIES,)},
        )


def check_window(values: Config, source: str, whole: Sequence[str]) -> None:
    """Refuse a window of attention that is narrower than the text may be long.

    The architectures `whole` have a window where `use_sliding_window` says so, which is refused elsewhere; others
    (Mistral) have one wherever its width is given.
    """
    window, longest = values.get("sliding_window"), values.get("max_position_embeddings", 2048)
    if values.get("model_type") in (None, *whole) or "use_sliding_window" in values or type(window) is not int:
        return
    if type(longest) is not int or window < longest:
        raise ConfigError(
            f"{source}: sliding_window is {window}, but this family attends to the whole text; write null in its place "
            f"if no text will have more than {window} tokens"
        )


def block_rows(ours: str, stored: str) -> list[Row]:
    """One block: attention with its norms, gated feed-forward."""
    rows = []
    for part, name in (("query", "q_proj"), ("key", "k_proj"), ("value", "v_proj"), ("output", "o_proj")):
        rows += dense(f"{ours}/attention/{part}", None, f"{stored}.self_attn.{name}")
    for part, name in (("intermediate_0", "gate_proj"), ("intermediate_1", "up_proj"), ("output", "down_proj")):
        rows += dense(f"{ours}/feed_forward/{part}", None, f"{stored}.mlp.{name}", bias=False)
    for part, name in (
        ("attention_norm", "input_layernorm"),
        ("feed_forward_norm", "post_attention_layernorm"),
        ("attention/query_norm", "self_attn.q_norm"),
        ("attention/key_norm", "self_attn.k_norm"),
    ):
        rows.append(Row(f"{ours}/{part}/gamma", None, f"{stored}.{name}.weight"))
    return rows
