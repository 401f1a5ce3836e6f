"""The work of `qingformer convert` and the tables of `qingformer info`; imported only when they run."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qingformer.checkpoints.own_files import CONFIG, json_object
from qingformer.cli.console import note, results
from qingformer.cli.training import prepare
from qingformer.errors import CheckpointError, ConfigError
from qingformer.models.inspection import Stored, inspect
from qingformer.models.stored_roles import HEADS, NONE, head_options, heads_of
from qingformer.tasks.task_registry import BEST, TASK_FILE, load
from qingformer.tokenization import Tokenizer
from qingformer.training import whole_folder
from qingformer.types import Config

if TYPE_CHECKING:
    from rich.console import Console

AUTO = "auto"


def convert(
    source: str, target: Path, format: str, *, head: str, family: str | None, overwrite: bool, verify: bool = True
) -> None:
    """Load strictly, save, and print what happened to the weights."""
    if head not in (AUTO, *HEADS):
        raise ConfigError(f"--head is {head!r}; choose one of {AUTO}, {', '.join(HEADS)}")
    if target.exists() and not overwrite:
        raise ConfigError(f"{target}: is there already; choose another folder or replace it with --overwrite")
    if target.exists() and target.resolve() == Path(run_model(source)).resolve():
        raise ConfigError(f"{target}: is the source itself; choose another folder")
    began = time.perf_counter()
    prepare()
    stored = inspect(source, family, run_model(source))
    if head == AUTO and format == "huggingface" and (stored.files.directory / TASK_FILE).is_file():
        _convert_task(source, target, began)
        return
    kind = head_of(stored, head)
    options = {} if stored.config is None else {"family": stored.family, **head_options(kind, stored.config)}
    model = HEADS[kind].from_pretrained(run_model(source), verify=verify, **options)
    tokenizer = _tokenizer(stored, run_model(source))
    # Loading has refused weights that are not finite, unless --no-verify asked for them.
    model.save_pretrained(target, format=format, tokenizer=tokenizer, check_finite=verify)
    _print(model, stored, kind, target, format, time.perf_counter() - began)
    left = model.loading_report.head
    if left is not None:
        note(f"{source}: {left.described}: head and labels stay behind; the target holds the encoder")
    if tokenizer is None:
        note(f"{source}: no vocabulary there, so none was written; add vocab.txt to {target}")


def _convert_task(source: str, target: Path, began: float) -> None:
    """A saved task with its head and labels, as the class of `transformers` that computes the same."""
    task = load(source)
    try:
        task.save(target, format="huggingface")
    except ConfigError as problem:
        raise ConfigError(f"{problem}; --head none writes the encoder alone") from None
    name = json_object(target / CONFIG)["architectures"][0]
    results().print(
        f"{task.task_name} -> {name}: {task.parts().model.count_params():,} parameters, "
        f"{time.perf_counter() - began:.1f} s; written to {target}",
        markup=False,
    )


def run_model(source: str) -> str:
    """The model's folder where `source` is the output folder of `train`."""
    inner = whole_folder(Path(source) / BEST)
    return str(inner) if (inner / TASK_FILE).is_file() else source


def head_of(stored: Stored, head: str) -> str:
    """The head asked for, or the most that the stored weights can fill. Errors: `ConfigError` for another family's."""
    if head == AUTO:
        return stored.best.head if stored.best else NONE
    if stored.config is not None and head not in heads_of(stored.config.family):
        names = ", ".join((AUTO, *heads_of(stored.config.family)))
        raise ConfigError(f"--head {head}: the family {stored.family} has none; choose one of {names}")
    return head


def _tokenizer(stored: Stored, source: str) -> Tokenizer | None:
    return Tokenizer.from_pretrained(source) if stored.files.vocabulary is not None else None


def _print(model: Any, stored: Stored, kind: str, target: Path, format: str, seconds: float) -> None:
    report = model.loading_report
    if report is None:
        raise CheckpointError(f"{stored.files.directory}: nothing was loaded")
    from rich.table import Table

    table = Table("what", "count", "names", title=f"{stored.files.layout} -> {format}", title_justify="left")
    rows = [
        ("loaded", report.loaded),
        ("missing", report.missing),
        ("left over", report.left_over),
        ("unknown", report.unknown),
        ("resized", list(report.resized)),
    ]
    for name, names in rows:
        table.add_row(name, str(len(names)), "" if name == "loaded" else _first(names))
    size = sum(path.stat().st_size for path in target.iterdir())
    out = results()
    out.print(table)
    out.print(
        f"{model.config.family} with head {kind}: {model.count_params():,} parameters, {size / 2**20:.1f} MB, "
        f"{seconds:.1f} s; written to {target}",
        markup=False,
    )


def _first(names: list[str], most: int = 4) -> str:
    return ", ".join(names[:most]) + (f", ... ({len(names)})" if len(names) > most else "")


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


def print_description(found: Config) -> None:
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


def _section(out: "Console", title: str, rows: Config) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    for name, value in rows.items():
        table.add_row(Text(f"  {name}"), Text(str(value)))
    out.print(Text(title, style="bold"))
    out.print(table)


def _plain(value: object) -> str:
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
