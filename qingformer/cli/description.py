"""The work of `qingformer info`; imported only when it runs."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from qingformer.analysis import attention_thresholds, encoder_cost
from qingformer.cli.console import results
from qingformer.cli.roles import role_as_dict
from qingformer.cli.stored import Stored, inspect
from qingformer.json_files import read_json

if TYPE_CHECKING:
    from rich.console import Console


TITLES = {
    "missing": "Missing weights",
    "left_over": "Weights left over",
    "unknown_keys": "Unknown keys",
    "unknown_tensors": "Unknown weights",
}
THRESHOLDS = {
    "attention_exceeds_feed_forward": "attention costs more than the feed-forward part",
    "quadratic_exceeds_linear": "its quadratic part costs more than all else",
    "linear_attention_cheaper": "linear attention would mix values for less",
    "linear_attention_worthwhile": "it would with heads 4 times as wide, for equal quality",
}


def describe(source: str, length: int | None, *, family: str | None = None, tensors: bool = False) -> dict[str, Any]:
    """Everything `info` shows, as plain values."""
    stored = inspect(source, family)
    files = stored.files
    counts = stored.parameters()
    found: dict[str, Any] = {
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
        "quadratic_share": cost.quadratic_share,
        "activation_bytes": cost.activation_bytes,
        "thresholds": asdict(attention_thresholds(stored.config)),
    }


def print_description(found: dict[str, Any]) -> None:
    """The same as tables."""
    out = results()
    _section(out, "Model", {key: found[key] for key in ("source", "layout", "format", "family", "application", "role")})
    if found["heads"]:
        _section(out, "Heads", {head: role["summary"] for head, role in found["heads"].items()})
    if "task" in found:
        _section(out, "Task", {key: _plain(value) for key, value in found["task"].items()})
    _section(out, "Files", {name: _bytes(size) for name, size in found["files"].items()})
    _section(out, "Configuration", {key: _plain(value) for key, value in found["configuration"].items()})
    if found["parameters"]:
        _section(out, "Parameters", {name: f"{count:,}" for name, count in found["parameters"].items()})
    cost = found["cost"]
    if cost is None:
        reason = found["problem"] or "no configuration there, so no cost and no roles"
        out.print(reason, markup=False)
    else:
        rows = {name: _operations(count) for name, count in cost["by_part"].items() if count}
        rows |= {
            "forward, in all": _operations(cost["forward_flops"]),
            "of it growing with the square": f"{100 * cost['quadratic_share']:.1f} %",
            "training step": _operations(cost["training_flops"]),
            "kept for the backward pass": _bytes(cost["activation_bytes"]),
        }
        _section(out, f"Cost of one sentence of {cost['tokens']} tokens", rows)
        _section(out, "Lengths from which on", {THRESHOLDS[key]: _tokens(n) for key, n in cost["thresholds"].items()})
    for what in ("missing", "left_over", "unknown_keys", "unknown_tensors"):
        names = found[what]
        if names:
            _section(out, TITLES[what], dict.fromkeys(names, ""))
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


def _tokens(length: float | None) -> str:
    if length is None:
        return "there is no feed-forward part"
    return f"{length:,.0f} tokens" if length else "at any length"


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
