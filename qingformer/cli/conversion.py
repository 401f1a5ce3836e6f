"""The work of `qingformer convert`; imported only when it runs."""

import time
from pathlib import Path
from typing import Any

from qingformer.checkpoints.own_files import CONFIG, json_object
from qingformer.cli.console import note, results
from qingformer.cli.roles import HEADS, NONE, head_options, heads_of
from qingformer.cli.running import prepare
from qingformer.cli.stored import Stored, inspect, run_model
from qingformer.errors import CheckpointError, ConfigError
from qingformer.tasks.task_registry import TASK_FILE, load
from qingformer.tokenization import Tokenizer

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
    stored = inspect(source, family)
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
