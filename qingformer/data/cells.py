"""Single values as tables, JSON and Python hold them: what is missing, what is a label, what is true."""

import ast
import math
import re
from collections.abc import Iterator, Mapping
from numbers import Number
from typing import Any

from qingformer.errors import DataError

_INVISIBLE = "\ufeff\u200b\u200c\u200d\u2060"
_NOWHERE = str.maketrans({"\ufeff": None, "\u200b": None, "\u2060": None, "\u00ad": None, "\u00a0": " ", "\u3000": " "})
# All that `str.splitlines` splits at: a label goes into lines of files and of messages.
_LINE_BREAK = re.compile("[\r\n\v\f\x1c-\x1e\x85\u2028\u2029]")
# Spreadsheets and pandas write 3.0 where a column of whole numbers has a gap.
_WHOLE = re.compile(r"([+-]?\d+)\.0+", re.ASCII)
_TRUE = ("true", "1", "yes", "y", "t", "是", "真", "对")
_FALSE = ("false", "0", "no", "n", "f", "否", "假", "错")
_MOST = 200


def plain(value: object) -> Any:
    """A number of NumPy or of another library, or an array of no dimension, as Python's own; others as they are.

    >>> import numpy as np
    >>> plain(np.int64(1)), plain("1")
    (1, '1')
    """
    if isinstance(value, str):
        return str(value)
    # NumPy's, torch's and JAX's scalars alike, without importing any of them.
    if getattr(value, "ndim", None) == 0 and hasattr(value, "item"):
        return value.item()
    return value


def is_missing(value: object) -> bool:
    """Whether a cell is empty: None, NaN (an empty cell of pandas, and JSON's NaN), pandas' NA, or blank text.

    >>> is_missing(float("nan")), is_missing(" "), is_missing(0)
    (True, True, False)
    """
    value = plain(value)
    if isinstance(value, str):
        return not strip(value)
    nan = isinstance(value, float) and math.isnan(value)
    return value is None or nan or type(value).__name__ in ("NAType", "NaTType")


def strip(text: str) -> str:
    """Without the white space and the invisible characters at both ends."""
    stripped = text.strip()
    # Again and again, as white space may stand inside of invisible characters and the other way round.
    while stripped and (stripped[0] in _INVISIBLE or stripped[-1] in _INVISIBLE):
        stripped = stripped.strip(_INVISIBLE).strip()
    return stripped


def clean_name(text: str) -> str:
    """A label without the space around it and the invisible characters in it; joiners within words stay.

    >>> clean_name(" PE\\u200bR\\ufeff"), clean_name("New\\u00a0York")
    ('PER', 'New York')
    """
    return strip(text).translate(_NOWHERE)


def quoted(value: object) -> str:
    """A value as messages show it: at most 200 characters on one line.

    >>> quoted("天" * 500)[-5:]
    '天天天..'
    """
    try:
        shown = repr(value[:_MOST] if isinstance(value, str | bytes) else value)
    except (ValueError, RecursionError):  # a whole number of too many digits, or nested too deep
        shown = f"a {type(value).__name__} that is too large to show"
    if len(shown) > _MOST or (isinstance(value, str | bytes) and len(value) > _MOST):
        shown = shown[: _MOST - 2].rstrip("'") + ".."
    return shown


def label_text(value: object, where: str) -> str:
    """The label that a value stands for: text without the space around it, and one spelling for one number.

    >>> label_text(1.0, ""), label_text(" 1.0", ""), label_text(1.5, ""), label_text(True, "")
    ('1', '1', '1.5', 'True')
    """
    value = plain(value)
    if is_missing(value):
        raise DataError(f"{where}: the label is {quoted(value)}; expected a word or a number")
    if isinstance(value, str):
        text = checked_text(where, "label", clean_name(value))
        if _LINE_BREAK.search(text):
            raise DataError(f"{where}: the label {quoted(text)} has a line break in it; write it on one line")
        whole = _WHOLE.fullmatch(text)
        return whole[1] if whole else text
    if not isinstance(value, Number) or isinstance(value, complex):
        raise DataError(f"{where}: the label is {quoted(value)}; expected a word or a number, or a list of them")
    return _number(value, where)


def _number(value: Any, where: str) -> str:
    try:
        # 3.0 and 3 are one label; True stays True, though Python takes it for 1.
        if not isinstance(value, bool | int) and value == int(value):
            value = int(value)
        return str(value)
    except (ValueError, OverflowError):
        raise DataError(f"{where}: the label is {quoted(value)}; expected a word or a finite number") from None


def listed(value: object) -> list[Any] | None:
    """The values of a list, a tuple, a set (in order of text) or an array; None if it is none of them."""
    if isinstance(value, set | frozenset):
        return sorted(value, key=str)
    if isinstance(value, list | tuple):
        return list(value)
    if getattr(value, "ndim", 0) == 1 and hasattr(value, "tolist"):
        return list(value.tolist())
    if isinstance(value, Mapping) and isinstance(value.get("choices"), list):  # Label Studio
        return list(value["choices"])
    if (
        isinstance(value, Mapping) and len(value) > 1 and all(plain(one) in (0, 1) for one in value.values())
    ):  # spaCy's cats
        return [name for name, one in value.items() if plain(one)]
    return _written_list(value) if isinstance(value, str) else None


def _written_list(text: str) -> list[Any] | None:
    """The labels of a cell that a list was written into, as JSON or as Python shows it; None if it is no such cell."""
    bare = strip(text)
    if not bare.startswith(("['", '["', '{"choices"', "[]")) or not bare.endswith(("]", "}")):
        return None
    try:
        found = ast.literal_eval(bare)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return None
    found = found.get("choices") if isinstance(found, dict) else found
    return found if isinstance(found, list) and all(isinstance(one, str) for one in found) else None


def checked_text(where: str, name: str, text: str) -> str:
    """`text`, unless it holds half of a character, which no tokenizer and no file can take."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise DataError(f"{where}: the {name} holds half of a character (a lone surrogate); write it whole") from None
    return text


def boolean(where: str, name: str, value: object) -> bool | None:
    """A truth value, also one that is written as a word or as 0 or 1; None if it is missing.

    >>> boolean("", "is_impossible", "false"), boolean("", "is_impossible", "是"), boolean("", "is_impossible", None)
    (False, True, None)
    """
    value = plain(value)
    if is_missing(value):
        return None
    if isinstance(value, bool):
        return value
    word = (
        strip(value).casefold()
        if isinstance(value, str)
        else str(int(value))
        if isinstance(value, int | float) and value in (0, 1)
        else ""
    )
    if word in _TRUE or word in _FALSE:
        return word in _TRUE
    raise DataError(f"{where}: {name} is {quoted(value)}; expected true or false")


def split_labels(text: str, separator: str) -> Iterator[str]:
    """The labels in a cell. Every character of `separator` divides, or the whole of it if it has letters or digits.

    >>> list(split_labels("体育#娱乐；军事", "#；")), list(split_labels("a and b", " and "))
    (['体育', '娱乐', '军事'], ['a', 'b'])
    """
    wanted = re.escape(separator)
    if not any(map(str.isalnum, separator)):
        wanted = f"[{wanted}]"
    return (strip(part) for part in re.split(wanted, text) if strip(part))
