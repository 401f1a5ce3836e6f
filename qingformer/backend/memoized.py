"""Compiled functions remembered on the function itself, so that compiling it again costs nothing."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

_COMPILED = "__qingformer_compiled__"


def memoized(function: Callable[..., Any], key: tuple[str, ...], make: Callable[[], Any]) -> Any:
    """The result of `make()` that is kept on `function` under `key`, made now if there is none."""
    remembered = getattr(function, _COMPILED, {})
    if key not in remembered:
        remembered = {**remembered, key: make()}
        with suppress(AttributeError):  # bound methods hold no attributes; jax has its own cache for those
            setattr(function, _COMPILED, remembered)
    return remembered[key]
