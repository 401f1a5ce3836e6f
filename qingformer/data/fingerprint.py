"""A short text that is the same for the same data, in every process."""

import dataclasses
import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np

_PLACES = ("line", "name", "notes", "source", "where")  # where an example was read from, not what it is


# Not pickle, whose bytes change with the version of Python and the order of sets.
def fingerprint(*values: object) -> str:
    """A hash of arrays, texts, numbers, and of objects and containers of these; paths and line numbers do not count.

    >>> fingerprint([1, "a"]) == fingerprint([1, "a"]), fingerprint([1, "a"]) == fingerprint([1, "b"])
    (True, False)
    """
    total = hashlib.blake2b(digest_size=16)
    for value in values:
        _add(total, value)
    return total.hexdigest()


def _add(total: "hashlib.blake2b", value: Any) -> None:
    if isinstance(value, np.ndarray) and value.dtype != object:
        total.update(f"{value.dtype}{value.shape}".encode())
        total.update(np.ascontiguousarray(value).data)
    elif value is None or isinstance(value, str | bytes | bool | int | float | np.generic):
        total.update(f"{type(value).__name__} {value!r};".encode(errors="surrogatepass"))
    elif isinstance(value, Mapping):
        total.update(f"map {len(value)};".encode())
        for key, item in value.items():
            _add(total, key)
            _add(total, item)
    elif isinstance(value, set | frozenset):
        _add(total, sorted(map(repr, value)))
    elif hasattr(value, "fingerprint") and isinstance(value.fingerprint, str):
        total.update(value.fingerprint.encode())
    else:
        members = _members(value)
        total.update(f"{type(value).__name__} {len(members)};".encode())
        for name, item in members:
            _add(total, name)
            _add(total, item)
        if not members and hasattr(value, "__len__") and hasattr(value, "__getitem__"):
            total.update(f"items {len(value)};".encode())
            for item in value:
                _add(total, item)


def _members(value: object) -> list[tuple[str, Any]]:
    if isinstance(value, list | tuple):
        return []
    if dataclasses.is_dataclass(value):
        found = [(field.name, getattr(value, field.name)) for field in dataclasses.fields(value)]
    else:
        found = list(getattr(value, "__dict__", {}).items())
    return [(name, item) for name, item in found if name not in _PLACES and not callable(item)]
