"""JSON files of nested records: what they hold, the line of everything in it, and collections that say where."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Protocol, TypeVar

from qingformer.data.json_text import LinedText, elements, only_value
from qingformer.data.readers import Path, read_rows
from qingformer.data.text_lines import bare_suffix, open_lines
from qingformer.errors import DataError

TABLES = (".csv", ".tsv", ".tab")


class _HasLine(Protocol):
    @property
    def line(self) -> int: ...


T_co = TypeVar("T_co", bound=_HasLine, covariant=True)


@dataclass(frozen=True)
class Sourced(Sequence[T_co]):
    """Items, the `name` of their source, and `notes`: one line for each kind of thing that was repaired or left out."""

    name: str
    items: list[T_co] = field(repr=False)
    notes: list[str]
    is_file: bool = True

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: Any) -> Any:
        return self.items[index]

    def where(self, item: _HasLine) -> str:
        """The place of `item` in words, such as "dev.json, line 17" or "data, item 3"."""
        return f"{self.name}, {'line' if self.is_file else 'item'} {item.line}"


@dataclass(frozen=True, slots=True)
class Document:
    """One value of a JSON file, its source text, and the line this begins on."""

    value: Any
    line: int = 0
    source: str = field(default="", repr=False)

    def lines_of(self, keys: Sequence[str], count: int) -> list[int]:
        """The lines of the objects' `keys` in order; the line of the document if there are not `count` of them.

        >>> Document({}, 5, '{"a": 1,\\n "b": {"a": 2}}').lines_of(["a"], 2)
        [5, 6]
        """
        lines, line, seen = [], self.line, 0
        for match in re.finditer(rf'"(?:{"|".join(map(re.escape, keys))})"\s*:', self.source):
            line, seen = line + self.source.count("\n", seen, match.start()), match.start()
            lines.append(line)
        return lines if len(lines) == count else [self.line] * count


def read_documents(path: Path, encoding: str = "utf-8") -> list[Document]:
    """Read a JSON file whole: the elements of a list, the values of JSON lines, or the only value; or a CSV, TSV file.

    Raises `DataError` naming file and line for what `open_lines` refuses, for an empty file and for wrong JSON.
    """
    if bare_suffix(path) in TABLES:
        return [Document(row.values, row.line) for row in read_rows(path, encoding=encoding)]
    with open_lines(path, encoding) as lines:
        lined = LinedText(lines)
    if not lined.text:
        raise DataError(f"{path}: is empty; give a file with at least one row")
    first = list(islice(lined.lines(), 2))
    if len(first) > 1 and _is_whole(first[0][1]):
        return [_line_document(path, number, line) for number, line in lined.lines()]
    if lined.text.lstrip().startswith("["):
        return [Document(*element) for element in elements(path, lined)]
    return [Document(only_value(path, lined), lined.line_at(0), lined.text)]


def _line_document(path: Path, number: int, line: str) -> Document:
    return Document(only_value(path, LinedText([(number, line)])), number, line)


def _is_whole(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def text_at(where: str, value: object, name: str, *, empty: bool = False) -> str:
    """`value` if it is a text, and not blank unless `empty`; otherwise a `DataError` that begins with `where`."""
    if not isinstance(value, str):
        found = (
            "is missing"
            if value is None or (isinstance(value, float) and value != value)
            else f"is {type(value).__name__}, not text"
        )
        raise DataError(f"{where}: the {name} {found}; expected a string")
    if not empty and not value.strip():
        raise DataError(f"{where}: the {name} is empty; fill it in or remove the row")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise DataError(f"{where}: the {name} holds half of a character (a lone surrogate); write it whole") from None
    return value
