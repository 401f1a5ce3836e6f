"""From a model to files: our own format, Hugging Face's, TensorFlow's."""

import dataclasses
import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from qingformer.checkpoints import finite_weights, own_files, write_safetensors, write_tensor_bundle
from qingformer.checkpoints.weight_map import save_rows
from qingformer.errors import CheckpointError, ConfigError
from qingformer.files import write_json
from qingformer.folders import updated_directory
from qingformer.models.config import BackboneConfig
from qingformer.models.family import COMMON_KEYS
from qingformer.models.family_registry import family_class
from qingformer.tokenization.tokenizer_saving import check_companions
from qingformer.version import __version__

# Values that say what a model is made for, not what it is made of.
INTERNAL = ("pooler", "application", "family", "hidden_dropout_prob", "attention_probs_dropout_prob")
OPTIONS = (
    "embedding_size",
    "attention_head_size",
    "attention_key_size",
    "shared_segment_embeddings",
    "num_hidden_groups",
    "num_decoder_layers",
    "cross_position_bias",
    "scale_decoder_output",
    "tie_word_embeddings",
    "relative_attention_num_buckets",
    "relative_attention_max_distance",
)


# Written beside and renamed: a folder is whole or as it was before.
def save(model: Any, directory: str | os.PathLike[str], format: str, tokenizer: Any, check_finite: bool) -> Path:
    """Write `model` to `directory`; see `PretrainedModel.save_pretrained`."""
    writer = FORMATS.get(format)
    if writer is None:
        raise CheckpointError(f"unknown format {format!r}; use one of {', '.join(FORMATS)}")
    arrays = model.weight_arrays()
    if check_finite:
        finite_weights.check_finite(arrays)

    def superseded(folder: Path) -> list[str]:
        own_files.check_no_other_task(folder, Path(temporary))
        check_companions(Path(temporary), folder)
        earlier = own_files.of_earlier_model(folder)
        if format == "tensorflow":
            own_files.check_read_back(folder, earlier)
        return earlier

    with updated_directory(directory, superseded) as temporary:
        writer(temporary, model, arrays)
        if tokenizer is not None:
            tokenizer.save_pretrained(temporary)
    return Path(directory)


def save_qingformer(directory: Path, model: Any, arrays: dict[str, np.ndarray]) -> None:
    """config.json with all values, model.safetensors with every variable under its path."""
    write_json(directory / "config.json", {"qingformer_version": __version__, **model.config.to_dict()})
    write_safetensors(directory / "model.safetensors", arrays, metadata={"format": "qingformer"})


def save_huggingface(directory: Path, model: object, arrays: dict[str, np.ndarray]) -> None:
    """config.json and model.safetensors with the names and layouts of `transformers`."""
    config, stored = huggingface_parts(model, arrays)
    write_json(directory / "config.json", config)
    write_safetensors(directory / "model.safetensors", stored, metadata={"format": "pt"})


def huggingface_parts(model: Any, arrays: dict[str, np.ndarray]) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The configuration and the arrays by name, as `transformers` has them."""
    family = family_class(model.config.family)
    refuse_unknown_there(model.config, "huggingface", (*family.spec.huggingface_keys, *family.spec.implied_keys))
    architecture = architecture_of(model)
    # Without a class in `transformers` the folder is for other readers of the names; ours finds the family by its type.
    config: dict[str, Any] = {"architectures": [architecture]} if architecture else {}
    config["model_type"] = model.config.family
    if "encoder" in family.spec.applications:
        config["is_decoder"] = model.config.application == "lm"
    config |= family.write_config(model.config.to_dict())
    stored = save_rows(model.weight_map(model.config), "huggingface", arrays.items())
    stored |= family.fixed_tables(model.config)
    return config, stored


def stem_of(config: BackboneConfig) -> str:
    """What the names of the family's classes in `transformers` begin with, "" where it has none."""
    name = family_class(config.family).huggingface_class_of(config) or ""
    return re.sub(r"(For(?!mer)\w+|LMHeadModel|EncoderModel)$", "", name)


def architecture_of(model: Any) -> str | None:
    """The class in `transformers` that has this body and this head, no more."""
    name: str | None = family_class(model.config.family).huggingface_class_of(model.config)
    stem, kind = stem_of(model.config), type(model).__name__
    if not name or model.config.application in ("seq2seq", "decoder") or name.endswith("EncoderModel"):
        return name
    if getattr(model, "backbone", None) is None:
        return f"{stem}Model"
    if name.endswith("ForPreTraining") and kind in ("MaskedLM", "NextSentencePrediction"):
        alone = kind == "MaskedLM" or stem in ("Bert", "Nezha")
        return f"{stem}For{kind}" if alone else name
    return name


def save_tensorflow(directory: Path, model: Any, arrays: dict[str, np.ndarray]) -> None:
    """bert_config.json and bert_model.ckpt.* with the original names."""
    family = family_class(model.config.family)
    refuse_unknown_there(model.config, "tensorflow", (*COMMON_KEYS, *OPTIONS, *family.spec.implied_keys))
    values = model.config.to_dict()
    # Options, and keys that the original does not know, are left out where they say nothing new.
    default, bert = BackboneConfig(vocab_size=1, family=model.config.family), BackboneConfig(vocab_size=1)
    optional = ("layer_norm_eps", "pad_token_id", *OPTIONS)
    config = {key: values[key] for key in COMMON_KEYS if key not in optional}
    for key in optional:
        if not values[key] == getattr(default, key) == getattr(bert, key):
            config[key] = values[key]
    if model.config.family != "bert":
        config["model_type"] = model.config.family
    config[own_files.VERSION] = __version__
    write_json(directory / "bert_config.json", config)
    write_tensor_bundle(
        directory / "bert_model.ckpt", save_rows(model.weight_map(model.config), "tensorflow", arrays.items())
    )


def refuse_unknown_there(config: BackboneConfig, format: str, known: Iterable[str]) -> None:
    """Raise `ConfigError` if the configuration has something that readers of the format would silently ignore."""
    default = BackboneConfig(vocab_size=1, family=config.family)
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if field.name not in (*known, *INTERNAL) and value != getattr(default, field.name):
            raise ConfigError(
                f"{field.name}={value!r} has no place in the {format} format; save with format='qingformer'"
            )
    if config.application == "unilm" and default.application != "unilm" and format == "huggingface":
        raise ConfigError("application 'unilm' has no place in the huggingface format; save with format='qingformer'")


FORMATS: dict[str, Callable[[Path, Any, dict[str, np.ndarray]], None]] = {
    "qingformer": save_qingformer,
    "huggingface": save_huggingface,
    "tensorflow": save_tensorflow,
}
