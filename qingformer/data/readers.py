"""Rows of JSONL, JSON, CSV, TSV and plain text files, as a stream of dictionaries with line numbers."""

import csv
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from qingformer.data.sources import bare_suffix, check_file, open_lines
from qingformer.errors import DataError

Path = str | os.PathLike[str]
Column = str | int
Lines = Iterator[tuple[int, str]]

FORMATS = ("jsonl", "json", "csv", "tsv", "text")
_SUFFIXES = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".txt": "text",
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
    quoting: bool = True


def read_rows(
    path: Path,
    format: str | None = None,
    *,
    columns: Sequence[str] | None = None,
    header: bool | Callable[[Sequence[str]], bool] | None = None,
    encoding: str = "utf-8",
    quoting: bool | None = None,
) -> Iterator[Row]:
    """Stream the rows of a data file; `path` may end in .gz, .xz or .bz2, and "-" is standard input.

    Args:
        format: "jsonl" (an object a line), "json" (a list, or an object a line), "csv", "tsv" or "text" (a text a line,
            column "text"); found from the suffix if None. Standard input is read as JSONL if it begins with "{", else
            as text. Only a JSON list is read whole; everything else a line at a time.
        columns: names for the columns of a CSV or TSV file without a header line.
        header: whether the first line holds the names (by default: unless `columns` is given), or a function of its
            fields that decides. Without names the columns are 0, 1, 2, ...
        encoding: of the file. Every line is checked.
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
    options = TableOptions(
        None if columns is None else tuple(columns),
        (columns is None) if header is None else header,
        (chosen == "csv") if quoting is None else quoting,
    )
    return _rows(path, chosen, options, encoding)


def _format_of(path: Path) -> str:
    if str(path) == "-":
        return "auto"
    suffix = bare_suffix(path)
    if suffix not in _SUFFIXES:
        raise DataError(
            f"{path}: the suffix {suffix!r} does not tell the format; pass format= one of {', '.join(FORMATS)}"
        )
    return _SUFFIXES[suffix]


def _rows(path: Path, format: str, options: TableOptions, encoding: str) -> Iterator[Row]:
    with open_lines(path, encoding) as lines:
        filled = ((number, line) for number, line in lines if format in ("csv", "json") or line.strip())
        first = next(filled, None)
        while first is not None and not first[1].strip():
            first = next(filled, None)
        if first is None:
            raise DataError(f"{path}: is empty; give a file with at least one row")
        everything = chain([first], filled)
        if format == "auto":
            format = "jsonl" if first[1].lstrip().startswith("{") else "text"
        if format == "json":
            format = "json" if first[1].lstrip().startswith("[") else "jsonl"
        if format == "text":
            yield from (Row({"text": line.rstrip("\r\n")}, number) for number, line in everything)
        elif format == "jsonl":
            yield from _json_lines(path, everything)
        elif format == "json":
            yield from _json_list(path, everything)
        else:
            yield from _table(path, everything, "," if format == "csv" else "\t", options)


def _json_lines(path: Path, lines: Lines) -> Iterator[Row]:
    for number, line in lines:
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as problem:
            raise DataError(
                f"{path}, line {number}: not JSON: {_reason(problem)}; every line must be one object, "
                'such as {"text": "...", "label": "..."}'
            ) from None
        yield _record(path, value, number)


def _reason(problem: ValueError | RecursionError) -> str:
    if isinstance(problem, json.JSONDecodeError):
        return f"{problem.msg} at character {problem.colno}"
    return "nested too deep" if isinstance(problem, RecursionError) else "a number of too many digits"


def _json_list(path: Path, lines: Lines) -> Iterator[Row]:
    """The objects of a JSON list, one after the other, so that each knows the line it begins on."""
    pieces = list(lines)
    text, decoder = "".join(line for _, line in pieces), json.JSONDecoder()
    line, seen, position = pieces[0][0], 0, _skip(text, text.index("[") + 1)
    while not text.startswith("]", position):
        line, seen = line + text.count("\n", seen, position), position
        try:
            value, position = decoder.raw_decode(text, position)
        except (ValueError, RecursionError) as problem:
            wrong = getattr(problem, "pos", position)
            number = line + text.count("\n", seen, wrong)
            raise DataError(
                f"{path}, line {number}: not JSON: {_reason(problem)}; the file must be one list of objects"
            ) from None
        yield _record(path, value, line)
        position = _skip(text, position)
        if text.startswith(",", position):
            position = _skip(text, position + 1)
        elif not text.startswith("]", position):
            number = line + text.count("\n", seen, position)
            raise DataError(
                f"{path}, line {number}: not JSON: expected ',' or ']' after an object; is the file cut off?"
            )


def _skip(text: str, position: int) -> int:
    while position < len(text) and text[position] in " \t\r\n":
        position += 1
    return position


def _record(path: Path, value: Any, line: int) -> Row:
    if not isinstance(value, dict):
        raise DataError(
            f"{path}, line {line}: expected an object with named fields, found {type(value).__name__}; "
            'write {"text": "...", "label": "..."}'
        )
    return Row(value, line)


def _table(path: Path, lines: Lines, separator: str, options: TableOptions) -> Iterator[Row]:
    records = _quoted(path, lines, separator) if options.quoting else _plain(lines, separator)
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
    names = tuple(field.strip() for field in fields)
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


def _quoted(path: Path, lines: Lines, separator: str) -> Iterator[tuple[int, list[str]]]:
    """Records whose fields may be quoted, and may then hold separators and line ends."""
    first = next(lines)
    read = [first[0] - 1]

    def texts() -> Iterator[str]:
        for number, line in chain([first], lines):
            read[0] = number
            yield line

    reader = csv.reader(texts(), delimiter=separator, strict=True)
    while True:
        before = read[0]
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as problem:
            raise DataError(
                f"{path}, line {before + 1}: wrong quotes ({problem}); double a quote inside a quoted "
                "field, or pass quoting=False if quotes are only characters"
            ) from None
        if fields:
            yield before + 1, fields
