"""What a family says of itself beside its bricks: defaults, roles, keys of its configuration files, its marks."""

from collections.abc import Mapping, Sequence
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


class Family:
    """The declarations of a family, which its backbone class overrides where they differ from BERT's.

    - `defaults`: values of the configuration that differ from BERT's.
    - `applications`: the roles it can take.
    - `model_types`: the `model_type` values of Hugging Face files that mean this family, beside its own name;
      `config_marks` keys of a configuration, `weight_marks` patterns of stored names, that no other family has.
    - `keys`: our names of configuration values to those of its Hugging Face files; what is not there cannot be said in
      such a file. `ignored_keys`: keys of its files that say nothing about the numbers. `said_otherwise`: values that
      the class, the weights' names or `write_config` say in another way.
    - `heads`: the classes of models that its checkpoints can fill, by name.
    - `classifier_problem`: why the fine-tuned classifiers of its files cannot be computed by a task, "" where they can.
    - `can_untie`: whether its output table may differ from the token table.
    - `config_class`: its own class of configuration where it has values that no other family has.
    - `only`: what options may be where its layers would ignore other values.
    """

    family: ClassVar[str] = ""
    huggingface_class: ClassVar[str | None] = None
    defaults: ClassVar[Values] = {}
    applications: ClassVar[tuple[str, ...]] = ("encoder", "lm", "unilm")
    model_types: ClassVar[tuple[str, ...]] = ()
    config_marks: ClassVar[tuple[str, ...]] = ()
    weight_marks: ClassVar[tuple[str, ...]] = ()
    keys: ClassVar[Mapping[str, str]] = {key: key for key in COMMON_KEYS}
    ignored_keys: ClassVar[tuple[str, ...]] = ()
    said_otherwise: ClassVar[tuple[str, ...]] = ()
    heads: ClassVar[tuple[str, ...]] = ("MaskedLM", "CausalLM", "NextSentencePrediction", "PreTraining")
    classifier_problem: ClassVar[str] = ""
    can_untie: ClassVar[bool] = False
    config_class: ClassVar[type | None] = None
    only: ClassVar[Mapping[str, tuple[Any, ...]]] = {}

    @staticmethod
    def weight_map(config: Any) -> WeightMap:
        """The table of all variables the family has; a family file gives it."""
        raise ConfigError(f"the family {config.family} has no weight map")

    @classmethod
    def read_config(cls, values: Config, source: str) -> Config:
        """The values of a configuration file under our names; a family with more than other names overrides it.

        Values that a file of this package has under our names already stay as they are.
        """
        ours = {theirs: ours for ours, theirs in cls.keys.items()}
        return {ours.get(key, key): value for key, value in values.items()}

    @classmethod
    def write_config(cls, values: Config) -> Config:
        """The reverse of `read_config`: a Hugging Face `config.json` from our values, without `architectures`."""
        return {theirs: values[ours] for ours, theirs in cls.keys.items()}

    @classmethod
    def adapt_config(cls, config: "BackboneConfig", layout: str, names: Sequence[str]) -> Any:
        """The configuration after a look at the names of the stored weights."""
        return config

    @classmethod
    def huggingface_class_of(cls, config: "BackboneConfig") -> str | None:
        """The name of the class in `transformers` that reads such a model."""
        return cls.huggingface_class

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
