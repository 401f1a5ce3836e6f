"""Which variables an option applies to: regular expressions that are searched in the path of a variable."""

import re
import warnings
from collections.abc import Iterable, Sequence
from typing import Any

from qingformer.errors import ConfigError

# What acts on each element by itself: biases, and the gains and shifts of norms.
ELEMENTWISE = (r"(^|/)(bias|gamma|beta)$",)
# The tables of embedding layers, whose rows are used one by one.
EMBEDDINGS = (r"(^|/)embeddings$",)


def checked_patterns(owner: str, argument: str, patterns: Iterable[str]) -> tuple[str, ...]:
    """The patterns as a tuple, after a look at whether they are regular expressions.

    Raises:
        ConfigError: one string instead of several, or something that is not a regular expression.

    Example:
        >>> checked_patterns("LAMB", "exclude_from_weight_decay", ["Norm", "bias"])
        ('Norm', 'bias')
    """
    if isinstance(patterns, str):
        raise ConfigError(f"{owner}: {argument} is {patterns!r}; expected a list of patterns, such as [{patterns!r}]")
    found = tuple(patterns)
    for pattern in found:
        try:
            re.compile(pattern)
        except (re.error, TypeError) as error:
            raise ConfigError(
                f"{owner}: {argument} has {pattern!r}, which is not a regular expression: {error}"
            ) from None
    return found


def matching(owner: str, argument: str, patterns: Sequence[str], variables: Sequence[Any]) -> list[bool]:
    """For each variable whether one of the patterns is found in its path, such as `block_0/attention/query/kernel`.

    A pattern that is found nowhere is most likely a mistake (`Norm` where layers are called `norm`), so it gives a
    warning, except for the defaults: a model may well have no biases.
    """
    paths = [variable.path for variable in variables]
    for pattern in patterns:
        if pattern not in ELEMENTWISE + EMBEDDINGS and not any(re.search(pattern, path) for path in paths):
            warnings.warn(f"{owner}: {argument}: {pattern!r} is in none of the paths {', '.join(paths)}", stacklevel=2)
    return [any(re.search(pattern, path) for pattern in patterns) for path in paths]


def matches(patterns: Iterable[str], variable: Any) -> bool:
    """Whether one of the patterns is found anywhere in the variable's path."""
    return any(re.search(pattern, variable.path) for pattern in patterns)


def check_all_match(patterns: Iterable[str], variables: Sequence[Any], owner: str) -> None:
    """Refuse a pattern that chooses nothing: where it is the point of a wrapper, it is a slip of the pen.

    Raises:
        ConfigError: names the pattern and the paths there are.
    """
    for pattern in patterns:
        if not any(matches([pattern], variable) for variable in variables):
            paths = ", ".join(variable.path for variable in variables)
            raise ConfigError(f"{owner}: {pattern!r} matches no trainable variable; their paths are: {paths}")
