"""JSON text that is read whole: its values one after the other, each with the line it begins on."""

import json
import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from typing import Any

from qingformer.data.text_lines import Path
from qingformer.errors import DataError
from qingformer.json_files import RefusedError, without_contradiction

_SPACE = re.compile(r"[ \t\r\n]*")
_DECODER = json.JSONDecoder(object_pairs_hook=without_contradiction)


class LinedText:
    """The text of a file without its blank lines, and the number of the line that each place of it stands on.

    >>> text = LinedText([(2, "[1,\\n"), (5, "2]")])
    >>> text.text, text.line_at(0), text.line_at(4)
    ('[1,\\n2]', 2, 5)
    """

    def __init__(self, lines: Iterable[tuple[int, str]]) -> None:
        self._starts: list[int] = []
        self._numbers: list[int] = []
        pieces, length = [], 0
        for number, line in lines:
            if line.strip():
                self._starts.append(length)
                self._numbers.append(number)
                pieces.append(line)
                length += len(line)
        self.text = "".join(pieces).rstrip()

    def line_at(self, position: int) -> int:
        """The line of a place."""
        return self._numbers[max(bisect_right(self._starts, position) - 1, 0)]

    def lines(self) -> Iterator[tuple[int, str]]:
        """The lines that are not blank, with their numbers."""
        for start, end, number in zip(self._starts, [*self._starts[1:], len(self.text)], self._numbers):
            yield number, self.text[start:end].rstrip()


def reason_of(problem: ValueError | RecursionError) -> str:
    """Why a text is no JSON, in a few words."""
    if isinstance(problem, json.JSONDecodeError):
        return problem.msg
    return "nested too deep" if isinstance(problem, RecursionError) else "a number of too many digits"


def elements(path: Path, lined: LinedText) -> Iterator[tuple[Any, int, str]]:
    """Each element of the only list of a file, its line and its source text.

    Raises `DataError` with file and line for wrong JSON, a list that is cut off, and for what follows the list.
    """
    text = lined.text
    position = skip_space(text, skip_space(text, 0) + 1)
    while not text.startswith("]", position):
        value, end = decode(path, lined, position)
        yield value, lined.line_at(position), text[position:end]
        position = skip_space(text, end)
        if text.startswith(",", position):
            position = skip_space(text, position + 1)
        elif not text.startswith("]", position):
            raise _wrong(path, lined, position, "expected ',' or ']' after an element; is the file cut off?")
    rest = skip_space(text, position + 1)
    if rest < len(text):
        raise _wrong(path, lined, rest, "something follows the list; give one list a file")


def decode(path: Path, lined: LinedText, start: int = 0) -> tuple[Any, int]:
    """The value that begins at `start`, and where it ends."""
    try:
        return _DECODER.raw_decode(lined.text, start)
    except RefusedError as problem:
        raise DataError(f"{path}, line {lined.line_at(start)}: {problem}") from None
    except (ValueError, RecursionError) as problem:
        wrong = getattr(problem, "pos", start)
        raise _wrong(path, lined, wrong, f"{reason_of(problem)}; is the file cut off or of another format?") from None


def only_value(path: Path, lined: LinedText) -> Any:
    """The only value of a file."""
    value, end = decode(path, lined, skip_space(lined.text, 0))
    rest = skip_space(lined.text, end)
    if rest < len(lined.text):
        raise _wrong(path, lined, rest, "Extra data; give one value a file, or one a line")
    return value


def skip_space(text: str, position: int) -> int:
    """The first place from `position` on that is no white space."""
    match = _SPACE.match(text, position)
    return match.end() if match else position


def _wrong(path: Path, lined: LinedText, position: int, what: str) -> DataError:
    return DataError(f"{path}, line {lined.line_at(position)}: not JSON: {what}")
