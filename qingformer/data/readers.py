"""Rows of JSONL, JSON, CSV, TSV and plain text files, as a stream of dictionaries with line numbers."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

from qingformer.data.cells import quoted, strip
from qingformer.data.csv_fields import look_at_header, quoted_records
from qingformer.data.guessing import guess_format, is_json_list
from qingformer.data.json_text import LinedText, elements, reason_of
from qingformer.data.text_lines import Path as Path
from qingformer.data.text_lines import bare_suffix, check_file, open_lines
from qingformer.errors import DataError
from qingformer.json_files import RefusedError, without_contradiction

Column = str | int
Lines = Iterator[tuple[int, str]]

# Lines by which the format of a file without a telling name is guessed.
_LOOKED_AT = 20
FORMATS = ("jsonl", "json", "csv", "tsv", "text")
_SUFFIXES = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".txt": "auto",
}


@dataclass(frozen=True, slots=True)
class Row:
    """One record: its `values` by column name (by position, from 0, in a table without names) and its first `line`."""

    values: dict[Column, Any]
    line: int


@dataclass(frozen=True, slots=True)
class TableOptions:
    """How a CSV or TSV file is laid out; see `read_rows`."""

    columns: tuple[str, ...] | None = None
    header: bool | Callable[[Sequence[str]], bool] = True
    quoting: bool | None = None


@dataclass(slots=True)
class BlankLines:
    """How many lines a file had and how many of them were blank, where every line is a row; filled in while reading."""

    lines: int = 0
    count: int = 0
    first: int = 0

    def counted(self, lines: Lines) -> Lines:
        """The `lines`, counted."""
        for number, line in lines:
            self.lines = number
            if not line.strip():
                self.first = self.first or number
                self.count += 1
            yield number, line

    def notes(self) -> list[str]:
        """A sentence, if there are any."""
        if not self.count:
            return []
        what = "blank lines were" if self.count > 1 else "blank line was"
        return [f"{self.count:,} {what} left out (first: line {self.first})"]


def read_rows(
    path: Path,
    format: str | None = None,
    *,
    columns: Sequence[str] | None = None,
    header: bool | Callable[[Sequence[str]], bool] | None = None,
    encoding: str = "utf-8",
    quoting: bool | None = None,
    blanks: BlankLines | None = None,
) -> Iterator[Row]:
    """Stream the rows of a data file; `path` may end in .gz, .xz or .bz2, and "-" is standard input.

    Args:
        format: "jsonl" (an object a line), "json" (a list, or an object a line), "csv", "tsv" or "text" (a text a line,
            column "text"); found from the suffix if None. Standard input and .txt files are looked into: JSON, a table
            with tabs if its columns are named, else text. Only a JSON list is read whole; everything else a line at a
            time.
        columns: names for the columns of a CSV or TSV file without a header line.
        header: whether the first line holds the names (by default: unless `columns` is given), or a function of its
            fields that decides. Without names the columns are 0, 1, 2, ...
        encoding: of the file. Every line is checked.
        blanks: is told how many lines there were, and how many of them blank, where each line is a row.
        quoting: whether `"` encloses fields. By default in CSV only: in TSV files of the field a `"` is a character.

    Raises `DataError` naming file, line and remedy: file missing, empty, damaged, truncated or badly encoded; unknown
    format; wrong JSON; a line with more or fewer fields than there are columns.

    >>> import tempfile, pathlib
    >>> file = pathlib.Path(tempfile.mkdtemp(), "pairs.tsv")
    >>> _ = file.write_text("今天天气\\t天气\\n", encoding="utf-8")
    >>> list(read_rows(file, columns=["text", "label"]))
    [Row(values={'text': '今天天气', 'label': '天气'}, line=1)]
    """
    check_file(path)
    chosen = format or _format_of(path)
    if chosen not in (*FORMATS, "auto"):
        raise DataError(f"{path}: format {chosen!r} is not known; choose one of {', '.join(FORMATS)}")
    if isinstance(columns, str):
        raise DataError(f"columns={columns!r}: pass a list of names, such as {columns.split(',')!r}")
    if columns is not None and len(set(columns)) < len(columns):
        raise DataError(f"columns={quoted(columns)}: two columns have the same name; give each its own")
    options = TableOptions(
        None if columns is None else tuple(columns),
        (columns is None) if header is None else header,
        quoting,
    )
    return _rows(path, chosen, options, encoding, blanks or BlankLines())


def _format_of(path: Path) -> str:
    if str(path) == "-":
        return "auto"
    suffix = bare_suffix(path)
    if suffix in (".xlsx", ".xls", ".ods"):
        raise DataError(f"{path}: is a workbook of a spreadsheet; save the sheet as CSV (UTF-8) and name that file")
    if suffix not in _SUFFIXES:
        raise DataError(
            f"{path}: the suffix {suffix!r} does not tell the format; pass format= one of {', '.join(FORMATS)}"
        )
    return _SUFFIXES[suffix]


def _rows(path: Path, format: str, options: TableOptions, encoding: str, blanks: BlankLines) -> Iterator[Row]:
    with open_lines(path, encoding) as lines:
        lines = blanks.counted(lines)
        first = next((numbered for numbered in lines if numbered[1].strip()), None)
        if first is None:
            raise DataError(f"{path}: is empty; give a file with at least one row")
        head = [first]
        if format == "auto":
            head += islice(lines, _LOOKED_AT)
            format = guess_format(path, head, options.columns)
        if format == "json":
            format = "json" if first[1].lstrip().startswith("[") else "jsonl"
        elif format == "jsonl" and is_json_list(first[1]):
            format = "json"
        _check_table_options(path, format, options)
        # In CSV a blank line may be part of a quoted field, so the parser has to see it.
        everything = ((number, line) for number, line in chain(head, lines) if format == "csv" or line.strip())
        if format == "text":
            yield from (Row({"text": line.rstrip("\r\n")}, number) for number, line in everything)
        elif format == "jsonl":
            yield from _json_lines(path, everything)
        elif format == "json":
            yield from _json_list(path, everything)
        else:
            yield from _table(path, everything, "," if format == "csv" else "\t", options)
    if format not in ("text", "jsonl"):
        blanks.lines = blanks.count = 0


def _check_table_options(path: Path, format: str, options: TableOptions) -> None:
    """Options of tables are refused where they would change nothing."""
    if format in ("csv", "tsv"):
        return
    for name, value in (("columns", options.columns), ("quoting", options.quoting)):
        if value is not None:
            raise DataError(
                f"{path}: is read as {format}, but {name}= is for tables; leave it out, or pass format= csv or tsv"
            )


def _json_lines(path: Path, lines: Lines) -> Iterator[Row]:
    for number, line in lines:
        if not line.strip():
            continue
        try:
            value = json.loads(line, object_pairs_hook=without_contradiction)
        except RefusedError as problem:
            raise DataError(f"{path}, line {number}: {problem}") from None
        except (ValueError, RecursionError) as problem:
            raise DataError(
                f"{path}, line {number}: not JSON: {reason_of(problem)}{_place(problem)}; every line must be one "
                'object, such as {"text": "...", "label": "..."}'
            ) from None
        yield _record(path, value, number)


def _place(problem: ValueError | RecursionError) -> str:
    return f" at character {problem.colno}" if isinstance(problem, json.JSONDecodeError) else ""


def _json_list(path: Path, lines: Lines) -> Iterator[Row]:
    """The objects of a JSON list, one after the other, so that each knows the line it begins on."""
    for value, line, _ in elements(path, LinedText(lines)):
        yield _record(path, value, line)


def _record(path: Path, value: object, line: int) -> Row:
    if isinstance(value, str):
        return Row({"text": value}, line)
    if not isinstance(value, dict):
        raise DataError(
            f"{path}, line {line}: expected an object with named fields, found {type(value).__name__}; "
            'write {"text": "...", "label": "..."}'
        )
    return Row(value, line)


def _table(path: Path, lines: Lines, separator: str, options: TableOptions) -> Iterator[Row]:
    lines, style = look_at_header(lines, separator, named=options.columns is not None)
    separator = style.separator
    quoting = (separator != "\t" or style.quoted) if options.quoting is None else options.quoting
    records = quoted_records(path, lines, separator, style.spaced) if quoting else _plain(lines, separator)
    names: tuple[Column, ...] | None = options.columns
    for count, (line, fields) in enumerate(records):
        if count == 0:
            has_header = options.header(fields) if callable(options.header) else options.header
            names = names or (_header(path, line, fields) if has_header else tuple(range(len(fields))))
            if has_header:
                continue
        assert names is not None
        if len(fields) != len(names):
            raise DataError(
                f"{path}, line {line}: {len(fields)} fields where there are {len(names)} columns "
                f"({', '.join(map(str, names))}); remove the stray separator, "
                "or pass columns= and quoting= to fit"
            )
        yield Row(dict(zip(names, fields)), line)


def _header(path: Path, line: int, fields: Sequence[str]) -> tuple[Column, ...]:
    names = tuple(strip(field) for field in fields)
    # One column without a name is the index that pandas writes; several need names to be told apart.
    if names.count("") > 1:  # Excel writes empty columns too
        names = tuple(name or f"column {place}" for place, name in enumerate(names, 1))
    if len(set(names)) < len(names):
        raise DataError(
            f"{path}, line {line}: the column names {', '.join(names)} are not all different; "
            "if this line is data, name the columns with columns="
        )
    return names


def _plain(lines: Lines, separator: str) -> Iterator[tuple[int, list[str]]]:
    for number, line in lines:
        if line.strip("\r\n"):
            yield number, line.rstrip("\r\n").split(separator)
