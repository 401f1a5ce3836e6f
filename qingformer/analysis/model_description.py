"""A pretrained model's files as plain values: configuration, roles, parameters and cost."""

from dataclasses import asdict

from qingformer.analysis.cost import encoder_cost
from qingformer.analysis.thresholds import attention_thresholds
from qingformer.json_files import read_json
from qingformer.models.inspection import Stored, inspect
from qingformer.models.stored_roles import role_as_dict
from qingformer.types import Config


def describe(
    source: str, length: int | None, *, folder: str | None = None, family: str | None = None, tensors: bool = False
) -> Config:
    """Everything that the files of `source` tell, as plain values; they lie in `folder` where that is another place."""
    stored = inspect(source, family, folder)
    files = stored.files
    counts = stored.parameters()
    found: Config = {
        "source": source,
        "layout": files.layout,
        "format": stored.format,
        "family": stored.family,
        "application": stored.config.application if stored.config else None,
        "role": stored.best.head if stored.best else None,
        "heads": {role.head: role_as_dict(role) for role in stored.roles},
        "files": {path.name: path.stat().st_size for path in sorted(files.directory.iterdir()) if path.is_file()},
        "configuration": stored.values,
        "unknown_keys": stored.unknown_keys,
        "parameters": {**counts, "total": sum(counts.values())} if counts else {},
        "missing": stored.best.report.missing if stored.best else [],
        "left_over": stored.left_over,
        "unknown_tensors": stored.unknown_tensors,
        "problem": stored.problem,
        "cost": _cost(stored, length),
    }
    task = files.directory / "task.json"
    if task.is_file():
        found["task"] = read_json(task)
    if tensors:
        found["tensors"] = {name: [list(shape), dtype] for name, (shape, dtype) in stored.tensors.items()}
    return found


def _cost(stored: Stored, length: int | None) -> Config | None:
    """Operations of the encoder for a sentence of `length` tokens, and the memory that training keeps."""
    if stored.config is None:
        return None
    length = length or min(128, stored.config.max_position_embeddings)
    pooler = stored.config.pooler and (not stored.tensors or "pooler/kernel" in stored.paths)
    cost = encoder_cost(stored.config, length, pooler=pooler)
    return {
        "tokens": length,
        "forward_flops": cost.total_forward_flops,
        "training_flops": cost.total_training_flops,
        "by_part": cost.forward_flops,
        "quadratic_share": cost.quadratic_share,
        "activation_bytes": cost.activation_bytes,
        "thresholds": asdict(attention_thresholds(stored.config)),
    }
