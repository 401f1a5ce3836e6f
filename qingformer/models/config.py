"""The configuration of a model: typed, frozen, strict about unknown keys."""

import dataclasses
from collections.abc import Mapping
from typing import Any, get_args, get_type_hints

from qingformer.errors import ConfigError
from qingformer.layers.mask import APPLICATIONS
from qingformer.ops.activations import get_activation

# Keys of published configurations that say nothing about the numbers this package computes: provenance, serving and
# training hints, and the settings of heads that live elsewhere.
WITHOUT_EFFECT = frozenset(
    """_name_or_path _num_labels add_cross_attention architectures attn_implementation auto_map bos_token_id
    chunk_size_feed_forward classifier_dropout cls_token_id cross_attention_hidden_size directionality dtype
    eos_token_id finetuning_task gradient_checkpointing id2label is_encoder_decoder label2id language
    mask_token_id model_type output_attentions output_hidden_states output_past pooler_fc_size
    pooler_num_attention_heads pooler_num_fc_layers pooler_size_per_head pooler_type problem_type
    qingformer_version return_dict sep_token_id task_specific_params tie_word_embeddings tokenizer_class
    torch_dtype torchscript transformers_version use_bfloat16 use_cache""".split()
)
# Keys that other values than these would change the computation, in ways this package does not have.
ONLY_VALUES: dict[str, tuple[Any, ...]] = {
    "position_embedding_type": ("absolute", None),
    "add_cross_attention": (False, None),
    "is_encoder_decoder": (False, None),
    "tie_word_embeddings": (True, None),
}


@dataclasses.dataclass(frozen=True)
class BackboneConfig:
    """Everything that decides a model's shape and numbers, under the names of `config.json` files.

    Sizes are numbers of units, rates are probabilities. `embedding_size`, `attention_head_size` and
    `attention_key_size` default to what the other sizes imply. `hierarchical_position` is the alpha that extends the
    position table of N rows to N^2 positions; `condition_size` the width of the vector on which every layer norm
    depends; `application` one of "encoder", "lm", "unilm". Errors: `ConfigError` names the key and what it may be.

    Example: `BackboneConfig(vocab_size=100, hidden_size=32, num_hidden_layers=2, num_attention_heads=4)`
    """

    vocab_size: int
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    layer_norm_eps: float = 1e-12
    initializer_range: float = 0.02
    pad_token_id: int = 0
    embedding_size: int | None = None
    attention_head_size: int | None = None
    attention_key_size: int | None = None
    pooler: bool = True
    pooler_act: str = "tanh"
    application: str = "encoder"
    hierarchical_position: float | None = None
    custom_position_ids: bool = False
    shared_segment_embeddings: bool = False
    residual_attention_scores: bool = False
    condition_size: int | None = None
    condition_hidden_size: int | None = None
    condition_hidden_act: str = "linear"
    family: str = "bert"

    def __post_init__(self) -> None:
        self._check_types()
        positive = ("vocab_size", "hidden_size", "num_attention_heads", "intermediate_size", "max_position_embeddings")
        for key in positive:
            if getattr(self, key) < 1:
                raise ConfigError(f"{key} is {getattr(self, key)}: expected a positive number")
        for key in ("num_hidden_layers", "type_vocab_size", "pad_token_id"):
            if getattr(self, key) < 0:
                raise ConfigError(f"{key} is {getattr(self, key)}: expected zero or a positive number")
        for key in ("hidden_dropout_prob", "attention_probs_dropout_prob"):
            if not 0.0 <= getattr(self, key) < 1.0:
                raise ConfigError(f"{key} is {getattr(self, key)}: expected a probability below 1")
        if self.attention_head_size is None and self.hidden_size % self.num_attention_heads:
            raise ConfigError(
                f"hidden_size {self.hidden_size} does not divide by num_attention_heads {self.num_attention_heads}; "
                "give attention_head_size"
            )
        if self.application not in APPLICATIONS:
            raise ConfigError(f"application is {self.application!r}: expected one of {', '.join(APPLICATIONS)}")
        if self.application == "unilm" and self.type_vocab_size == 0:
            raise ConfigError("application 'unilm' needs segment ids, but type_vocab_size is 0")
        if self.hierarchical_position is not None and not 0.0 < self.hierarchical_position < 1.0:
            raise ConfigError(
                f"hierarchical_position is {self.hierarchical_position}: expected a number between 0 and 1"
            )
        for key in ("hidden_act", "pooler_act", "condition_hidden_act"):
            get_activation(getattr(self, key))

    def _check_types(self) -> None:
        for key, kind in get_type_hints(type(self)).items():
            kinds = get_args(kind) or (kind,)
            value = getattr(self, key)
            if float in kinds and type(value) is int:
                object.__setattr__(self, key, float(value))
            elif type(value) not in kinds:
                names = " or ".join("null" if k is type(None) else k.__name__ for k in kinds)
                raise ConfigError(f"{key} is {value!r}: expected {names}")

    @property
    def head_size(self) -> int:
        """Width of one head's values."""
        return self.attention_head_size or self.hidden_size // self.num_attention_heads

    @property
    def key_size(self) -> int:
        """Width of one head's queries and keys."""
        return self.attention_key_size or self.head_size

    @property
    def width_of_embeddings(self) -> int:
        """Width of the embedding tables."""
        return self.embedding_size or self.hidden_size

    def replace(self, **changes: Any) -> "BackboneConfig":
        """The same configuration with some values changed; unknown names are refused."""
        check_known(changes, "options")
        return dataclasses.replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """All values by name, as JSON can hold them."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], source: str = "config", **changes: Any) -> "BackboneConfig":
        """Read a `config.json` or `bert_config.json` (Google's, Hugging Face's or ours), then apply `changes`.

        Errors: `ConfigError` that begins with `source` for unknown keys, missing `vocab_size`, and settings that this
        package does not compute.
        """
        fields = {field.name for field in dataclasses.fields(cls)}
        decoder = {"is_decoder": values["is_decoder"]} if "is_decoder" in values else {}
        values = {key: value for key, value in values.items() if key not in decoder}
        check_known(values, source, WITHOUT_EFFECT | set(ONLY_VALUES))
        for key, allowed in ONLY_VALUES.items():
            if key in values and values[key] not in allowed:
                raise ConfigError(f"{source}: {key} is {values[key]!r}, which this family does not have")
        chosen = {key: value for key, value in values.items() if key in fields}
        if decoder.get("is_decoder"):
            chosen.setdefault("application", "lm")
        check_known(changes, "options")
        chosen.update(changes)
        if "vocab_size" not in chosen:
            raise ConfigError(f"{source}: no vocab_size; is this the configuration of a model?")
        try:
            return cls(**chosen)
        except ConfigError as problem:
            raise ConfigError(f"{source}: {problem}") from None


def check_known(values: Mapping[str, Any], source: str, also: frozenset[str] | set[str] = frozenset()) -> None:
    """Raise `ConfigError` that names the unknown keys of `values` and what is near them."""
    import difflib

    fields = [field.name for field in dataclasses.fields(BackboneConfig)]
    unknown = [key for key in values if key not in fields and key not in also]
    if unknown:
        near = [match for key in unknown for match in difflib.get_close_matches(key, fields, 1)]
        hint = f"did you mean {', '.join(near)}?" if near else f"known are {', '.join(fields)}"
        raise ConfigError(f"{source}: unknown key {', '.join(unknown)}; {hint}")
