"""Which files in a folder are from an earlier save of ours: those go with the next one, all others stay."""

import json
import os
import re
from pathlib import Path

from qingformer.checkpoints.safetensors import Safetensors
from qingformer.errors import CheckpointError
from qingformer.json_files import readable_json
from qingformer.types import Config, Options

CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
TENSORFLOW = ("bert_config.json", "bert_model.ckpt.index", "bert_model.ckpt.data-00000-of-00001")
TASK, HEAD = "task.json", "head.safetensors"
ADAPTERS = ("adapters.json", "adapters.safetensors")
PEFT = ("adapter_config.json", "adapter_model.safetensors")
VERSION = "qingformer_version"
# What a reader would take in place of a TensorFlow checkpoint in the same folder.
_READ_FIRST = (CONFIG, WEIGHTS, INDEX, "pytorch_model.bin", "pytorch_model.bin.index.json")
_SHARD = re.compile(r"model-\d{5}-of-\d{5}\.safetensors")


def of_earlier_model(folder: Path) -> list[str]:
    """The files of a model that an earlier save left in `folder`, in whatever format; shards are the same model."""
    names = os.listdir(folder)
    found = [name for name in names if name == INDEX or _SHARD.fullmatch(name)]
    # Files of others stay where they are, even under the name that we would write.
    ours = written_by_us(folder / WEIGHTS)
    if ours:
        found.append(WEIGHTS)
    if ours or VERSION in json_object(folder / CONFIG):
        found.append(CONFIG)
    if VERSION in json_object(folder / TENSORFLOW[0]):
        found += [name for name in TENSORFLOW if name in names]
    return [name for name in found if name in names]


def check_read_back(folder: Path, superseded: list[str]) -> None:
    """Refuse to write a TensorFlow checkpoint where files that stay would be read in its place.

    Raises:
        CheckpointError: names the first of them.
    """
    names = sorted(os.listdir(folder))
    before = [name for name in names if name in _READ_FIRST or (name.endswith(".index") and name not in TENSORFLOW)]
    before += [name for name in names if name == "checkpoint" and any(other.endswith(".index") for other in before)]
    for name in before:
        if name not in superseded:
            raise CheckpointError(
                f"{folder}: holds {name}, which would be read in place of the new checkpoint; choose another folder"
            )


def check_no_other_task(folder: Path, new: Path) -> None:
    """Refuse to put another encoder under a trained task: its head and labels belong to the one that is there.

    Raises:
        CheckpointError: `folder` holds a task, and `new` other weights than those of its encoder.
    """
    if (folder / TASK).is_file() and (folder / HEAD).is_file():
        there = checksums_of(folder / WEIGHTS)
        if not there or there != checksums_of(new / WEIGHTS):
            raise CheckpointError(
                f"{folder}: holds a trained task, whose {HEAD} belongs to the encoder there; choose another folder, or "
                f"remove {TASK} and {HEAD} first"
            )


def check_same_task(folder: Path, settings: Options, beside: str, what: str) -> None:
    """Refuse to replace a `task.json` that also describes `beside`, a file that stays.

    Raises:
        CheckpointError: both are there, and the settings differ.
    """
    if (folder / beside).is_file() and (folder / TASK).is_file():
        there, here = json_object(folder / TASK), json.loads(json.dumps(settings))
        if {**there, VERSION: None} != {**here, VERSION: None}:
            raise CheckpointError(
                f"{folder}: holds {what} of another task, or of other labels ({TASK}, {beside}); choose another folder"
            )


def of_earlier_adapters(folder: Path, names: tuple[str, str]) -> list[str]:
    """The adapters that an earlier save left in `folder` in the other form than that of `names`."""
    if names == PEFT:  # nobody else writes files of our names
        return [name for name in ADAPTERS if (folder / name).is_file()]
    return [name for name in PEFT if (folder / name).is_file()] if written_by_us(folder / PEFT[1]) else []


def written_by_us(path: Path) -> bool:
    """Whether this package wrote a safetensors file, going by its header."""
    try:
        file = Safetensors(path)
    except CheckpointError:
        return False
    return bool(file.checksums) or file.metadata.get("format") == "qingformer"


def checksums_of(path: Path) -> dict[str, str]:
    """The checksums in a safetensors file by tensor, none where there is no such file or it has none."""
    try:
        return Safetensors(path).checksums
    except CheckpointError:
        return {}


def json_object(path: Path) -> Config:
    """The object in a JSON file; an empty one where there is none that can be read."""
    value = readable_json(path)
    return value if isinstance(value, dict) else {}
