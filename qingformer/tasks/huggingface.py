"""A task in Hugging Face's form: a folder that the classes of `transformers` read, head and labels included."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from keras import ops

from qingformer.checkpoints import finite_weights, own_files, write_safetensors
from qingformer.errors import ConfigError
from qingformer.files import write_json
from qingformer.folders import updated_directory
from qingformer.models import saving
from qingformer.models.fine_tuned import ANSWERS, CHOICE, OURS, PARAMETERS, SEQUENCE, TOKENS
from qingformer.tasks import storage
from qingformer.tokenization.tokenizer_saving import check_companions

INSTEAD = "or save with format='qingformer'"
# How the classes of a family come to the vector that they classify.
POOLED, HIDDEN = ("bert", "albert", "nezha"), ("electra", "roformer")


def save(task: Any, directory: str | os.PathLike[str], check_finite: bool) -> Path:
    """See `Task.save`. Errors: `ConfigError` for a head that no class of `transformers` computes."""
    modules, more = _class_of(task)
    backbone = task.backbone
    arrays = backbone.weight_arrays()
    if not _reads_pooler(task):
        arrays = {path: array for path, array in arrays.items() if not path.startswith("pooler/")}
    config, stored = saving.huggingface_parts(backbone, arrays)
    config["architectures"] = [f"{saving.stem_of(backbone.config)}For{task.huggingface_head}"]
    config |= {**more, **_labels(task), PARAMETERS: {OURS: storage.settings_of(task)}}
    stored |= _head_arrays(task, modules)
    if check_finite:
        finite_weights.check_finite(stored)
    with updated_directory(directory, lambda folder: _superseded(temporary, folder)) as temporary:
        write_json(temporary / own_files.CONFIG, config)
        write_safetensors(temporary / own_files.WEIGHTS, stored, metadata={"format": "pt"})
        task.tokenizer.save_pretrained(temporary)
    return Path(directory)


def _superseded(new: Path, folder: Path) -> list[str]:
    """Files of a model of ours; a task in our own form would be read in place of the new one."""
    check_companions(new, folder)
    inside = [f"{storage.ADAPTERS}/{name}" for name in own_files.ADAPTERS]
    names = [own_files.TASK, own_files.HEAD, *inside]
    return [*own_files.of_earlier_model(folder), *(name for name in names if (folder / name).is_file())]


def _class_of(task: Any) -> tuple[tuple[str, ...], dict[str, Any]]:
    """The modules of the head and what the configuration says of them.

    Raises:
        ConfigError: no class of `transformers` computes the task.
    """
    name, kind = type(task).__name__, task.huggingface_head
    if task.model is None:
        raise ConfigError("there is nothing to save yet: call fit, or give labels")
    if kind is None:
        raise ConfigError(f"transformers has no class for a {name}; save with format='qingformer'")
    if kind == TOKENS and task.head != "softmax":
        raise ConfigError(
            f"transformers has no class for a tagger with head={task.head!r}; train one with head='softmax', {INSTEAD}"
        )
    config = task.backbone.config
    if config.family not in (*POOLED, *HIDDEN) or config.application != "encoder":
        raise ConfigError(
            f"transformers has no For{kind} for {config.family} as {config.application}; save with format='qingformer'"
        )
    if kind in (TOKENS, ANSWERS):
        return ("classifier" if kind == TOKENS else "qa_outputs",), {}
    if config.family in POOLED:
        _check_pooled(task, f"{saving.stem_of(config)}For{kind}")
        return ("classifier",), {}
    if kind == CHOICE:
        return _summary(task)
    return _hidden(task, f"{saving.stem_of(config)}For{kind}")


def _check_pooled(task: Any, name: str) -> None:
    config = task.backbone.config
    if task.hidden_activation or not config.pooler or config.pooler_act != "tanh":
        raise ConfigError(
            f"{name} reads a tanh pooler and no other hidden layer, which this task does not; train one over an "
            f"encoder with its pooler, {INSTEAD}"
        )


def _hidden(task: Any, name: str) -> tuple[tuple[str, ...], dict[str, Any]]:
    config = task.backbone.config
    wanted = "gelu" if config.family == "electra" else config.activations[0]
    if task.hidden_activation != wanted:
        raise ConfigError(
            f"{name} has a hidden layer with {wanted}, this task has hidden_activation={task.hidden_activation!r}; "
            f"train one with hidden_activation={wanted!r}, {INSTEAD}"
        )
    return ("classifier.dense", "classifier.out_proj"), {}


def _summary(task: Any) -> tuple[tuple[str, ...], dict[str, Any]]:
    said = {"summary_type": "first", "summary_use_proj": bool(task.hidden_activation)}
    said["summary_activation"] = "" if task.hidden_activation == "linear" else task.hidden_activation
    if task.hidden_activation:
        return ("sequence_summary.summary", "classifier"), said
    if task.backbone.config.pooler:
        raise ConfigError(
            "a choice over this encoder reads its pooler, which the class of transformers does not have; train one "
            f"with hidden_activation='gelu', {INSTEAD}"
        )
    return ("classifier",), said


def _reads_pooler(task: Any) -> bool:
    return task.huggingface_head in (SEQUENCE, CHOICE) and not task.hidden_activation


def _labels(task: Any) -> dict[str, Any]:
    if task.huggingface_head not in (SEQUENCE, TOKENS):
        return {}
    names = task.output_names()
    found: dict[str, Any] = {"id2label": {str(number): name for number, name in enumerate(names)}}
    found["label2id"] = {name: number for number, name in enumerate(names)}
    if task.huggingface_head == SEQUENCE:
        found["problem_type"] = f"{'multi' if task.multi_label else 'single'}_label_classification"
    return found


def _head_arrays(task: Any, modules: Sequence[str]) -> dict[str, np.ndarray]:
    found = {}
    for name, module in zip(task.head_layers(), modules, strict=True):
        layer = task.model.get_layer(name)
        kernel, bias = (np.asarray(ops.convert_to_numpy(v.value), "float32") for v in (layer.kernel, layer.bias))
        found[f"{module}.weight"], found[f"{module}.bias"] = np.ascontiguousarray(kernel.T), bias
    return found
