"""From what a user has - a file, tuples, dictionaries - to examples that remember where they came from."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from qingformer.data import TextExample, read_classification
from qingformer.data.cells import quoted, split_labels
from qingformer.data.columns import ClassificationColumns
from qingformer.data.example_rows import ExampleMaker
from qingformer.data.recognition import naming_other_tasks
from qingformer.data.tables import is_table, rows_of
from qingformer.errors import ConfigError, DataError
from qingformer.types import Values

JOINERS = "#,，;；|｜、/&+ \t"  # what export tools and people put between several labels
COMMAS = ",，"
INPUTS = ("", "texts", "pairs", "mixed")  # what a classifier was trained on; nothing if not known


@dataclass(frozen=True)
class Columns:
    """Which field of a row is what; what is None is found by the names that public data sets use.

    `names` are the fields of a CSV or TSV file without a header line, `format` is that of the file where its ending
    does not tell. `separator` divides several labels in one cell of a table: each of its characters does, or the whole
    of it if it has letters or digits; None stands for a comma, Western or Chinese. `no_label` is a value, or several,
    that means "no label", such as "-"; rows with it are left out, and so are rows without a label with
    `skip_unlabelled`, and without a text with `skip_empty`. `encoding` and `quoting` are those of
    `qingformer.data.read_classification`.
    """

    text: str | None = None
    pair: str | None = None
    label: str | None = None
    names: Sequence[str] | None = None
    format: str | None = None
    separator: str | None = None
    encoding: str = "utf-8"
    quoting: bool | None = None
    skip_empty: bool = False
    no_label: str | Sequence[str] = ()
    skip_unlabelled: bool = False

    @property
    def nothing(self) -> tuple[Any, ...]:
        """The values that mean "no label"."""
        return tuple(self.no_label) if isinstance(self.no_label, list | tuple) else (self.no_label,)


@dataclass(frozen=True)
class Examples(Sequence[TextExample]):
    """Examples, the name of their source for messages such as `dev.jsonl, line 17`, and notes on what was left out."""

    name: str
    items: list[TextExample] = field(repr=False)
    is_file: bool
    notes: list[str] = field(default_factory=list, repr=False)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: Any) -> Any:
        return self.items[index]

    def where(self, example: TextExample) -> str:
        """The place of `example` in words."""
        return f"{self.name}, {'line' if self.is_file else 'item'} {example.line}"


def columns_of(values: Values) -> Columns:
    """The columns that the options of a command line name."""
    return Columns(
        values["text_column"], values["pair_column"], values.get("label_column"), values["columns"], values["format"],
        encoding=values["encoding"], quoting=values["quoting"], skip_empty=values["skip_empty"],
        separator=values.get("label_separator"),
        no_label=() if values.get("no_label") is None else values["no_label"],
        skip_unlabelled=values.get("skip_unlabelled", False),
    )  # fmt: skip


def read_examples(
    source: object,
    columns: Columns | None = None,
    *,
    name: str = "data",
    multi_label: bool = False,
    labelled: bool = True,
) -> Examples:
    """Read `source` whole: a path, a sequence of texts, tuples or dictionaries, a table, or a dictionary of columns.

    A tuple is `(text, label)` or `(text, pair, label)`; without labels it is `(text,)` or `(text, pair)`. The fields of
    a dictionary or a table are found by their usual names ("text", "pair", "label"), or are those that `columns` names.
    Labels are kept as text, so 3 is "3", and so are 3.0 and NumPy's 3.

    Raises:
        DataError: the file cannot be read, a field is missing or not text, or there is not a single example.
    """
    columns = columns or Columns()
    if not isinstance(columns, Columns):
        raise ConfigError(f"columns is {quoted(columns)}; give qingformer.tasks.Columns(text='...', label='...')")
    if isinstance(source, str | os.PathLike):
        with naming_other_tasks(source, "classification", columns.encoding):
            found = _from_file(source, columns, multi_label, labelled)
    else:
        found = _from_memory(source, columns, name, multi_label, labelled)
    if multi_label and labelled and columns.separator is None:
        _check_joined(found)
    return found


def inputs_of(examples: Sequence[TextExample]) -> str:
    """Whether examples are single texts, pairs of texts, or both: a value of `INPUTS`."""
    pairs = sum(example.pair is not None for example in examples)
    return "texts" if not pairs else "pairs" if pairs == len(examples) else "mixed"


def check_inputs(inputs: str) -> str:
    """`inputs` if it is one of `INPUTS`. Errors: `ConfigError`."""
    if inputs not in INPUTS:
        raise ConfigError(f"inputs is {quoted(inputs)}; choose one of texts, pairs, mixed, or leave it out")
    return inputs


def refuse_other_inputs(examples: Examples, inputs: str) -> None:
    """Refuse texts where a model was trained on pairs, and pairs where it was trained on texts.

    Raises:
        DataError: names the first such row.
    """
    for example in examples:
        if inputs == "pairs" and example.pair is None:
            raise DataError(
                f"{examples.where(example)}: one text, but this model was trained on pairs; give (text, pair), "
                "or name the column of the second text with pair_column="
            )
        if inputs == "texts" and example.pair is not None:
            raise DataError(
                f"{examples.where(example)}: a pair of texts, but this model was trained on single texts; give rows "
                "with one text, joined as in its training data"
            )


def _from_file(path: str | os.PathLike[str], columns: Columns, multi_label: bool, labelled: bool) -> Examples:
    notes: list[str] = []
    items = read_classification(
        path,
        text_column=columns.text,
        pair_column=columns.pair,
        label_column=columns.label if labelled else False,
        label_separator=(columns.separator or COMMAS) if multi_label and labelled else None,
        require_labels=labelled,
        format=columns.format,
        columns=columns.names,
        encoding=columns.encoding,
        quoting=columns.quoting,
        skip_empty=columns.skip_empty,
        no_label=columns.nothing if labelled else (),
        skip_unlabelled=columns.skip_unlabelled and labelled,
        notes=notes,
    )
    shown = "standard input" if str(path) == "-" else str(path)
    return Examples(shown, list(items), True, notes)


def _from_memory(source: object, columns: Columns, name: str, multi_label: bool, labelled: bool) -> Examples:
    separator = columns.separator or (COMMAS if is_table(source) else None)
    maker = ExampleMaker(
        name, "item", (columns.text, columns.pair, columns.label if labelled else False, None, None),
        separator=separator if multi_label and labelled else None, several=multi_label, require=labelled,
        skip_empty=columns.skip_empty, no_label=columns.nothing if labelled else (),
        skip_unlabelled=columns.skip_unlabelled and labelled,
    )  # fmt: skip
    items = []
    for number, row in enumerate(rows_of(source, name), start=1):
        example = row if isinstance(row, TextExample) else _from_row(maker, row, number, labelled)
        if example is not None:
            items.append(example)
    if not items:
        raise DataError(
            maker.nothing_left() if maker.left_out.total else f"{name}: no examples in it; expected at least one"
        )
    return Examples(name, items, False, maker.left_out.notes())


def _from_row(maker: ExampleMaker, row: object, number: int, labelled: bool) -> TextExample | None:
    where = f"{maker.name}, item {number}"
    if isinstance(row, Mapping):
        return maker.example(row, number)
    if isinstance(row, str):
        row = (row,)
    if getattr(row, "ndim", 0) == 1 and hasattr(row, "tolist"):
        row = row.tolist()
    if not isinstance(row, tuple | list):
        raise DataError(f"{where}: expected a tuple or a dictionary, got {type(row).__name__} ({quoted(row)})")
    # Without labels (text,) and (text, pair) are brought to the shape that labelled rows have.
    values = list(row) if labelled else [*row, None]
    if not 2 <= len(values) <= 3:
        shape = "(text, label) or (text, pair, label)" if labelled else "a text or (text, pair)"
        raise DataError(f"{where}: expected {shape}, got {len(row)} value{'s' * (len(row) != 1)}")
    fields = {"text": values[0], "pair": values[1] if len(values) == 3 else None, "label": values[-1]}
    return maker.example(fields, number, ClassificationColumns("text", "pair", "label" if labelled else None))


def _check_joined(examples: Examples) -> None:
    """Refuse labels such as "a#b" where "a" and "b" are labels too and nobody said what divides labels."""
    known = {label for example in examples for label in example.labels or ()}
    for example in examples:
        for label in example.labels or ():
            for joiner in JOINERS:
                parts = list(split_labels(label, joiner)) if joiner in label else []
                if len(parts) > 1 and known.issuperset(parts):
                    raise DataError(
                        f"{examples.where(example)}: the label {quoted(label)} looks like several "
                        f"({quoted(parts[0])} and {quoted(parts[1])} are labels too); divide them with "
                        f"separator= '{joiner}', or with another character if it is one label"
                    )
