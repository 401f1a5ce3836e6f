"""Choosing variables by regular expressions that are searched in their paths."""

import re
from collections.abc import Iterable, Sequence
from typing import Any

import keras

from qingformer.errors import ConfigError


def check_patterns(patterns: Any, who: str) -> tuple[str, ...]:
    """The patterns as a tuple, each of them a regular expression.

    Raises:
        ConfigError: a single text instead of several, or a text that is no regular expression.
    """
    if isinstance(patterns, str) or not isinstance(patterns, Iterable):
        raise ConfigError(f"{who}: patterns are {patterns!r}; give a list of regular expressions, such as ['bias']")
    checked = tuple(patterns)
    for pattern in checked:
        try:
            re.compile(pattern)
        except (re.error, TypeError) as problem:
            raise ConfigError(f"{who}: {pattern!r} is no regular expression ({problem})") from None
    return checked


def matches(patterns: Iterable[str], variable: keras.Variable) -> bool:
    """Whether one of the patterns is found anywhere in the variable's path."""
    return any(re.search(pattern, variable.path) for pattern in patterns)


def check_all_match(patterns: Iterable[str], variables: Sequence[keras.Variable], who: str) -> None:
    """Refuse a pattern that chooses nothing: it is a slip of the pen more often than not.

    Raises:
        ConfigError: names the pattern and the paths there are.
    """
    for pattern in patterns:
        if not any(matches([pattern], variable) for variable in variables):
            paths = ", ".join(variable.path for variable in variables)
            raise ConfigError(f"{who}: {pattern!r} matches no trainable variable; their paths are: {paths}")
