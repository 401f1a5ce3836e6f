"""From what a user has - a file, tuples, dictionaries - to examples that remember where they came from."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qingformer.data import TextExample, read_classification
from qingformer.errors import DataError


@dataclass(frozen=True)
class Columns:
    """Which field of a row is what; what is None is found by the names that public data sets use.

    `names` are the fields of a CSV or TSV file without a header line, `format` is that of the file where its ending
    does not tell, and `separator` divides several labels in one cell of a table. `encoding`, `quoting` and `skip_empty`
    are those of `qingformer.data.read_classification`.
    """

    text: str | None = None
    pair: str | None = None
    label: str | None = None
    names: Sequence[str] | None = None
    format: str | None = None
    separator: str = ","
    encoding: str = "utf-8"
    quoting: bool | None = None
    skip_empty: bool = False


@dataclass(frozen=True)
class Examples(Sequence[TextExample]):
    """Examples and the name of their source, for messages such as `dev.jsonl, line 17`."""

    name: str
    items: list[TextExample] = field(repr=False)
    is_file: bool

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: Any) -> Any:
        return self.items[index]

    def where(self, example: TextExample) -> str:
        """The place of `example` in words."""
        return f"{self.name}, {'line' if self.is_file else 'item'} {example.line}"


def read_examples(
    source: Any, columns: Columns | None = None, *, name: str = "data", multi_label: bool = False, labelled: bool = True
) -> Examples:
    """Read `source` whole: a path, or a sequence of texts, tuples or dictionaries.

    A tuple is `(text, label)` or `(text, pair, label)`; without labels it is `(text,)` or `(text, pair)`. A dictionary
    has the fields "text", "pair" and "label", or those that `columns` names. Labels are kept as text, so 3 is "3".

    Raises:
        DataError: the file cannot be read, a field is missing or not text, or there is not a single example.
    """
    columns = columns or Columns()
    if isinstance(source, str | os.PathLike):
        shown = "standard input" if str(source) == "-" else str(source)
        return Examples(shown, list(_from_file(Path(source), columns, multi_label, labelled)), True)
    if not isinstance(source, Iterable):
        raise DataError(f"{name}: expected a path or a sequence of examples, got {type(source).__name__}")
    items = [_from_row(row, line, name, columns, labelled) for line, row in enumerate(source, start=1)]
    if not items:
        raise DataError(f"{name}: no examples in it; expected at least one")
    return Examples(name, items, False)


def _from_file(path: Path, columns: Columns, multi_label: bool, labelled: bool) -> Iterator[TextExample]:
    return read_classification(
        path,
        text_column=columns.text,
        pair_column=columns.pair,
        label_column=columns.label if labelled else False,
        label_separator=columns.separator if multi_label and labelled else None,
        require_labels=labelled,
        format=columns.format,
        columns=columns.names,
        encoding=columns.encoding,
        quoting=columns.quoting,
        skip_empty=columns.skip_empty,
    )


def _from_row(row: Any, item: int, name: str, columns: Columns, labelled: bool) -> TextExample:
    where = f"{name}, item {item}"
    if isinstance(row, TextExample):
        return row
    if isinstance(row, str):
        row = (row,)
    if isinstance(row, Mapping):
        text, pair, label = _from_fields(row, columns, labelled, where)
    elif isinstance(row, tuple | list):
        text, pair, label = _from_tuple(row, labelled, where)
    else:
        raise DataError(f"{where}: expected a tuple or a dictionary, got {type(row).__name__}")
    for part, value in (("text", text), ("pair", pair)):
        if not isinstance(value, str) and not (part == "pair" and value is None):
            raise DataError(f"{where}: the {part} is {value!r}, which is not text; give a string")
    return TextExample(text, pair, _labels(label, where) if labelled else None, line=item)


def _from_tuple(row: Sequence[Any], labelled: bool, where: str) -> tuple[Any, Any, Any]:
    values = list(row) if labelled else [*row, None]
    if len(values) == 2:
        return values[0], None, values[1]
    if len(values) == 3:
        return values[0], values[1], values[2]
    shape = "(text, label) or (text, pair, label)" if labelled else "a text or (text, pair)"
    raise DataError(f"{where}: expected {shape}, got {len(row)} values")


def _from_fields(row: Mapping[str, Any], columns: Columns, labelled: bool, where: str) -> tuple[Any, Any, Any]:
    text, pair, label = columns.text or "text", columns.pair or "pair", columns.label or "label"
    wanted = [text] + [pair] * (columns.pair is not None) + [label] * labelled
    for column in wanted:
        if column not in row:
            listed = ", ".join(map(str, row)) or "none"
            raise DataError(
                f"{where}: no field {column!r}; there are: {listed}; name the fields with columns=Columns(...)"
            )
    return row[text], row.get(pair), row[label] if labelled else None


def _labels(value: Any, where: str) -> tuple[str, ...]:
    values = list(value) if isinstance(value, list | tuple | set | frozenset) else [value]
    for one in values:
        if not isinstance(one, str | int | float) or one == "":
            raise DataError(f"{where}: the label is {one!r}; expected a word or a number, or a list of them")
    return tuple(dict.fromkeys(str(one) for one in values))
