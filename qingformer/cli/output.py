"""Predictions on standard output, in a file or in a folder."""

import json
import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from qingformer.errors import ConfigError
from qingformer.files import atomic_file

if TYPE_CHECKING:
    from rich.console import Console


def with_fields(row: dict[str, Any], fields: Mapping[Any, Any], echoed: tuple[str, ...]) -> dict[str, Any]:
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


def json_line(row: Mapping[str, Any]) -> str:
    """A row as JSON: as people read it, or in ASCII if it holds half a character, which no file could."""
    line = json.dumps(row, ensure_ascii=False)
    try:
        line.encode()
    except UnicodeEncodeError:
        return json.dumps(row)
    return line


def check_output(output: Path | None, file: str) -> None:
    """Refuse an output that could not be written, or would take the place of the data it is made from.

    Raises:
        ConfigError: a folder, or the file that is read.
    """
    if output is None or not output.exists():
        return
    if output.is_dir():
        raise ConfigError(f"{output}: is a folder; name a file with --output")
    if os.path.exists(file) and output.is_file() and output.samefile(file):
        raise ConfigError(f"{output}: is the file that is read, which --output would replace; name another file")


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


def choose_form(
    formats: tuple[str, ...], coloured: bool, output: Path | None, form: str | None, color: bool | None, whose: str
) -> str | None:
    """The format to write, or None for coloured text: on a terminal, or with --color.

    Raises:
        ConfigError: what the model cannot write, or options that do not go together.
    """
    if form is not None and form not in formats:
        raise ConfigError(f"--output-format {form} does not go with {whose}; it writes {', '.join(formats)}")
    if color:
        if not coloured:
            raise ConfigError(f"--color does not go with {whose}; it writes {', '.join(formats)}")
        if output is not None or form is not None:
            raise ConfigError("--color is for reading on a terminal; leave out --output and --output-format")
        return None
    if form == "brat":
        if output is None:
            raise ConfigError("--output-format brat writes a folder of .txt and .ann files; name it with --output")
        if output.exists() and (not output.is_dir() or any(output.iterdir())):
            raise ConfigError(
                f"{output}: is there already; name a new folder with --output for the .txt and .ann files"
            )
    if form is None and output is None and coloured and color is None and sys.stdout.isatty():
        return None
    return form or "jsonl"


def coloured_results() -> "Console":
    """Standard output with colours, also where it is no terminal."""
    from rich.console import Console

    return Console(highlight=False, soft_wrap=True, force_terminal=True)
