"""Choosing weights by patterns of their paths: `"block_[01]/"`, `"embedding"`, `"/kernel$"`."""

import re
from collections.abc import Iterable, Sequence

import keras

from qingformer.errors import ConfigError

_SHOWN = 12


def select_each(variables: Sequence[keras.Variable], patterns: Iterable[str], owner: str) -> dict[str, list[int]]:
    """For each regular expression, the indices of the variables whose `path` it is found in (`re.search`).

    Args:
        variables: usually `model.trainable_variables`, whose paths look like `block_0/attention/query/kernel`.
        patterns: regular expressions.
        owner: who asks; the errors begin with it.

    Raises:
        ConfigError: a pattern that is not a regular expression, or that no path contains; the paths are listed.

    Example:
        >>> select_each(model.trainable_variables, ["embedding", "^classifier/"], "Freeze")
    """
    found = {}
    for pattern in patterns:
        try:
            expression = re.compile(pattern)
        except (re.error, TypeError) as problem:
            raise ConfigError(f"{owner}: {pattern!r} is not a regular expression ({problem})") from None
        found[pattern] = [i for i, v in enumerate(variables) if expression.search(v.path)]
        if not found[pattern]:
            raise ConfigError(
                f"{owner}: no trainable variable has {pattern!r} in its path; the paths are: {_listed(variables)}"
            )
    return found


def select(variables: Sequence[keras.Variable], patterns: str | Iterable[str], owner: str) -> list[int]:
    """The indices of the variables that at least one of the patterns finds, in order; see `select_each`."""
    patterns = [patterns] if isinstance(patterns, str) else list(patterns)
    if not patterns:
        raise ConfigError(f"{owner}: there is no pattern; give at least one, '' finds every variable")
    return sorted({i for indices in select_each(variables, patterns, owner).values() for i in indices})


def select_body(model: keras.Model, owner: str) -> list[int]:
    """The indices, in `model.trainable_variables`, of all but the task's head.

    The head is what gives the outputs: for each output the last operation with trainable weights.

    Raises:
        ConfigError: nothing is left, or the outputs come from a model whose inside is not known.
    """
    head: set[int] = set()
    for tensor in keras.tree.flatten(model.outputs):
        head |= {id(v) for v in _last_weights(tensor)}
    body = [i for i, v in enumerate(model.trainable_variables) if id(v) not in head]
    if not body:
        raise ConfigError(
            f"{owner}: all trainable variables belong to the layers that give the outputs; say with `select` which to "
            f"take; the paths are: {_listed(model.trainable_variables)}"
        )
    return body


def _last_weights(tensor: keras.KerasTensor) -> list[keras.Variable]:
    """Trainable weights of the operation that made `tensor`, or of the nearest ones before it that have any."""
    operation, node, index = tensor._keras_history
    if isinstance(operation, keras.Model) and hasattr(operation, "outputs"):
        return _last_weights(keras.tree.flatten(operation.outputs)[index])
    weights = list(getattr(operation, "trainable_variables", []))
    if weights or not operation._inbound_nodes:
        return weights
    return [v for before in operation._inbound_nodes[node].input_tensors for v in _last_weights(before)]


def _listed(variables: Sequence[keras.Variable]) -> str:
    paths = [v.path for v in variables]
    more = f" and {len(paths) - _SHOWN} more" if len(paths) > _SHOWN else ""
    half = _SHOWN // 2  # both ends: the embeddings and the head
    return ", ".join(paths if not more else [*paths[:half], "...", *paths[-half:]]) + more
