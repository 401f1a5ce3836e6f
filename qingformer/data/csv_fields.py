"""CSV records with quoted fields of any length; the `csv` module's limit on them holds for a whole process."""

from collections.abc import Iterator

from qingformer.data.sources import Path
from qingformer.errors import DataError

Lines = Iterator[tuple[int, str]]


def quoted_records(path: Path, lines: Lines, separator: str) -> Iterator[tuple[int, list[str]]]:
    """Records and their first lines: a field in `"` may hold separators, line ends and, doubled, quotes.

    Raises `DataError` with file and line where quotes do not close or something follows a closing one.

    >>> list(quoted_records("a.csv", iter([(1, 'a,"b\\n'), (2, 'c"",d"\\n')]), ","))
    [(1, ['a', 'b\\nc",d'])]
    """
    for number, line in lines:
        bare = line.rstrip("\r\n")
        if not bare:
            continue
        if '"' in bare:
            yield number, _fields(path, number, line, lines, separator)
        else:
            yield number, bare.split(separator)


def _fields(path: Path, first: int, line: str, lines: Lines, separator: str) -> list[str]:
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
