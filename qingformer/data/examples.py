"""Labelled texts and text pairs from any table of them."""

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Literal

from qingformer.data.cells import plain, quoted
from qingformer.data.columns import Column, header_detector
from qingformer.data.example_rows import ExampleMaker
from qingformer.data.example_rows import TextExample as TextExample
from qingformer.data.readers import BlankLines, Path, Row, read_rows
from qingformer.errors import DataError


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
    no_label: Sequence[str] = (),
    skip_unlabelled: bool = False,
    notes: list[str] | None = None,
) -> Iterator[TextExample]:
    """Stream the examples of a file for single- or multi-label classification of texts or text pairs.

    Args:
        path, format, columns, encoding, quoting: as in `read_rows`.
        text_column, pair_column, label_column: names or positions (from 0). If None they are found by their usual names
            (`TEXT_COLUMNS`, `PAIRS`, `LABEL_COLUMNS`); False switches pair or label off.
        weight_column: column of example weights, numbers not below 0.
        group_column: rows with the same value here are one example with the labels of all of them (multi-label); the
            file is then read whole before the first example comes.
        label_separator: divides the labels in a cell: each of its characters does, or the whole of it if it has letters
            or digits. None for one label a cell. A JSON list is several labels anyway.
        require_labels: whether a row without a label (nothing, blank, NaN, an empty list where a text has one) is an
            error; otherwise its `labels` are None.
        skip_empty: whether to leave out rows whose text is empty instead of raising an error.
        header: whether a CSV or TSV file has a line of names; if None, it does if that line holds a usual name, and
            with `columns` such a line is left out.
        no_label: values that mean that a row has no label, such as "-" in OCNLI; these rows are left out.
        skip_unlabelled: whether to leave out rows without a label.
        notes: a list to which sentences about rows that were left out are added at the end.

    Labels lose the space around them, and a number has one spelling: 1, 1.0 and "1.0" are the label "1".

    Raises `DataError` naming file, line, column and remedy: whatever `read_rows` raises; a column that is not there;
    a text that is missing, empty or not a string; a label or weight that cannot be one; no rows.

    >>> import tempfile, pathlib
    >>> file = pathlib.Path(tempfile.mkdtemp(), "train.tsv")
    >>> _ = file.write_text("放首歌\\t音乐\\n明天有雨吗\\t天气\\n", encoding="utf-8")
    >>> [(example.text, example.label) for example in read_classification(file, columns=["text", "label"])]
    [('放首歌', '音乐'), ('明天有雨吗', '天气')]
    """
    wanted = (text_column, pair_column, label_column, weight_column, group_column)
    looks = header_detector(wanted) if header is None and columns is None else header
    blanks = BlankLines()
    rows = read_rows(path, format, columns=columns, header=looks, encoding=encoding, quoting=quoting, blanks=blanks)
    maker = ExampleMaker(
        str(path), "line", wanted, separator=label_separator, several=label_separator is not None or not require_labels,
        require=require_labels, skip_empty=skip_empty, no_label=tuple(no_label), skip_unlabelled=skip_unlabelled,
        named=columns is not None and header is None,
    )  # fmt: skip
    examples = _examples(maker, rows, notes, blanks)
    return (example for _, example in examples) if group_column is None else _merged(path, examples)


def _examples(
    maker: ExampleMaker, rows: Iterator[Row], notes: list[str] | None, blanks: BlankLines
) -> Iterator[tuple[Any, TextExample]]:
    count = 0
    for row in rows:
        example = maker.example(row.values, row.line)
        if example is not None:
            assert maker.found is not None
            count += 1
            group = None if maker.found.group is None else plain(row.values.get(maker.found.group))
            if not isinstance(group, Hashable):
                raise DataError(
                    f"{maker.name}, line {row.line}: the group is {type(group).__name__}; expected a word or a number"
                )
            yield group, example
    if notes is not None:
        notes += maker.left_out.notes()
        if maker.wanted[2] is False:  # for predictions, which someone will lay beside the lines
            notes += blanks.notes()
    if not count:
        raise DataError(maker.nothing_left())


def _merged(path: Path, examples: Iterator[tuple[Any, TextExample]]) -> Iterator[TextExample]:
    """One example for each group, in order of first appearance, with the labels of all its rows."""
    groups: dict[Any, TextExample] = {}
    for group, example in examples:
        first = groups.setdefault(group, example)
        if (first.text, first.pair) != (example.text, example.pair):
            raise DataError(
                f"{path}, line {example.line}: group {quoted(group)} has another text than on line {first.line}; "
                "give every text a group of its own"
            )
        labels = None if example.labels is None else tuple(dict.fromkeys((first.labels or ()) + example.labels))
        groups[group] = replace(first, labels=labels)
    yield from groups.values()
