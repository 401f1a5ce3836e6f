"""The configuration of ModernBERT: its own values, and the two ways in which `transformers` has written it.

Release 4 names the rotary bases and the distance between blocks that see the whole text (`global_rope_theta`,
`global_attn_every_n_layers`), release 5 lists both for every block (`rope_parameters`, `layer_types`).
"""

import dataclasses
from collections.abc import Mapping

from qingformer.errors import ConfigError
from qingformer.models.config import BackboneConfig
from qingformer.models.family import padding_of
from qingformer.types import Config

# Our names of the values in its files; what is not here has no place there.
KEYS = {
    **{key: key for key in """vocab_size hidden_size num_hidden_layers num_attention_heads intermediate_size
        pad_token_id initializer_range max_position_embeddings attention_bias norm_bias local_attention
        global_attn_every_n_layers decoder_bias classifier_bias classifier_activation""".split()},
    "hidden_act": "hidden_activation",
    "hidden_dropout_prob": "embedding_dropout",
    "attention_probs_dropout_prob": "attention_dropout",
    "layer_norm_eps": "norm_eps",
    "use_bias": "mlp_bias",
    "rotary_base": "global_rope_theta",
    "local_rotary_base": "local_rope_theta",
}  # fmt: skip
# Of the head of a classifier, of the start of training, and of kernels that give the same numbers.
IGNORED = """mlp_dropout layer_types rope_parameters initializer_cutoff_factor classifier_pooling sparse_prediction
    sparse_pred_ignore_index deterministic_flash_attn repad_logits_with_grad""".split()
# What published files hold from BERT's defaults, beside the values that count.
UNUSED = ("position_embedding_type", "layer_norm_eps", "rope_scaling")
DEFAULTS = {
    "position_embedding_type": "rotary",
    "rotary_base": 160000.0,
    "rotary_interleaved": False,
    "norm_position": "pre",
    "layer_norm_eps": 1e-5,
    "hidden_act": ("gelu", "linear"),
    "use_bias": False,
    "attention_bias": False,
    "attention_output_bias": False,
    "type_vocab_size": 0,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
    "pooler": False,
    "max_position_embeddings": 8192,
}
# By the kind of a block: the key of its rotary base in older files.
BASES = {"full_attention": "global_rope_theta", "sliding_attention": "local_rope_theta"}


@dataclasses.dataclass(frozen=True, init=False)
class ModernBertConfig(BackboneConfig):
    """The common values, and those of this family under the names of its files.

    - `local_attention`: width of the window of most blocks; `global_attn_every_n_layers`: a block whose number it
      divides sees the whole text; `local_rotary_base`: of blocks with a window, `rotary_base` of the others.
    - `norm_bias`: offsets of the norms.
    - `classifier_bias`, `classifier_activation`: of the dense layer before the output of the masked language model;
      `decoder_bias`: of that output.
    """

    local_attention: int = 128
    global_attn_every_n_layers: int = 3
    local_rotary_base: float = 10000.0
    norm_bias: bool = False
    classifier_bias: bool = False
    classifier_activation: str = "gelu"
    decoder_bias: bool = True

    @property
    def further_parameters(self) -> dict[str, int]:
        """Norms without offset, and one norm of an attention less than there are blocks."""
        blocks, hidden = self.num_hidden_layers, self.hidden_size
        vectors = 2 if self.norm_bias else 1
        less = 2 - vectors
        return {
            "embeddings": -less * self.width_of_embeddings,
            "attention": -less * blocks * hidden - (vectors * hidden if blocks else 0),
            "feed_forward": -less * blocks * hidden,
            "final_norm": -less * hidden,
        }

    def _check_values(self) -> None:
        super()._check_values()
        for key in ("local_attention", "global_attn_every_n_layers", "local_rotary_base"):
            if not 0 < getattr(self, key) <= 1e9:
                raise ConfigError(f"{key} is {getattr(self, key)}: expected a positive number up to 1,000,000,000")


def read(values: Config, source: str) -> Config:
    """A file of `transformers` under our names, a file of ours as it is; settings without a counterpart are refused."""
    if "family" in values:
        return values
    scaling = values.get("rope_scaling") or {}
    for kind, key in BASES.items():
        rope = {**scaling, **((values.get("rope_parameters") or {}).get(kind) or {})}
        if rope.get("rope_type", rope.get("type", "default")) != "default":
            raise ConfigError(f"{source}: rope_parameters of {kind} are {rope}, but the only type here is 'default'")
        if rope.get("rope_theta") is not None:
            values[key] = rope["rope_theta"]
    if "local_rope_theta" in values and values["local_rope_theta"] is None:
        values["local_rope_theta"] = values.get("global_rope_theta", DEFAULTS["rotary_base"])
    dropout = values.get("embedding_dropout", 0.0)
    if values.get("mlp_dropout", dropout) != dropout:
        raise ConfigError(f"{source}: mlp_dropout is {values['mlp_dropout']}, but embedding_dropout is {dropout}")
    if values.get("layer_types"):
        stated = values.get("global_attn_every_n_layers")
        values["global_attn_every_n_layers"] = distance_between(list(values["layer_types"]), stated, source)
    values["hidden_activation"] = (values.get("hidden_activation", "gelu"), "linear")
    values["attention_output_bias"] = values.get("attention_bias", False)
    values["pad_token_id"] = padding_of({"pad_token_id": 50283, **values})
    ours = {theirs: ours for ours, theirs in KEYS.items()}
    return {ours.get(key, key): value for key, value in values.items() if key not in UNUSED}


def distance_between(kinds: list[str], stated: int | None, source: str) -> int:
    """How many blocks lie between two that see the whole text, from the kinds of all where it is not stated."""
    whole = [index for index, kind in enumerate(kinds) if kind == "full_attention"]
    distance = stated or (whole[1] if len(whole) > 1 else len(kinds))
    if kinds != ["sliding_attention" if index % distance else "full_attention" for index in range(len(kinds))]:
        raise ConfigError(f"{source}: layer_types is {kinds}: here every n-th block sees the whole text, the first too")
    return distance


def write(values: Mapping[str, object]) -> Config:
    """The reverse of `read`, which releases 4 and 5 read alike."""
    activations = values["hidden_act"]
    if not isinstance(activations, tuple) or len(activations) != 2 or activations[1] != "linear":
        raise ConfigError(
            f"hidden_act={activations!r} has no place in the huggingface format; save with format='qingformer'"
        )
    if values["attention_output_bias"] != values["attention_bias"]:
        raise ConfigError(
            "attention_output_bias other than attention_bias has no place in the huggingface format; "
            "save with format='qingformer'"
        )
    written: Config = {theirs: values[ours] for ours, theirs in KEYS.items()}
    return written | {"hidden_activation": activations[0], "mlp_dropout": values["hidden_dropout_prob"]}
