"""The declarations of a family of models, and how it reads and writes configuration files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from qingformer.checkpoints.weight_map import WeightMap
from qingformer.errors import ConfigError
from qingformer.types import Config, Values

if TYPE_CHECKING:
    from qingformer.models.config import BackboneConfig

COMMON_KEYS = (
    "vocab_size hidden_size num_hidden_layers num_attention_heads intermediate_size hidden_act hidden_dropout_prob "
    "attention_probs_dropout_prob max_position_embeddings type_vocab_size layer_norm_eps initializer_range pad_token_id"
).split()
# Of heads over one vector of the whole sequence; see `qingformer.models.fine_tuned`.
SUMMARY_KEYS = ("summary_activation", "summary_last_dropout", "summary_type", "summary_use_proj")


def padding_of(values: Values) -> int | None:
    """The padding token of a configuration whose vocabulary may have none: absent, null and negative mean none."""
    token = values.get("pad_token_id")
    return None if token is None or token < 0 else token


@dataclass(frozen=True, kw_only=True)
class FamilySpec:
    """What tells a family from BERT, apart from its layers and its weight map.

    - `name`, `huggingface_class`: entered by `register_family`; the latter is its class in `transformers`, if any.
    - `defaults`: values of the configuration that differ from BERT's.
    - `applications`: the applications it can have.
    - `model_types`: the `model_type` values of Hugging Face files that mean this family, beside its own name.
    - `config_signatures`, `weight_signatures`: keys of a configuration, and patterns of stored names, that no other
      family has.
    - `huggingface_keys`: our names of configuration values to those of its Hugging Face files; a value that is not
      among them cannot be written there. `ignored_keys`: keys of its files without any effect on the numbers.
      `implied_keys`: values that follow from the class, from the weights' names or from what `write_config` adds.
    - `heads`: the classes of models that its checkpoints can fill, by name.
    - `classifier_problem`: why the fine-tuned classifiers of its files cannot be computed by a task, "" where they can.
    - `can_untie_embeddings`: whether its output table may differ from the token table.
    - `config_class`: its own class of configuration where it has values that no other family has.
    - `supported_values`: the values of options of which its layers would ignore others.
    """

    name: str = ""
    huggingface_class: str | None = None
    defaults: Values = field(default_factory=dict)
    applications: tuple[str, ...] = ("encoder", "lm", "unilm")
    model_types: tuple[str, ...] = ()
    config_signatures: tuple[str, ...] = ()
    weight_signatures: tuple[str, ...] = ()
    huggingface_keys: Mapping[str, str] = field(default_factory=lambda: {key: key for key in COMMON_KEYS})
    ignored_keys: tuple[str, ...] = ()
    implied_keys: tuple[str, ...] = ()
    heads: tuple[str, ...] = ("MaskedLM", "CausalLM", "NextSentencePrediction", "PreTraining")
    classifier_problem: str = ""
    can_untie_embeddings: bool = False
    config_class: type | None = None
    supported_values: Mapping[str, tuple[object, ...]] = field(default_factory=dict)


class Family:
    """How a family reads and writes files; its backbone class overrides what differs from BERT, and gives `spec`."""

    spec: ClassVar[FamilySpec] = FamilySpec()

    @staticmethod
    def weight_map(config: Any) -> WeightMap:
        """The table of all variables the family has; a family file gives it."""
        raise ConfigError(f"the family {config.family} has no weight map")

    @classmethod
    def read_config(cls, values: Config, source: str) -> Config:
        """The values of a configuration file under our names; a family with more than other names overrides it.

        Values that a file of this package has under our names already stay as they are.
        """
        ours = {theirs: ours for ours, theirs in cls.spec.huggingface_keys.items()}
        return {ours.get(key, key): value for key, value in values.items()}

    @classmethod
    def write_config(cls, values: Config) -> Config:
        """The reverse of `read_config`: a Hugging Face `config.json` from our values, without `architectures`."""
        return {theirs: values[ours] for ours, theirs in cls.spec.huggingface_keys.items()}

    @classmethod
    def adapt_config(cls, config: "BackboneConfig", layout: str, names: Sequence[str]) -> Any:
        """The configuration after a look at the names of the stored weights."""
        return config

    @classmethod
    def huggingface_class_of(cls, config: "BackboneConfig") -> str | None:
        """The name of the class in `transformers` that reads such a model."""
        return cls.spec.huggingface_class

    @classmethod
    def fixed_tables(cls, config: "BackboneConfig") -> dict[str, np.ndarray]:
        """Stored name to array: what Hugging Face files hold although it is never trained."""
        return {}

    @classmethod
    def computed_tables(cls, config: "BackboneConfig") -> dict[str, tuple[np.ndarray, ...]]:
        """Pattern of stored names to the arrays they may hold: what is computed from the configuration, not read."""
        return {}

    @classmethod
    def default_initializer(cls, config: "BackboneConfig") -> Any:
        """The initialiser of the family's kernels, None for the truncated normal of `initializer_range`."""
        return None
