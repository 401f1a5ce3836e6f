"""How a task appears on the command line: its names and options, declared in the `__init__` of the task's folder.

Nothing here, nor in those folders' `__init__`, imports Keras: the command line reads them to answer `--help`.
"""

import importlib
import pkgutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qingformer.tasks.task import Task

DATA, START, TASKS, LEARN = "Which part of the file is what", "What to start from", "Structured tasks", "How to learn"


@dataclass(frozen=True)
class Option:
    """An option of one or several verbs; the same object stands wherever two tasks or verbs share it.

    Args:
        name: of the parameter, "text_column"; the flag follows from it unless `flags` says otherwise.
        kind: `str`, `int`, `float`, `bool`, `Path` or `list[str]`, what the value is.
        help: in rich markup; the default in `[dim]` where it depends on other options.
        panel: heading in `--help`.
        default: None where the task or the reader decides.
        flags: as written, such as "--all/--best".
        least, most: bounds of a number.
        splits: the value is names with commas between them.
        argument: the argument of the task's constructor that it is; None for options of the reader and of methods.
    """

    name: str
    kind: Any
    help: str
    panel: str | None = None
    default: Any = None
    flags: tuple[str, ...] = ()
    least: float | None = None
    most: float | None = None
    splits: bool = False
    argument: str | None = None
    required: bool = False
    shows_default: bool = True

    @property
    def flag(self) -> str:
        """The option as it is written."""
        return self.flags[0].split("/")[0] if self.flags else "--" + self.name.replace("_", "-")

    def is_given(self, values: Mapping[str, Any]) -> bool:
        """Whether the values of a command line hold another one than the default."""
        return bool(values.get(self.name, self.default) != self.default)


@dataclass(frozen=True)
class TaskEntry:
    """A value of `--task`: the class behind it, and what it adds to the verbs.

    Args:
        name: the value.
        location: module and class, imported when the task runs.
        task_name: the name in `task.json`.
        summary: of the data, for `--help`.
        train, evaluate, predict: the options by verb.
        fixed: settings that come with the name; they also tell entries of one class apart when a model is read.
        max_length: of `train` unless it is given.
        unit: what bars count.
        formats: of `predict --output-format`; the first is the usual one.
        coloured: whether predictions can be shown in the text itself.
        echoed: fields of the input that a prediction repeats.
        examples: by verb, lines for `--help`: what they do, and the command.
    """

    name: str
    location: str
    task_name: str
    summary: str
    train: Sequence[Option] = ()
    evaluate: Sequence[Option] = ()
    predict: Sequence[Option] = ()
    fixed: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    max_length: int = 128
    unit: str = "texts"
    formats: tuple[str, ...] = ("jsonl",)
    coloured: bool = False
    echoed: tuple[str, ...] = ("text",)
    examples: Mapping[str, Sequence[tuple[str, str]]] = field(default_factory=lambda: MappingProxyType({}))
    order: int = 100  # of the entries in `--help`

    def task_class(self) -> "type[Task]":
        """The class, imported now."""
        module, name = self.location.split(":")
        found: type[Task] = getattr(importlib.import_module(module), name)
        return found

    def options(self, verb: str) -> Sequence[Option]:
        """Those of "train", "evaluate" or "predict"."""
        found: Sequence[Option] = getattr(self, verb)
        return found

    def constructor_arguments(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments of the class among the values of a command line, with those that come with the name."""
        given = {each.argument: values[each.name] for each in self.train if each.argument and each.is_given(values)}
        return {**given, **self.fixed}

    def fits(self, settings: Mapping[str, Any]) -> bool:
        """Whether the settings in a `task.json` are of this entry."""
        same = all(settings.get(key) == value for key, value in self.fixed.items())
        return same and settings.get("task") == self.task_name


@cache
def task_entries() -> dict[str, TaskEntry]:
    """Every entry by its name: those of the folders beside this file."""
    found = []
    # Found by looking, so that a further task is a folder and no line anywhere else.
    for folder in pkgutil.iter_modules([str(Path(__file__).parent)]):
        if folder.ispkg:
            found += importlib.import_module(f"qingformer.tasks.{folder.name}").ENTRIES
    return {entry.name: entry for entry in sorted(found, key=lambda entry: entry.order)}


def saved_entry(settings: Mapping[str, Any]) -> TaskEntry | None:
    """The entry of a saved task by the settings in its `task.json`; the one that fixes most of them."""
    # Word segmentation is tagging with fixed settings, so its models fit both entries; the one that fixes more is
    # meant.
    fitting = [entry for entry in task_entries().values() if entry.fits(settings)]
    return max(fitting, key=lambda entry: len(entry.fixed), default=None)


# --- options of several tasks -----------------------------------------------------------------------------------------

TEXT_COLUMN = Option(
    "text_column", str,
    "Field with the text; for ner and cws the number of the column of tokens, from 1. "
    "[dim]Found by itself: text, sentence, sentence1, ...[/dim]", DATA,
)  # fmt: skip
PAIR_COLUMN = Option("pair_column", str, "Field with the second text, for tasks on pairs.", DATA)
LABEL_COLUMN = Option(
    "label_column", str,
    "Field with the label; for ner and cws the number of the column of tags, -1 the last. "
    "[dim]Found by itself: label, labels, ...[/dim]", DATA,
)  # fmt: skip
FORMAT = Option(
    "format", str,
    "jsonl, json, csv or tsv; for ner and cws bio, json, csv, words, brat or text. "
    "[dim]By the file's ending if not given (.gz and .xz too), for ner by its first lines.[/dim]", DATA,
)  # fmt: skip
COLUMNS = Option(
    "columns", str, "Names for a CSV or TSV file without header line: text,label or text,pair,label.", DATA, splits=True
)
ENCODING = Option("encoding", str, "Of the file, such as gb18030.", DATA, "utf-8")
QUOTING = Option(
    "quoting", bool, 'Whether " encloses fields. [dim]In CSV yes, in TSV no.[/dim]', DATA, shows_default=False
)
SKIP_EMPTY = Option("skip_empty", bool, "Leave out rows without a text.", DATA, False, ("--skip-empty",))
MULTI_LABEL = Option(
    "multi_label", bool, "A text has any number of labels: a list, or a,b,c in a table.", DATA, False,
    ("--multi-label",), argument="multi_label",
)  # fmt: skip
LABELS = Option(
    "labels", str,
    "All labels, a,b,c; those that only held-out data have too. [dim]Found in the training data.[/dim]", DATA,
    splits=True, argument="labels",
)  # fmt: skip
LABEL_SEPARATOR = Option(
    "label_separator", str,
    "What divides several labels in a cell: any of these characters, or a word. [dim]A comma.[/dim]", DATA,
    shows_default=False,
)  # fmt: skip
NO_LABEL = Option(
    "no_label", str, 'A value that means "no label", such as - ; rows with it are left out.', DATA, shows_default=False
)
SKIP_UNLABELLED = Option(
    "skip_unlabelled", bool, "Leave out rows without a label.", DATA, False, ("--skip-unlabelled",)
)
STRICT = Option(
    "strict", bool,
    "An impossible row of tags, or a triple whose names are not in its text, is an error. "
    "[dim]Else it is repaired or left out, and noted.[/dim]", DATA, False, ("--strict/--no-strict",),
    shows_default=False,
)  # fmt: skip
STRIDE = Option(
    "stride", int,
    "ner, cws, relations, reading: tokens that the windows of a long text share. [dim]16, reading 128[/dim]", TASKS,
    least=0, argument="stride",
)  # fmt: skip
