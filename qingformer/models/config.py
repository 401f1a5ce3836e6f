"""The configuration of a model: typed, frozen, strict about unknown keys."""

import dataclasses
import difflib
import re
from collections.abc import Collection, Mapping
from typing import Any, get_args, get_type_hints

from qingformer.errors import ConfigError
from qingformer.json_files import quoted
from qingformer.layers.block import NORM_POSITIONS
from qingformer.models.family_registry import FAMILIES, family_class
from qingformer.models.limits import check_limits
from qingformer.ops.activations import get_activation
from qingformer.ops.attention_weights import NORMALIZATIONS
from qingformer.types import Config, Values

# Keys of published configurations that say nothing about the numbers this package computes: provenance, serving and
# training hints, and the settings of heads that live elsewhere.
WITHOUT_EFFECT = frozenset(
    """adapters add_cross_attention architectures attn_implementation auto_map bad_words_ids base_model_tp_plan
    begin_suppress_tokens bf16 chunk_size_feed_forward classif_dropout classifier_dropout classifier_dropout_prob
    cross_attention_hidden_size directionality diversity_penalty do_sample dtype early_stopping
    encoder_no_repeat_ngram_size eos_token_ids exponential_decay_length_penalty finetuning_task forced_bos_token_id
    forced_eos_token_id fp16 gradient_checkpointing id2label is_composition keys_to_ignore_at_inference label2id
    language layerdrop length_penalty loss_function loss_type max_length max_seq_length max_sequence_length
    min_length mlm_probability model_max_length model_name model_type
    no_repeat_ngram_size num_beam_groups num_beams num_choices num_labels num_return_sequences output_attentions
    output_hidden_states output_past output_scores pooler_fc_size pooler_num_attention_heads pooler_num_fc_layers
    pooler_size_per_head pooler_type prefix problem_type qingformer_version reference_compile remove_invalid_values
    repetition_penalty return_dict return_dict_in_generate sentence_transformers seq_classif_dropout suppress_tokens
    task_specific_params temperature tf_legacy_loss tie_encoder_decoder tokenizer_class top_k top_p torch_dtype
    torchscript transformers.js_config transformers_version typical_p unsloth_fixed unsloth_version use_bfloat16
    use_cache use_return_dict xla_device""".split()
)
# The same by their form: ids of special tokens, notes of sentence-transformers, summaries for heads, notes of programs.
FORMS_WITHOUT_EFFECT = re.compile(r"_token_ids?$|^sbert_|^summary_|^_")
# Keys that other values than these would change the computation, in ways this package does not have.
ONLY_VALUES: dict[str, tuple[Any, ...]] = {
    "add_cross_attention": (False, None),
    "is_encoder_decoder": (False, None),
    "ln_type": ("postln", None),  # in configurations of Chinese ALBERTs
    "pruned_heads": ({}, None),
    "quantization_config": ({}, None),
}
# Names in files that earlier versions of this package wrote.
RENAMED = {"hide_self": "mask_diagonal"}
APPLICATIONS = ("encoder", "lm", "unilm", "seq2seq", "decoder")
POSITIONS = ("absolute", "rotary", "relative", "bucketed", "none")
NORM_TYPES = ("layer_norm", "rms_norm", "rms_norm_without_gain")
CHOICES: dict[str, tuple[Any, ...]] = {
    "application": APPLICATIONS,
    "position_embedding_type": POSITIONS,
    "norm_type": NORM_TYPES,
    "norm_position": NORM_POSITIONS,
    "attention_normalization": NORMALIZATIONS,
}
POSITIVE = """vocab_size hidden_size num_attention_heads intermediate_size max_position_embeddings rotary_base
    rotary_scaling rotary_limit max_relative_position relative_attention_num_buckets relative_attention_max_distance
    num_key_value_heads num_hidden_groups""".split()
NOT_NEGATIVE = "num_hidden_layers num_decoder_layers type_vocab_size pad_token_id".split()


@dataclasses.dataclass(frozen=True, init=False)
class BackboneConfig:
    """Everything that decides a model's shape and numbers, under the names of `config.json` files.

    What is not given takes the default of the family, and the one written here where the family has none. Sizes are
    numbers of units, rates are probabilities; sizes that are None follow from the others.

    - `hidden_act`: an activation, or several whose outputs are multiplied (gated feed-forward).
    - `application`: "encoder", "lm" (causal), "unilm" (source whole, target causal), and for encoder-decoders
      "seq2seq" and "decoder".
    - `position_embedding_type`: "absolute" (learned table), "rotary", "relative" (fixed sinusoidal vectors of distances
      clipped at `max_relative_position`), "bucketed" (a learned bias for each head and bucket of distances), "none".
      `hierarchical_position` is the alpha that extends an absolute table of N rows to N^2 positions; `rotary_scaling`
      divides rotary positions and `rotary_limit` clips them, for texts beyond the trained length.
    - `attention_normalization`: "softmax", "softmax_plus" (entropy-invariant scale), "squared_relu";
      `attention_scale`: whether scores are divided by the root of the key size; `residual_attention_scores`: scores
      accumulate over the blocks; `mask_diagonal`: no position attends to itself.
    - `norm_type`, `norm_position`: see `TransformerBlock`; `embedding_norm`: a norm after the embeddings.
    - `use_bias`: of all dense layers; `attention_bias`: of queries, keys and values where that differs,
      `attention_output_bias` of the projection after them.
    - `pad_token_id`: what a mask that is not given leaves out; None where the vocabulary has no padding.
    - `share_blocks`: blocks of one group (`num_hidden_groups`) share their weights.
    - `embedding_projection`: a dense layer between the embeddings and the first block; None: where their widths differ.
    - `project_tokens`: token vectors alone are narrow (an arrangement of ALBERT); `generator`: ELECTRA's generator.
    - `condition_size`: width of the vector on which every norm depends.

    Errors: `ConfigError` names the key and what it may be.

    Example: `BackboneConfig(vocab_size=100, hidden_size=32, num_hidden_layers=2, num_attention_heads=4)`
    """

    vocab_size: int
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: str | tuple = "gelu"
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    layer_norm_eps: float = 1e-12
    initializer_range: float = 0.02
    pad_token_id: int | None = 0
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
    position_embedding_type: str = "absolute"
    max_relative_position: int = 64
    relative_attention_num_buckets: int = 32
    relative_attention_max_distance: int = 128
    rotary_base: float = 10000.0
    rotary_interleaved: bool = True
    rotary_scaling: float = 1.0
    rotary_limit: int | None = None
    rotary_value: bool = False
    attention_normalization: str = "softmax"
    attention_scale: bool = True
    mask_diagonal: bool = False
    num_key_value_heads: int | None = None
    query_key_norm: bool = False
    use_bias: bool = True
    attention_bias: bool | None = None
    attention_output_bias: bool | None = None
    norm_type: str = "layer_norm"
    norm_position: str = "post"
    embedding_norm: bool = True
    share_blocks: bool = False
    num_hidden_groups: int = 1
    embedding_projection: bool | None = None
    project_tokens: bool = False
    generator: bool = False
    num_decoder_layers: int | None = None
    cross_position_bias: bool = False
    scale_decoder_output: bool | None = None
    tie_word_embeddings: bool = True
    family: str = "bert"

    def __new__(cls, **values: Any) -> "BackboneConfig":
        """The configuration of the family, which may have values of its own."""
        family = values.get("family", cls.__dataclass_fields__["family"].default)
        return super().__new__(config_class(family_class(family)) if cls is BackboneConfig else cls)

    def __init__(self, **values: Any) -> None:
        check_known(values, "options", fields=type(self))
        defaults = family_class(values.get("family", "bert")).spec.defaults
        for field in dataclasses.fields(self):
            if field.name not in values and field.name not in defaults and field.default is dataclasses.MISSING:
                raise ConfigError(f"no {field.name}; every model needs one")
            value = values.get(field.name, defaults.get(field.name, field.default))
            object.__setattr__(self, field.name, tuple(value) if isinstance(value, list) else value)
        self._check_types()
        self._check_values()

    def _check_values(self) -> None:
        check_limits(self)
        for key in POSITIVE:
            value = getattr(self, key)
            if value is not None and value <= 0:
                raise ConfigError(f"{key} is {value}: expected a positive number")
        for key in NOT_NEGATIVE:
            value = getattr(self, key)
            if value is not None and value < 0:
                raise ConfigError(f"{key} is {value}: expected zero or a positive number")
        for key in ("hidden_dropout_prob", "attention_probs_dropout_prob"):
            if not 0.0 <= getattr(self, key) < 1.0:
                raise ConfigError(f"{key} is {getattr(self, key)}: expected a probability below 1")
        if self.attention_head_size is None and self.hidden_size % self.num_attention_heads:
            raise ConfigError(
                f"hidden_size {self.hidden_size} does not divide by num_attention_heads {self.num_attention_heads}; "
                "give attention_head_size"
            )
        for key, choices in CHOICES.items():
            if getattr(self, key) not in choices:
                raise ConfigError(f"{key} is {getattr(self, key)!r}: expected one of {', '.join(choices)}")
        applications = family_class(self.family).spec.applications
        if self.application not in applications:
            raise ConfigError(
                f"application is {self.application!r}: the family {self.family} has {', '.join(applications)}"
            )
        if self.application == "unilm" and self.type_vocab_size == 0:
            raise ConfigError("application 'unilm' needs segment ids, but type_vocab_size is 0")
        if self.hierarchical_position is not None and not 0.0 < self.hierarchical_position < 1.0:
            raise ConfigError(
                f"hierarchical_position is {self.hierarchical_position}: expected a number between 0 and 1"
            )
        if not self.tie_word_embeddings and not family_class(self.family).spec.can_untie_embeddings:
            raise ConfigError(f"tie_word_embeddings is false, but the family {self.family} has no other output table")
        for key, allowed in family_class(self.family).spec.supported_values.items():
            if getattr(self, key) not in allowed:
                raise ConfigError(
                    f"{key} is {getattr(self, key)!r}, which the family {self.family} does not have: "
                    f"expected {' or '.join(map(str, allowed))}"
                )
        if not self.projects_embeddings and self.width_of_embeddings != self.hidden_size and not self.project_tokens:
            raise ConfigError(
                f"embedding_projection is false, but embedding_size {self.embedding_size} is not hidden_size "
                f"{self.hidden_size}"
            )
        for name in (*self.activations, self.pooler_act, self.condition_hidden_act):
            get_activation(name)
        if self.position_embedding_type == "rotary" and self.key_size % 2:
            raise ConfigError(f"rotary positions turn pairs, but the key size {self.key_size} is odd")

    def _check_types(self) -> None:
        for key, kind in get_type_hints(type(self)).items():
            kinds = get_args(kind) or (kind,)
            value = getattr(self, key)
            if float in kinds and type(value) is int:
                object.__setattr__(self, key, float(value))
            elif type(value) not in kinds:
                names = " or ".join("null" if k is type(None) else k.__name__ for k in kinds)
                raise ConfigError(f"{key} is {quoted(value)}: expected {names}")
            if type(value) is tuple and not all(isinstance(part, str) for part in value):
                raise ConfigError(f"{key} is {quoted(list(value))}: expected a name, or a list of names")

    @property
    def activations(self) -> tuple[str, ...]:
        """The activations of the feed-forward part, several if it is gated."""
        return (self.hidden_act,) if isinstance(self.hidden_act, str) else self.hidden_act

    @property
    def head_size(self) -> int:
        """Width of one head's values."""
        return self.attention_head_size or self.hidden_size // self.num_attention_heads

    @property
    def key_size(self) -> int:
        """Width of one head's queries and keys."""
        return self.attention_key_size or self.head_size

    @property
    def decoder_layers(self) -> int:
        """Number of blocks of the decoder of an encoder-decoder, as many as the encoder's where nothing is said."""
        return self.num_hidden_layers if self.num_decoder_layers is None else self.num_decoder_layers

    @property
    def width_of_embeddings(self) -> int:
        """Width of the embedding tables."""
        return self.embedding_size or self.hidden_size

    @property
    def projects_embeddings(self) -> bool:
        """Whether a dense layer stands between the embeddings and the first block."""
        if self.embedding_projection is None:
            return self.width_of_embeddings != self.hidden_size
        return self.embedding_projection

    @property
    def further_parameters(self) -> Mapping[str, int]:
        """By part, how many parameters more (or less) a family has than `analysis.count_parameters` finds otherwise."""
        return {}

    def replace(self, **changes: Any) -> "BackboneConfig":
        """The same configuration with some values changed; unknown names are refused."""
        check_known(changes, "options", fields=type(self))
        return dataclasses.replace(self, **changes)

    def to_dict(self) -> Config:
        """All values by name, as JSON can hold them."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Values, source: str = "config", **changes: Any) -> "BackboneConfig":
        """Read a `config.json` or `bert_config.json` (Google's, Hugging Face's or ours), then apply `changes`.

        The family is that of `changes` or `values`, and translates its own keys. Errors: `ConfigError` that begins with
        `source` for unknown keys, missing `vocab_size`, and settings that this package does not compute.
        """
        values, changes = current_names(values), current_names(changes)
        family = family_class({"family": "bert", **values, **changes}["family"])
        values = read_foreign(family, values, source)
        kind = config_class(family)
        check_known(values, source, known_keys(family), kind)
        for key, allowed in ONLY_VALUES.items():
            if key in values and values[key] not in allowed:
                raise ConfigError(f"{source}: {key} is {values[key]!r}, which this family does not have")
        chosen = {key: values[key] for key in values if key in kind.__dataclass_fields__}
        if chosen.get("position_embedding_type", "absolute") is None:
            del chosen["position_embedding_type"]
        if values.get("is_decoder") and "lm" in family.spec.applications:
            chosen.setdefault("application", "lm")
        check_known(changes, "options", fields=kind)
        chosen.update(changes)
        if "vocab_size" not in chosen and "vocab_size" not in family.spec.defaults:
            raise ConfigError(f"{source}: no vocab_size; is this the configuration of a model?")
        try:
            return kind(**chosen)
        except ConfigError as problem:
            raise ConfigError(f"{source}: {problem}") from None


def config_class(family: Any) -> type[BackboneConfig]:
    """The class of a family's configurations."""
    return family.spec.config_class or BackboneConfig


def read_foreign(family: Any, values: Values, source: str) -> Config:
    """The values under our names; `ConfigError` where one has a type that the family's own keys cannot have."""
    try:
        translated: Config = family.read_config(dict(values), source)
    except (TypeError, AttributeError, ArithmeticError, LookupError) as problem:
        raise ConfigError(f"{source}: a value of the wrong type: {problem}; compare with the model's card") from None
    return translated


def current_names(values: Values) -> Config:
    """The values with keys of earlier versions of this package under the names that they have now."""
    return {RENAMED.get(key, key): value for key, value in values.items()}


def known_keys(family: Any) -> frozenset[str]:
    """The keys that a file of the family may have once its own names are translated, also those without effect."""
    fields = config_class(family).__dataclass_fields__
    return WITHOUT_EFFECT | {*fields, *ONLY_VALUES, "is_decoder", *family.spec.ignored_keys}


def block_group(config: BackboneConfig, index: int) -> int:
    """The number of the block whose weights layer `index` uses."""
    if not config.share_blocks:
        return index
    return index * config.num_hidden_groups // config.num_hidden_layers


def unknown_keys(values: Values, source: str, family: Any) -> list[str]:
    """The keys of a configuration file that mean nothing here."""
    read, known = family.read_config(dict(values), source), known_keys(family)
    return [key for key in values if key in read and not is_known(key, read[key], known)]


def is_known(key: str, value: object, known: Collection[str]) -> bool:
    """Whether a key of a file means something, or says nothing about the numbers: so does a null, whatever the key."""
    return key in known or value is None or bool(FORMS_WITHOUT_EFFECT.search(key))


def check_known(
    values: Values,
    source: str,
    also: Collection[str] | None = None,
    fields: type[BackboneConfig] | None = None,
) -> None:
    """Raise `ConfigError` that names the unknown keys of `values` and what is near them.

    `also` are the further keys that a file may have; without it `values` are options of a call. Values are those of the
    configuration class `fields`; without it the family is not known yet, and any family's will do.
    """
    kinds: list[Any] = (
        [fields] if fields is not None else [BackboneConfig, *(config_class(cls) for cls in FAMILIES.values())]
    )
    known = list(dict.fromkeys(field.name for kind in kinds for field in dataclasses.fields(kind)))
    if also is None:
        unknown = [key for key in values if key not in known]
    else:
        unknown = [key for key in values if key not in known and not is_known(key, values[key], also)]
    if not unknown:
        return
    near = [match for key in unknown for match in difflib.get_close_matches(key, known, 1)]
    more = f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
    if near:
        hint = f"did you mean {', '.join(near[:5])}?"
        hint += "" if also is None else " strict=False passes over it"
    elif also is None:
        hint = "the options are those of BackboneConfig"
    else:
        hint = "correct it, or pass over it with strict=False if it changes no number"
    raise ConfigError(f"{source}: unknown key {', '.join(map(str, unknown[:5]))}{more}; {hint}")
