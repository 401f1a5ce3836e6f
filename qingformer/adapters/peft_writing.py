"""Adapters in the files of the library `peft`: adapter_config.json and adapter_model.safetensors.

There the update of a linear layer's weight (out, in) is (alpha / r) lora_B lora_A with lora_A (r, in), lora_B (out, r):
both are the transposes of ours. Modules have the names of `transformers`, which the weight map of a family knows.
"""

import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from qingformer.adapters.adapter_state import Adapter, Adapters
from qingformer.adapters.peft_reading import PREFIX
from qingformer.checkpoints import own_files, write_safetensors
from qingformer.checkpoints.loading_report import shorten
from qingformer.checkpoints.weight_map import TRANSPOSE, Row
from qingformer.errors import CheckpointError
from qingformer.files import write_json
from qingformer.types import Config

SETTINGS, WEIGHTS = own_files.PEFT


def write(folder: Path, backbone: Any, adapters: Adapters) -> None:
    """Write adapters under the names of the classes with a head (`BertForSequenceClassification`, ...).

    A symmetric start is written as part of the update, which then has twice the rank.

    Raises:
        CheckpointError: other trained weights, a layer without a name there.
    """
    if adapters.trained:
        raise CheckpointError(
            f"the format of peft holds adapters alone, but {shorten(list(adapters.trained))} is trained too; "
            "save with format='qingformer'"
        )
    rows = {row.ours: row for row in reversed(backbone.weight_map(backbone.config).rows) if row.huggingface}
    arrays, ranks, alphas = {}, {}, {}
    for path, adapter in adapters.layers.items():
        module = _module(path, rows.get(f"{path}/kernel"))
        a, b, alpha = _with_start(adapter)
        arrays[f"{PREFIX}{module}.lora_A.weight"] = np.ascontiguousarray(a.T)
        arrays[f"{PREFIX}{module}.lora_B.weight"] = np.ascontiguousarray(b.T)
        ranks[module], alphas[module] = int(a.shape[1]), alpha
    rank, rank_pattern = _with_exceptions(ranks)
    alpha, alpha_pattern = _with_exceptions(alphas)
    settings = {"peft_type": "LORA", "r": rank, "lora_alpha": alpha, "target_modules": list(ranks)}
    fixed = {"lora_dropout": 0.0, "bias": "none", "fan_in_fan_out": False, "inference_mode": True, "task_type": None}
    patterns = {"rank_pattern": rank_pattern, "alpha_pattern": alpha_pattern, "base_model_name_or_path": None}
    write_json(folder / SETTINGS, {**settings, **fixed, **patterns})
    write_safetensors(folder / WEIGHTS, arrays)


def _with_exceptions(values: Config) -> tuple[Any, Config]:
    """The most frequent value, and those that differ by the whole name of their module, a regular expression there."""
    common = Counter(values.values()).most_common(1)[0][0]
    return common, {re.escape(module): value for module, value in values.items() if value != common}


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
