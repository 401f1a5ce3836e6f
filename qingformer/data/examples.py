"""Labelled texts and text pairs from any table of them."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from qingformer.data.readers import Column, Path, Row, read_rows
from qingformer.errors import DataError

TEXT_COLUMNS = (
    "text",
    "sentence",
    "sentence1",
    "text_a",
    "text1",
    "text_1",
    "sentence_a",
    "content",
    "review",
    "comment",
    "query",
    "question",
    "question1",
    "title",
    "abstract",
    "premise",
    "utterance",
)
LABEL_COLUMNS = (
    "label",
    "labels",
    "label_desc",
    "label_des",
    "category",
    "categories",
    "cat",
    "tag",
    "tags",
    "class",
    "intent",
    "sentiment",
    "target",
    "topic",
)
PAIRS = {
    "text": ("pair", "text_pair", "text2"),
    "sentence": ("sentence2",),
    "sentence1": ("sentence2",),
    "text_a": ("text_b",),
    "text1": ("text2",),
    "text_1": ("text_2",),
    "sentence_a": ("sentence_b",),
    "query": ("title",),
    "question": ("question2",),
    "question1": ("question2",),
    "premise": ("hypothesis",),
}

Wanted = tuple[Column | Literal[False] | None, ...]


@dataclass(frozen=True, slots=True)
class TextExample:
    """A text, or a pair of texts, and its labels: None if unlabelled, empty if none of several applies."""

    text: str
    pair: str | None = None
    labels: tuple[str, ...] | None = None
    weight: float = 1.0
    line: int = 0

    @property
    def label(self) -> str | None:
        """The only label; None if unlabelled. Raises `DataError` if there are none or several."""
        if self.labels is None:
            return None
        if len(self.labels) != 1:
            raise DataError(
                f"line {self.line}: {len(self.labels)} labels ({', '.join(self.labels)}) where one is "
                "expected; train with multi-label switched on"
            )
        return self.labels[0]


@dataclass(frozen=True, slots=True)
class ClassificationColumns:
    """Which column of a file holds what; None where there is none."""

    text: Column
    pair: Column | None
    label: Column | None
    weight: Column | None
    group: Column | None


def read_classification(
    path: Path,
    *,
    text_column: Column | None = None,
    pair_column: Column | Literal[False] | None = None,
    label_column: Column | Literal[False] | None = None,
    weight_column: Column | None = None,
    group_column: Column | None = None,
    label_separator: str | None = None,
    require_labels: bool = False,
    skip_empty: bool = False,
    format: str | None = None,
    columns: Sequence[str] | None = None,
    header: bool | None = None,
    encoding: str = "utf-8",
    quoting: bool | None = None,
) -> Iterator[TextExample]:
    """Stream the examples of a file for single- or multi-label classification of texts or text pairs.

    Args:
        path, format, columns, encoding, quoting: as in `read_rows`.
        text_column, pair_column, label_column: names or positions (from 0). If None they are found by their usual names
            (`TEXT_COLUMNS`, `PAIRS`, `LABEL_COLUMNS`); False switches pair or label off.
        weight_column: column of example weights, numbers not below 0.
        group_column: rows with the same value here are one example with the labels of all of them (multi-label); the
            file is then read whole before the first example comes.
        label_separator: splits a label column into several labels. A JSON list is several labels anyway.
        require_labels: whether a row without a label is an error; otherwise its `labels` are None.
        skip_empty: whether to leave out rows whose text is empty instead of raising an error.
        header: whether a CSV or TSV file has a line of names; if None, it does if that line holds a usual name.

    Raises `DataError` naming file, line, column and remedy: whatever `read_rows` raises; a column that is not there;
    a text that is missing, empty or not a string; a label or weight that cannot be one; no rows.

    >>> import tempfile, pathlib
    >>> file = pathlib.Path(tempfile.mkdtemp(), "train.tsv")
    >>> _ = file.write_text("放首歌\\t音乐\\n明天有雨吗\\t天气\\n", encoding="utf-8")
    >>> [(example.text, example.label) for example in read_classification(file, columns=["text", "label"])]
    [('放首歌', '音乐'), ('明天有雨吗', '天气')]
    """
    wanted = (text_column, pair_column, label_column, weight_column, group_column)
    looks: bool | Callable[[Sequence[str]], bool] | None = header
    if header is None and columns is None:
        looks = _header_detector(wanted)
    rows = read_rows(path, format, columns=columns, header=looks, encoding=encoding, quoting=quoting)
    examples = _examples(path, rows, wanted, label_separator, require_labels, skip_empty)
    return (example for _, example in examples) if group_column is None else _merged(path, examples)


def _header_detector(wanted: Wanted) -> Callable[[Sequence[str]], bool]:
    """A line is taken for names if one of them is usual or asked for, or if nothing says that positions are meant."""
    usual = {*TEXT_COLUMNS, *LABEL_COLUMNS, *(name for names in PAIRS.values() for name in names)}
    given = [column for column in wanted if column is not None and column is not False]
    if not all(str(column).isdigit() for column in given):
        return lambda fields: True
    return lambda fields: not given or any(field.strip().lower() in usual for field in fields)


def _examples(
    path: Path, rows: Iterator[Row], wanted: Wanted, separator: str | None, require: bool, skip: bool
) -> Iterator[tuple[Any, TextExample]]:
    found, count = None, 0
    for row in rows:
        found = found or find_columns(path, row, wanted, require)
        text = _text(path, row, found.text, skip)
        if text is None:
            continue
        pair = None if found.pair is None else _text(path, row, found.pair, skip)
        if found.pair is not None and pair is None:
            continue
        labels = _labels(path, row, found.label, separator, require)
        count += 1
        group = None if found.group is None else row.values.get(found.group)
        yield group, TextExample(text, pair, labels, _weight(path, row, found.weight), row.line)
    if not count:
        raise DataError(f"{path}: no rows with a text; give a file with at least one")


def find_columns(path: Path, row: Row, wanted: Wanted, require_labels: bool = False) -> ClassificationColumns:
    """Say which columns of a file hold what, from its first row; raises `DataError` that lists the columns there are.

    >>> find_columns("a.jsonl", Row({"sentence": "放首歌", "label": "音乐"}, 1), (None,) * 5).label
    'label'
    """
    names = {str(name).strip().lower(): name for name in row.values}
    text, pair, label, weight, group = (_given(path, row, column) for column in wanted)
    if text is None:
        text = next((names[name] for name in TEXT_COLUMNS if name in names and names[name] != label), None)
        if text is None:
            raise DataError(
                f"{path}, line {row.line}: no column has a usual name for a text (there are "
                f"{_listed(row)}); name it with text_column=, or name all with columns= if the file "
                "has no header"
            )
    if pair is None and wanted[1] is None:
        partners = PAIRS.get(str(text).strip().lower(), ())
        pair = next((names[name] for name in partners if name in names and names[name] != label), None)
    if label is None and wanted[2] is None:
        label = next((names[name] for name in LABEL_COLUMNS if name in names and names[name] not in (text, pair)), None)
        if label is None and require_labels:
            raise DataError(
                f"{path}, line {row.line}: no column has a usual name for a label (there are "
                f"{_listed(row)}); name it with label_column="
            )
    return ClassificationColumns(text, pair, label, weight, group)


def _given(path: Path, row: Row, column: Column | Literal[False] | None) -> Column | None:
    """The column that was asked for, by name or by position."""
    if column is None or column is False:
        return None
    if column in row.values:
        return column
    names = list(row.values)
    if str(column).isdigit() and int(column) < len(names):
        return names[int(column)]
    raise DataError(f"{path}, line {row.line}: no column {column!r}; there are {_listed(row)}")


def _listed(row: Row) -> str:
    names = [str(name) for name in row.values]
    return ", ".join(f"{name[:20]}..." if len(name) > 24 else name for name in names)


def _text(path: Path, row: Row, column: Column, skip_empty: bool) -> str | None:
    value = row.values.get(column)
    place = f"{path}, line {row.line}, column {column!r}"
    if isinstance(value, str) and value.strip():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise DataError(f"{place}: holds half of a character (a lone surrogate); write the whole one") from None
        return value
    if skip_empty and (value is None or isinstance(value, str)):
        return None
    if value is None or isinstance(value, str):
        state = "is missing" if column not in row.values else "is empty"
        raise DataError(f"{place}: the text {state}; fill it in, or leave such rows out with skip_empty")
    raise DataError(f"{place}: expected a text in quotes, found {type(value).__name__}; correct the file or the column")


def _labels(
    path: Path, row: Row, column: Column | None, separator: str | None, require: bool
) -> tuple[str, ...] | None:
    value = None if column is None else row.values.get(column)
    if value is None or (value == "" and separator is None):
        if require:
            raise DataError(f"{path}, line {row.line}, column {column!r}: no label; fill it in or remove the row")
        return None
    if isinstance(value, str) and separator is not None:
        value = [part.strip() for part in value.split(separator) if part.strip()]
    values = value if isinstance(value, list) else [value]
    if not all(isinstance(one, str | int | float) for one in values):
        raise DataError(
            f"{path}, line {row.line}, column {column!r}: expected a label or a list of labels, found "
            f"{type(value).__name__}; write a string, a number, or a list of them"
        )
    return tuple(dict.fromkeys(str(one) for one in values))


def _weight(path: Path, row: Row, column: Column | None) -> float:
    if column is None:
        return 1.0
    try:
        weight = float(row.values[column])
    except (KeyError, TypeError, ValueError):
        weight = math.nan
    if not 0 <= weight < math.inf:
        raise DataError(
            f"{path}, line {row.line}, column {column!r}: expected a weight, a number not below 0, "
            f"found {row.values.get(column)!r}"
        )
    return weight


def _merged(path: Path, examples: Iterator[tuple[Any, TextExample]]) -> Iterator[TextExample]:
    """One example for each group, in order of first appearance, with the labels of all its rows."""
    groups: dict[Any, TextExample] = {}
    for group, example in examples:
        first = groups.setdefault(group, example)
        if (first.text, first.pair) != (example.text, example.pair):
            raise DataError(
                f"{path}, line {example.line}: group {group!r} has another text than on line {first.line}; "
                "give every text a group of its own"
            )
        labels = None if example.labels is None else tuple(dict.fromkeys((first.labels or ()) + example.labels))
        groups[group] = replace(first, labels=labels)
    yield from groups.values()
