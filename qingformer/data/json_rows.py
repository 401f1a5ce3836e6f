"""Rows as JSON lines on standard output or in a file."""

import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO

from qingformer.files import atomic_file
from qingformer.types import Config, Values


def with_fields(row: Config, fields: Mapping[object, object], echoed: tuple[str, ...]) -> Config:
    """A row of output and every other field of the row it answers, with "input_" before a name that is taken.

    Columns without names are called by their places, from 1. `echoed` are what `row` repeats from `fields`.

    >>> with_fields({"text": "好", "label": "正面"}, {"id": 7, "text": "好", "label": "负面"}, ("text",))
    {'text': '好', 'label': '正面', 'id': 7, 'input_label': '负面'}
    """
    found = dict(row)
    for key, value in fields.items():
        name = f"column_{key + 1}" if isinstance(key, int) else str(key)
        if name in echoed and name in row and str(value) == row[name]:
            found[name] = value
            continue
        while name in found:
            name = f"input_{name}"
        found[name] = value
    return found


def json_line(row: Values) -> str:
    """A row as JSON: as people read it, or in ASCII if it holds half a character, which no file could."""
    line = json.dumps(row, ensure_ascii=False)
    try:
        line.encode()
    except UnicodeEncodeError:
        return json.dumps(row)
    return line


def write_lines(lines: Iterable[str], output: Path | None) -> None:
    """Write lines to a file, whole or not at all, or to standard output."""
    if output is None:
        _write(lines, sys.stdout)
        return
    with atomic_file(output) as temporary, temporary.open("w", encoding="utf-8") as stream:
        _write(lines, stream)


def _write(lines: Iterable[str], stream: IO[str]) -> None:
    for line in lines:
        stream.write(line + "\n")
    stream.flush()
