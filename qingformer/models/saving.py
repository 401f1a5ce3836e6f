"""From a model to files: our own format, Hugging Face's, TensorFlow's."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from qingformer.checkpoints import write_safetensors, write_tensor_bundle
from qingformer.checkpoints.weight_map import save_rows
from qingformer.errors import CheckpointError, ConfigError
from qingformer.files import atomic_directory, write_json
from qingformer.models.config import BackboneConfig
from qingformer.models.registry import family_class
from qingformer.version import __version__

# Values of ours that other libraries do not know; in their files they must be at the default.
OURS_ALONE = (
    "embedding_size attention_head_size attention_key_size pooler_act hierarchical_position custom_position_ids "
    "shared_segment_embeddings residual_attention_scores condition_size condition_hidden_size condition_hidden_act"
).split()


def save(model: Any, directory: str | os.PathLike[str], format: str, tokenizer: Any = None) -> Path:
    """Write `model` to `directory`; see `PretrainedModel.save_pretrained`."""
    writer = FORMATS.get(format)
    if writer is None:
        raise CheckpointError(f"unknown format {format!r}; use one of {', '.join(FORMATS)}")
    arrays = model.weight_arrays()
    with atomic_directory(directory) as temporary:
        writer(temporary, model, arrays)
        if tokenizer is not None:
            tokenizer.save_pretrained(temporary)
    return Path(directory)


def save_qingformer(directory: Path, model: Any, arrays: dict[str, np.ndarray]) -> None:
    """config.json with all values, model.safetensors with every variable under its path."""
    write_json(directory / "config.json", {"qingformer_version": __version__, **model.config.to_dict()})
    write_safetensors(directory / "model.safetensors", arrays, metadata={"format": "qingformer"})


def save_huggingface(directory: Path, model: Any, arrays: dict[str, np.ndarray]) -> None:
    """config.json and model.safetensors with the names and layouts of `transformers`."""
    refuse_unknown_there(model.config, "huggingface", allowed=())
    config = {key: value for key, value in model.config.to_dict().items() if key not in (*OURS_ALONE, *INTERNAL)}
    config |= {
        "architectures": [family_class(model.config.family).huggingface_class],
        "model_type": model.config.family,
        "is_decoder": model.config.application == "lm",
    }
    write_json(directory / "config.json", config)
    stored = save_rows(model.weight_map(model.config), "huggingface", arrays.items())
    write_safetensors(directory / "model.safetensors", stored, metadata={"format": "pt"})


def save_tensorflow(directory: Path, model: Any, arrays: dict[str, np.ndarray]) -> None:
    """bert_config.json and bert_model.ckpt.* with the original names."""
    refuse_unknown_there(model.config, "tensorflow", allowed=KNOWN_TO_BERT4KERAS)
    hidden = {"layer_norm_eps", "pad_token_id", *INTERNAL, *OURS_ALONE} - set(KNOWN_TO_BERT4KERAS)
    config = {key: value for key, value in model.config.to_dict().items() if key not in hidden and value is not None}
    write_json(directory / "bert_config.json", config)
    write_tensor_bundle(
        directory / "bert_model.ckpt", save_rows(model.weight_map(model.config), "tensorflow", arrays.items())
    )


def refuse_unknown_there(config: BackboneConfig, format: str, allowed: tuple[str, ...]) -> None:
    """Raise `ConfigError` if the configuration has something that readers of the format would silently ignore."""
    default = BackboneConfig(vocab_size=1)
    for key in OURS_ALONE:
        if key not in allowed and getattr(config, key) != getattr(default, key):
            raise ConfigError(
                f"{key}={getattr(config, key)!r} has no place in the {format} format; save with format='qingformer'"
            )
    if config.application == "unilm" and format == "huggingface":
        raise ConfigError("application 'unilm' has no place in the huggingface format; save with format='qingformer'")


INTERNAL = ("pooler", "application", "family")
KNOWN_TO_BERT4KERAS = ("embedding_size", "attention_head_size", "attention_key_size", "shared_segment_embeddings")
FORMATS: dict[str, Callable[[Path, Any, dict[str, np.ndarray]], None]] = {
    "qingformer": save_qingformer,
    "huggingface": save_huggingface,
    "tensorflow": save_tensorflow,
}
