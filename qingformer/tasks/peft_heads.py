"""Adapters of the library `peft` in a task: those of the encoder, and the head that was trained beside them.

For a classification (SEQ_CLS, TOKEN_CLS) `peft` saves the head whole, or adapters of it. Its outputs have the order of
the model that was adapted: that of the head in the files of the encoder, where there was one.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from keras import ops

from qingformer.adapters.adapter_state import Adapters, put
from qingformer.adapters.peft_reading import PeftFile, read
from qingformer.checkpoints.loading_report import shorten
from qingformer.checkpoints.stored_heads import fine_tuned_head
from qingformer.errors import CheckpointError, ConfigError
from qingformer.folders import finish_update
from qingformer.models.fine_tuned import StoredHead
from qingformer.tasks.fine_tuned_heads import NEVER

KINDS = {"SEQ_CLS": "SequenceClassification", "TOKEN_CLS": "TokenClassification", "QUESTION_ANS": "QuestionAnswering"}


def load(task: Any, folder: Path, strict: bool) -> list[str]:
    """Read a folder of `peft` into a task with an encoder and labels; returns the paths of the adapters.

    Raises:
        CheckpointError: what does not fit, by name; the task is as before.
    """
    finish_update(folder)
    if task.backbone is None or task.model is None:
        raise ConfigError(
            f"{folder}: the files of peft name no labels; make the task with labels= in the order of their outputs"
        )
    stored = read(folder, task.backbone)
    kind = KINDS.get(stored.task_type or "")
    if kind is not None and kind != task.huggingface_head:
        raise CheckpointError(f"{folder}: task_type is {stored.task_type}, which is not that of a {task.task_name}")
    head = {name: array for name, array in stored.others.items() if fine_tuned_head(name, "huggingface")}
    rest = [name for name in stored.others if name not in head]
    if rest and strict:
        raise CheckpointError(f"{folder}: {shorten(rest)} are not adapters; strict=False passes them over")
    trained = _trained(task, stored, head)
    if trained is None:
        if task._start is not None:
            raise CheckpointError(
                f"{folder}: has no head, and that of this task is random; start from the model that was adapted"
            )
        trained = _kept(task)
    adapters = Adapters(str(folder), stored.layers, {**stored.trained, **trained})
    found: list[str] = put(task.model, task.backbone, adapters, strict)
    return found


def _kept(task: Any) -> dict[str, np.ndarray]:
    """The head as it is, for files without one."""
    layers = [task.model.get_layer(name) for name in task.head_layers()]
    pairs = ((layer, variable) for layer in layers for variable in (layer.kernel, layer.bias))
    return {f"{layer.path}/{v.name}": np.array(ops.convert_to_numpy(v.value)) for layer, v in pairs}


def _trained(task: Any, stored: PeftFile, head: Mapping[str, np.ndarray]) -> dict[str, np.ndarray] | None:
    """The head's arrays by key of the task's variables: saved whole, or the present ones with their adapters."""
    if not head and not stored.head_layers:
        return None
    names, modules = task.head_layers(), _modules([*head, *(f"{module}.weight" for module in stored.head_layers)])
    if len(names) != len(modules):
        raise CheckpointError(
            f"{stored.folder}: {shorten(modules)} is a head of {len(modules)} layers, but that of this task has "
            f"{len(names)}"
        )
    found = _kept(task)
    places = _places(task, stored.folder)
    for name, module in zip(names, modules):
        layer, last = task.model.get_layer(name), name == names[-1]
        for variable, end in ((layer.kernel, "weight"), (layer.bias, "bias")):
            key, array = f"{layer.path}/{variable.name}", head.get(f"{module}.{end}")
            if array is not None:
                array = np.asarray(array, "float32").T if end == "weight" else np.asarray(array, "float32")
                found[key] = _placed(array, places, 0.0 if end == "weight" else NEVER) if last else array
        adapter = stored.head_layers.get(module)
        if adapter is not None:
            if task._start is not None:
                raise CheckpointError(
                    f"{stored.folder}: has adapters of {module}, but that of this task is random; start from the "
                    "model that was adapted"
                )
            update = adapter.a @ adapter.b * (adapter.alpha / adapter.a.shape[1])
            kernel = found[f"{layer.path}/kernel"]
            update = _placed(update, places, 0.0) if last else update
            if update.shape != kernel.shape:
                raise CheckpointError(
                    f"{stored.folder}: the adapter of {module} is {update.shape}, but its kernel here {kernel.shape}"
                )
            found[f"{layer.path}/kernel"] = kernel + update
    return found


def _modules(names: list[str]) -> list[str]:
    """The modules of stored names, inner ones first."""
    modules = dict.fromkeys(re.sub(r"\.(weight|bias)$", "", name) for name in names)
    order = ("classifier.dense", "sequence_summary.summary")
    return sorted(modules, key=lambda module: (module not in order, module))


def _places(task: Any, folder: Path) -> list[int] | None:
    """The stored output of each of the task's; None for the same order."""
    report = task.backbone.loading_report
    head: StoredHead | None = None if report is None else report.head
    if head is not None and report.head_taken:
        places: list[int] | None = task.outputs_in(head)
        return places
    if task.huggingface_head == "TokenClassification":
        raise CheckpointError(
            f"{folder}: names no tags; start from the model that was adapted, whose config.json has id2label"
        )
    return None


def _placed(array: np.ndarray, places: list[int] | None, absent: float) -> np.ndarray:
    if places is None or array.shape[-1] <= max(places):
        return array
    return np.where(np.array(places) >= 0, array[..., places], absent).astype("float32")
