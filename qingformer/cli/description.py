"""The work of `qingformer info`; imported only when it runs."""

from typing import TYPE_CHECKING, Any

from qingformer.analysis import encoder_cost
from qingformer.cli.console import results
from qingformer.cli.stored import Stored, inspect
from qingformer.files import read_json

if TYPE_CHECKING:
    from rich.console import Console


def describe(source: str, length: int | None, *, tensors: bool) -> dict[str, Any]:
    """Everything `info` shows, as plain values."""
    stored = inspect(source)
    files = stored.files
    counts = stored.parameters()
    found: dict[str, Any] = {
        "source": source,
        "layout": files.layout,
        "format": stored.format,
        "family": stored.family,
        "files": {path.name: path.stat().st_size for path in sorted(files.directory.iterdir()) if path.is_file()},
        "configuration": stored.values,
        "unknown_keys": stored.unknown_keys,
        "parameters": {**counts, "total": sum(counts.values())} if counts else {},
        "unknown_tensors": stored.unknown_tensors,
        "cost": _cost(stored, length),
    }
    task = files.directory / "task.json"
    if task.is_file():
        found["task"] = read_json(task)
    if tensors:
        found["tensors"] = {name: [list(shape), dtype] for name, (shape, dtype) in stored.tensors.items()}
    return found


def _cost(stored: Stored, length: int | None) -> dict[str, Any] | None:
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
        "activation_bytes": cost.activation_bytes,
    }


def print_description(found: dict[str, Any]) -> None:
    """The same as tables."""
    out = results()
    _section(out, "Model", {key: found[key] for key in ("source", "layout", "format", "family")})
    if "task" in found:
        _section(out, "Task", {key: _plain(value) for key, value in found["task"].items()})
    _section(out, "Files", {name: _bytes(size) for name, size in found["files"].items()})
    _section(out, "Configuration", {key: _plain(value) for key, value in found["configuration"].items()})
    if found["parameters"]:
        _section(out, "Parameters", {name: f"{count:,}" for name, count in found["parameters"].items()})
    cost = found["cost"]
    if cost is None:
        out.print(f"family {found['family']} is not one of this package: no cost, no weight map", markup=False)
    else:
        rows = {name: _operations(count) for name, count in cost["by_part"].items() if count}
        rows |= {
            "forward, in all": _operations(cost["forward_flops"]),
            "training step": _operations(cost["training_flops"]),
            "kept for the backward pass": _bytes(cost["activation_bytes"]),
        }
        _section(out, f"Cost of one sentence of {cost['tokens']} tokens", rows)
    for what, names in (("Unknown keys", found["unknown_keys"]), ("Unknown weights", found["unknown_tensors"])):
        if names:
            _section(out, what, dict.fromkeys(names, ""))
    if "tensors" in found:
        _section(out, "Weights", {name: f"{tuple(shape)} {dtype}" for name, (shape, dtype) in found["tensors"].items()})


def _section(out: "Console", title: str, rows: dict[str, Any]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    for name, value in rows.items():
        table.add_row(Text(f"  {name}"), Text(str(value)))
    out.print(Text(title, style="bold"))
    out.print(table)


def _plain(value: Any) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= 100 else text[:97] + "..."


def _bytes(size: int) -> str:
    value = float(size)
    for unit in ("B", "KB", "MB", "GB"):
        if value < 1024 or unit == "GB":
            break
        value /= 1024
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"


def _operations(count: int) -> str:
    value = float(count)
    for unit in ("FLOP", "KFLOP", "MFLOP", "GFLOP", "TFLOP"):
        if value < 1000 or unit == "TFLOP":
            break
        value /= 1000
    return f"{value:.2f} {unit}"
