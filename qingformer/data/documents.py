"""JSON files of nested records: what they hold, the line of everything in it, and collections that say where."""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from qingformer.data.readers import Path
from qingformer.data.sources import open_lines
from qingformer.errors import DataError


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
    """Read a JSON file whole: the elements of a list, the values of JSON lines, or the only value.

    Raises `DataError` naming file and line for what `open_lines` refuses, for an empty file and for wrong JSON.
    """
    with open_lines(path, encoding) as lines:
        pieces = [line for _, line in lines]
    filled = [(number, line.rstrip()) for number, line in enumerate(pieces, 1) if line.strip()]
    if not filled:
        raise DataError(f"{path}: is empty; give a file with at least one row")
    if len(filled) > 1 and _is_whole(filled[0][1]):
        return [Document(_decode(path, line, number)[0], number, line) for number, line in filled]
    text = "".join(pieces).rstrip()
    if text.lstrip().startswith("["):
        return list(_elements(path, text))
    return [Document(_decode(path, text, 1)[0], 1, text)]


def _is_whole(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _decode(path: Path, text: str, line: int, start: int = 0, alone: bool = True) -> tuple[Any, int]:
    """The value that begins at `start` on `line`, and where it ends."""
    position = _skip(text, start)
    try:
        value, end = json.JSONDecoder().raw_decode(text, position)
        if alone and text[end:].strip():
            raise json.JSONDecodeError("Extra data", text, _skip(text, end))
    except (ValueError, RecursionError) as problem:
        wrong = getattr(problem, "pos", position)
        reason = getattr(problem, "msg", "nested too deep or a number of too many digits")
        number = line + text.count("\n", start, wrong)
        raise DataError(
            f"{path}, line {number}: not JSON: {reason}; is the file cut off or of another format?"
        ) from None
    return value, end


def _elements(path: Path, text: str) -> Iterator[Document]:
    position = _skip(text, text.index("[") + 1)
    line = 1 + text.count("\n", 0, position)
    while not text.startswith("]", position):
        value, end = _decode(path, text, line, position, alone=False)
        yield Document(value, line, text[position:end])
        after = _skip(text, end)
        if text.startswith(",", after):
            after = _skip(text, after + 1)
        elif not text.startswith("]", after):
            number = line + text.count("\n", position, after)
            raise DataError(f"{path}, line {number}: not JSON: expected ',' or ']'; is the file cut off?")
        line, position = line + text.count("\n", position, after), after
    if text[position + 1 :].strip():
        number = line + text.count("\n", position, _skip(text, position + 1))
        raise DataError(f"{path}, line {number}: not JSON: something follows the list; give one list a file")


_SPACE = re.compile(r"[ \t\r\n]*")


def _skip(text: str, position: int) -> int:
    match = _SPACE.match(text, position)
    return match.end() if match else position


def text_at(where: str, value: Any, name: str, *, empty: bool = False) -> str:
    """`value` if it is a text, and not blank unless `empty`; otherwise a `DataError` that begins with `where`."""
    if not isinstance(value, str):
        found = "is missing" if value is None else f"is {type(value).__name__}, not text"
        raise DataError(f"{where}: the {name} {found}; expected a string")
    if not empty and not value.strip():
        raise DataError(f"{where}: the {name} is empty; fill it in or remove the row")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise DataError(f"{where}: the {name} holds half of a character (a lone surrogate); write it whole") from None
    return value
