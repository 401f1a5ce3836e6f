"""CSV records with quoted fields of any length; the `csv` module's limit on them holds for a whole process."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

from qingformer.data.columns import is_usual_text_name
from qingformer.data.text_lines import Path
from qingformer.errors import DataError

Lines = Iterator[tuple[int, str]]

# A first line that Excel writes and obeys where the comma is the decimal mark.
_EXCEL_SEPARATOR = re.compile(r"sep=(.)")
_AFTER_SPACE = re.compile(r' +"((?:[^"]|"")*)" *')


@dataclass(frozen=True)
class Style:
    """What divides the fields of a table, whether those of its header are all in quotes, and behind spaces."""

    separator: str
    quoted: bool = False
    spaced: bool = False


def look_at_header(lines: Lines, separator: str, named: bool) -> tuple[Lines, Style]:
    """The lines, and how the first of them is written.

    A CSV file may come from a spreadsheet with semicolons or tabs: then its header has no comma, and one of its
    columns has a usual name between these. So may a TSV file have commas. A first line `sep=;` is Excel's own.
    """
    first = next(lines, None)
    if first is None:
        return lines, Style(separator)
    named_first = _EXCEL_SEPARATOR.fullmatch(first[1].strip("\r\n").strip('"'))
    if named_first and not named:
        return look_at_header(lines, named_first[1], named=True)
    header = first[1].rstrip("\r\n")
    if not named and separator not in header:
        others = [
            # Another separator only where it brings out the name of a text: titles hold commas and bars as well.
            other
            for other in ",;\t|"
            if other in header[1:] and header[0] != other and _has_text(header.split(other))
        ]
        separator = others[0] if others else separator
    fields = [field.strip() for field in header.split(separator)]
    in_quotes = len(fields) > 1 and all(len(field) > 1 and field[0] == field[-1] == '"' for field in fields)
    spaced = separator in header and header.count(separator) == header.count(f"{separator} ")
    return chain([first], lines), Style(separator, in_quotes, spaced)


def _has_text(names: list[str]) -> bool:
    return any(is_usual_text_name(name.strip().strip('"')) for name in names)


def quoted_records(path: Path, lines: Lines, separator: str, spaced: bool = False) -> Iterator[tuple[int, list[str]]]:
    """Records and their first lines: a field in `"` may hold separators, line ends and, doubled, quotes. With
    `spaced` it may stand behind spaces too, as in `a, "b"`.

    Raises `DataError` with file and line where quotes do not close or something follows a closing one.

    >>> list(quoted_records("a.csv", iter([(1, 'a,"b\\n'), (2, 'c"",d"\\n')]), ","))
    [(1, ['a', 'b\\nc",d'])]
    """
    for number, line in lines:
        bare = line.rstrip("\r\n")
        if not bare:
            continue
        # Most lines have no quote at all: splitting them is all there is to do.
        if '"' in bare:
            yield number, _fields(path, number, line, lines, separator, spaced)
        else:
            yield number, bare.split(separator)


def _fields(path: Path, first: int, line: str, lines: Lines, separator: str, spaced: bool) -> list[str]:
    fields: list[str] = []
    position = 0
    while True:
        if line.startswith('"', position):
            field, line, position = _quoted_field(path, first, line, position + 1, lines)
            if line.startswith(separator, position):
                position += 1
                fields.append(field)
                continue
            if line[position:].rstrip("\r\n"):
                raise _wrong(path, first, f"{separator!r} expected after a closing quote")
            return [*fields, field]
        behind = _AFTER_SPACE.match(line, position) if spaced else None
        if behind and (line.startswith(separator, behind.end()) or not line[behind.end() :].strip("\r\n")):
            fields.append(behind[1].replace('""', '"'))
            if not line.startswith(separator, behind.end()):
                return fields
            position = behind.end() + len(separator)
            continue
        end = line.find(separator, position)
        if end < 0:
            return [*fields, line[position:].rstrip("\r\n")]
        fields.append(line[position:end])
        position = end + 1


def _quoted_field(path: Path, first: int, line: str, position: int, lines: Lines) -> tuple[str, str, int]:
    """The field, the line that it ends on, and the place behind its closing quote."""
    parts: list[str] = []
    while True:
        end = line.find('"', position)
        if end < 0:
            parts.append(line[position:])
            following = next(lines, None)
            if following is None:
                raise _wrong(path, first, "a quote is not closed before the end of the file")
            line, position = following[1], 0
        elif line.startswith('"', end + 1):
            parts.append(line[position : end + 1])
            position = end + 2
        else:
            parts.append(line[position:end])
            return "".join(parts), line, end + 1


def _wrong(path: Path, line: int, what: str) -> DataError:
    return DataError(
        f"{path}, line {line}: wrong quotes ({what}); double a quote inside a quoted field, or pass quoting=False if "
        "quotes are only characters"
    )
