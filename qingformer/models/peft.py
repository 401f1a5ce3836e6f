"""Adapters in the files of the library `peft`: adapter_config.json and adapter_model.safetensors.

There the update of a linear layer's weight (out, in) is (alpha / r) lora_B lora_A with lora_A (r, in), lora_B (out, r):
both are the transposes of ours. Modules have the names of `transformers`, which the weight map of a family knows.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from qingformer.checkpoints import open_checkpoint, write_safetensors
from qingformer.checkpoints.weight_map import TRANSPOSE, Row, shorten
from qingformer.errors import CheckpointError
from qingformer.files import write_json
from qingformer.json_files import read_object
from qingformer.models.adapter_state import Adapter, Adapters

SETTINGS, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."
# Variants of the method that compute something else; the value that means "not used".
REFUSED: dict[str, tuple[Any, ...]] = {
    "use_dora": (False, None),
    "use_qalora": (False, None),
    "use_bdlora": (False, None),
    "lora_bias": (False, None),
    "bias": ("none", None),
    "alpha_pattern": ({}, None),
    "layer_replication": (None, []),
    "trainable_token_indices": (None, []),
    "target_parameters": (None, []),
}
_KINDS: dict[str, type | tuple[type, ...]] = {"peft_type": (str, type(None)), "r": int, "lora_alpha": float}
_KINDS["use_rslora"] = (bool, type(None))
_FACTOR = re.compile(r"^(?P<module>.+)\.lora_(?P<side>[AB])(\.default)?\.weight$")


def write(folder: Path, backbone: Any, adapters: Adapters) -> None:
    """Write adapters under the names of the classes with a head (`BertForSequenceClassification`, ...).

    A symmetric start is written as part of the update, which then has twice the rank.

    Raises:
        CheckpointError: other trained weights, a layer without a name there, ranks that differ.
    """
    if adapters.trained:
        raise CheckpointError(
            f"the format of peft holds adapters alone, but {shorten(list(adapters.trained))} is trained too; "
            "save with format='qingformer'"
        )
    rows = {row.ours: row for row in reversed(backbone.weight_map(backbone.config).rows) if row.huggingface}
    arrays, modules, scales = {}, [], set()
    for path, adapter in adapters.layers.items():
        module = _module(path, rows.get(f"{path}/kernel"))
        a, b, alpha = _with_start(adapter)
        arrays[f"{PREFIX}{module}.lora_A.weight"] = np.ascontiguousarray(a.T)
        arrays[f"{PREFIX}{module}.lora_B.weight"] = np.ascontiguousarray(b.T)
        modules.append(module)
        scales.add((a.shape[1], alpha))
    if len(scales) > 1:
        raise CheckpointError("the layers differ in rank or alpha; save with format='qingformer'")
    rank, alpha = scales.pop()
    settings = {"peft_type": "LORA", "r": rank, "lora_alpha": alpha, "target_modules": modules}
    fixed = {"lora_dropout": 0.0, "bias": "none", "fan_in_fan_out": False, "inference_mode": True, "task_type": None}
    write_json(folder / SETTINGS, {**settings, **fixed, "base_model_name_or_path": None})
    write_safetensors(folder / WEIGHTS, arrays)


def read(folder: Path, backbone: Any, strict: bool) -> Adapters:
    """Read adapters of any model class that has the body of `backbone`.

    Raises:
        CheckpointError: another method than LoRA, a module that this model lacks, weights that are no adapters.
    """
    settings = read_object(folder / SETTINGS, CheckpointError, _KINDS)
    _check(settings, folder)
    with open_checkpoint(folder / WEIGHTS, verify=True) as file:
        arrays = {name: np.array(file.read(name)) for name in file.names()}
    found, others = _pair(arrays)
    if others and strict:
        raise CheckpointError(
            f"{folder}: {shorten(others)} are no adapters (a head, or modules saved whole), which this model does not "
            "take; strict=False passes them over"
        )
    names = _names(backbone)
    layers = {}
    for module, sides in found.items():
        if set(sides) != {"A", "B"} or any(side.ndim != 2 for side in sides.values()):
            raise CheckpointError(f"{folder}: {module} needs two matrices lora_A and lora_B")
        a, b = (np.asarray(sides[side].T, dtype="float32") for side in "AB")
        alpha = float(settings.get("lora_alpha") or settings.get("r") or a.shape[1])
        # The scale of the "rank-stabilised" variant is alpha / sqrt(r).
        alpha *= float(np.sqrt(a.shape[1])) if settings.get("use_rslora") else 1.0
        layers[_path(module, names, folder)] = Adapter(a, b, alpha)
    if not layers:
        raise CheckpointError(f"{folder}: {WEIGHTS} holds no adapters (lora_A, lora_B)")
    return Adapters(str(folder), layers)


def _with_start(adapter: Adapter) -> tuple[np.ndarray, np.ndarray, float]:
    """A B - A_0 B_0 = [A, A_0] [B; -B_0], with alpha such that alpha / r stays."""
    if adapter.start is None:
        return adapter.a, adapter.b, adapter.alpha
    a, b = adapter.start
    return np.concatenate([adapter.a, a], axis=1), np.concatenate([adapter.b, -b]), 2 * adapter.alpha


def _module(path: str, row: Row | None) -> str:
    problem = None
    if row is None:
        problem = "has no name in the format of Hugging Face"
    elif row.part is not None:
        problem = f"is stored joined with others there ({row.huggingface})"
    elif row.huggingface_steps != (TRANSPOSE,):
        problem = f"is stored in another layout there ({row.huggingface})"
    if problem or row is None:
        raise CheckpointError(f"{path} {problem}, so peft has no adapter for it; save with format='qingformer'")
    return str(row.huggingface).removesuffix(".weight")


def _names(backbone: Any) -> dict[str, str]:
    """Module name to path, in every spelling, of the layers that peft can adapt alone."""
    weight_map = backbone.weight_map(backbone.config)
    return {
        spelling.removesuffix(".weight"): row.ours.removesuffix("/kernel")
        for row in weight_map.rows
        if row.huggingface and row.ours.endswith("/kernel") and row.huggingface_steps == (TRANSPOSE,) and not row.part
        for spelling in weight_map.candidates(row.huggingface, "huggingface")
    }


def _path(module: str, names: Mapping[str, str], folder: Path) -> str:
    """The path of a module; a class with a head says "bert.encoder...", one without only "encoder..."."""
    if module in names:
        return names[module]
    paths = {path for name, path in names.items() if name.endswith(f".{module}") or module.endswith(f".{name}")}
    if len(paths) != 1:
        raise CheckpointError(f"{folder}: {module} is no linear layer of this model; it is another family's adapter")
    return paths.pop()


def _check(settings: Any, folder: Path) -> None:
    kind = settings.get("peft_type") if isinstance(settings, dict) else None
    if kind != "LORA":
        raise CheckpointError(f"{folder / SETTINGS}: peft_type is {kind!r}; only LORA can be read")
    for key, unused in REFUSED.items():
        if settings.get(key) not in unused:
            raise CheckpointError(f"{folder / SETTINGS}: {key}={settings[key]!r} is another method than plain LoRA")


def _pair(arrays: Mapping[str, np.ndarray]) -> tuple[dict[str, dict[str, np.ndarray]], list[str]]:
    found: dict[str, dict[str, np.ndarray]] = {}
    others = []
    for name, array in arrays.items():
        match = _FACTOR.match(name.removeprefix(PREFIX))
        if match is None:
            others.append(name)
        else:
            found.setdefault(match["module"], {})[match["side"]] = array
    return found, others
