"""JSON files: read in one place, within stated limits, and every fault of a file is the caller's kind of error."""

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qingformer.errors import QingFormerError
from qingformer.files import check_not_pointer
from qingformer.types import Config, Values

MAXIMUM_BYTES = 128 * 2**20  # the largest tokenizer.json in use has 35 MB
MAXIMUM_DEPTH = 64
MAXIMUM_DIGITS = 64  # transformers writes 10**30 for "no limit"
_NAMES = {
    dict: "an object",
    list: "a list",
    str: "a string",
    bool: "true or false",
    int: "an integer",
    float: "a number",
    type(None): "null",
}
_HALF_PAIR = re.compile(r"\\u[dD][89a-fA-F]")


# Told apart from errors of the parser, whose message would be about syntax.
class RefusedError(ValueError):
    """What a file holds is JSON, but beyond the limits, or contradicts itself."""


def read_json(path: str | os.PathLike[str], error: type[QingFormerError] = QingFormerError) -> Any:
    """Read a UTF-8 JSON file; what is wrong with it is raised as `error`, naming the file and the line."""
    path = Path(path)
    try:
        if path.exists() and not path.is_file():
            raise error(f"{path}: not a file; expected JSON")
        if path.stat().st_size > MAXIMUM_BYTES:
            raise error(f"{path}: {path.stat().st_size} bytes of JSON; at most {MAXIMUM_BYTES} are read")
        content = path.read_bytes()
    except FileNotFoundError:
        raise error(f"{path}: no such file") from None
    except OSError as problem:
        raise error(f"{path}: cannot be read ({problem.strerror})") from None
    check_not_pointer(content, path, error)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        raise error(f"{path}: not UTF-8 (byte {problem.start}); save the file as UTF-8") from None
    return parse_json(text, str(path), error)


def readable_json(path: str | os.PathLike[str]) -> Any:
    """The value in a JSON file; None where there is no such file or `read_json` refuses it."""
    try:
        return read_json(path)
    except QingFormerError:
        return None


def parse_json(text: str, where: str, error: type[QingFormerError] = QingFormerError, line: int | None = None) -> Any:
    """The value of a JSON text; `error`, which begins with `where`, for what is no JSON or beyond the limits.

    Limits: `MAXIMUM_DEPTH` levels, `MAXIMUM_DIGITS` digits of an integer. Refused too: a key with two different values
    in one object, of which a reader would silently take the last, and half of a surrogate pair, which is not text.
    `line` is the number of the text's line in its file, where each line is a JSON text of its own.
    """
    place = where if line is None else f"{where}, line {line}"
    try:
        value = json.loads(text, parse_int=_integer, object_pairs_hook=without_contradiction)
        _check_depth(value)
        if _HALF_PAIR.search(text):
            json.dumps(value, ensure_ascii=False).encode()
    except json.JSONDecodeError as problem:
        raise error(f"{where}, line {line or problem.lineno}: not JSON: {problem.msg}") from None
    except RecursionError:
        raise error(f"{place}: nested deeper than {MAXIMUM_DEPTH} levels") from None
    except UnicodeEncodeError:
        raise error(f"{place}: holds half of a surrogate pair, which is not text") from None
    except RefusedError as problem:
        raise error(f"{place}: {problem}") from None
    return value


def read_object(
    path: str | os.PathLike[str],
    error: type[QingFormerError] = QingFormerError,
    kinds: Mapping[str, type | tuple[type, ...]] | None = None,
) -> Config:
    """Read a file that must hold a JSON object; `kinds` are the types of keys that may be there, see `check_kinds`."""
    value = read_json(path, error)
    if type(value) is not dict:
        raise error(f"{path}: expected a JSON object, found {kind_of(value)}")
    check_kinds(value, kinds or {}, str(path), error)
    return value


def check_kinds(
    values: Values, kinds: Mapping[str, type | tuple[type, ...]], where: str, error: type[QingFormerError]
) -> None:
    """Raise `error`, naming `where` and the key, for a value of another type; keys that are not there are passed over.

    The types are exact, so that true is no integer, but an integer is a number.
    """
    for key, kind in kinds.items():
        wanted = kind if isinstance(kind, tuple) else (kind,)
        if key in values and type(values[key]) not in wanted and not (float in wanted and type(values[key]) is int):
            names = " or ".join(_NAMES.get(each, each.__name__) for each in wanted)
            raise error(f"{where}: {key} is {quoted(values[key])}, expected {names}")


def kind_of(value: object) -> str:
    """The name of a value's JSON type."""
    return _NAMES.get(type(value), type(value).__name__)


def quoted(value: object, limit: int = 80) -> str:
    """A value as Python writes it, cut to `limit` characters, for a message."""
    if isinstance(value, str):
        return repr(value) if len(value) <= limit else f"{value[:limit]!r}..."
    written = repr(value) if not isinstance(value, (list, dict)) or len(value) < limit else f"{kind_of(value)}"
    return written if len(written) <= limit else f"{written[:limit]}..."


def _integer(digits: str) -> int:
    if len(digits) > MAXIMUM_DIGITS:
        raise RefusedError(f"an integer of {len(digits)} digits; at most {MAXIMUM_DIGITS} are read")
    return int(digits)


def without_contradiction(pairs: list[tuple[str, Any]]) -> Config:
    """The object of these pairs, for the `object_pairs_hook` of `json`; `RefusedError` where a key has two values."""
    result = dict(pairs)
    if len(result) < len(pairs):
        for key, value in pairs:
            if value != result[key]:
                raise RefusedError(f"the key {quoted(key)} is there twice, with different values; keep one")
    return result


def _check_depth(value: object) -> None:
    level = [value] if isinstance(value, (dict, list)) else []
    for _ in range(MAXIMUM_DEPTH):
        children = [child for part in level for child in (part.values() if isinstance(part, dict) else part)]
        level = [child for child in children if isinstance(child, (dict, list))]
        if not level:
            return
    raise RefusedError(f"nested deeper than {MAXIMUM_DEPTH} levels")
