"""Labels: found in the data, kept in one order, turned into targets, weighted."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from qingformer.data import class_weights
from qingformer.errors import ConfigError, DataError
from qingformer.tasks.examples import Examples


def discover_labels(examples: Examples) -> list[str]:
    """Every label that occurs, sorted: by value if all are whole numbers, else by code point.

    The order does not depend on the order of the rows, so shuffling or extending a file keeps the meaning of output 3.

    Raises:
        DataError: fewer than two labels occur.
    """
    found = {label for example in examples for label in example.labels or ()}
    if len(found) < 2:
        held = f"only {next(iter(found))!r}" if found else "none"
        raise DataError(
            f"{examples.name}: a classifier needs at least two labels, found {held}; check the label column"
        )
    if all(label.lstrip("-").isdecimal() for label in found):
        return sorted(found, key=lambda label: (int(label), label))
    return sorted(found)


def label_targets(examples: Examples, labels: Sequence[str], *, multi_label: bool) -> np.ndarray:
    """Targets of `examples`: `(n,)` int32 indices into `labels`, or `(n, len(labels))` float32 zeros and ones.

    Raises:
        DataError: a label is not among `labels`, a row has none, or several where one is expected.
    """
    index = {label: position for position, label in enumerate(labels)}
    targets = np.zeros(
        (len(examples), len(labels)) if multi_label else len(examples), "float32" if multi_label else "int32"
    )
    for row, example in enumerate(examples):
        for label in example.labels or ():
            if label not in index:
                raise DataError(
                    f"{examples.where(example)}: label {label!r} is not known to this model; known labels: "
                    f"{_shorten(labels)}; correct the row, or train with it"
                )
        if multi_label:
            targets[row, [index[label] for label in example.labels or ()]] = 1
        elif example.labels is None or len(example.labels) != 1:
            raise DataError(
                f"{examples.where(example)}: {len(example.labels or ())} labels where one is expected; "
                "for several labels a text use multi_label=True"
            )
        else:
            targets[row] = index[example.labels[0]]
    return targets


def row_weights(
    targets: np.ndarray, labels: Sequence[str], weights: Mapping[str, float] | str | None
) -> np.ndarray | None:
    """Weight of each row's loss, `(n,)` float32: that of its class, or None when all are one.

    A word is a scheme of `qingformer.data.class_weights` ("balanced", "sqrt", "effective"); a mapping names some labels
    and the others weigh 1.

    Raises:
        ConfigError: an unknown label, a weight that is not positive, or a model of several labels a text.
        DataError: an unknown word.
    """
    if weights is None:
        return None
    if targets.ndim != 1:
        raise ConfigError("class_weights needs one label per text; this model gives several")
    if isinstance(weights, str):
        return class_weights(targets, len(labels), weights)[targets]
    unknown = [label for label in weights if label not in labels]
    if unknown:
        raise ConfigError(f"class_weights names {unknown[0]!r}, which is no label; labels: {_shorten(labels)}")
    table = np.array([weights.get(label, 1.0) for label in labels], "float32")
    if not np.all(np.isfinite(table) & (table > 0)):
        raise ConfigError(f"class_weights must be positive numbers, got {dict(weights)}")
    return table[targets]


def _shorten(labels: Sequence[str], most: int = 20) -> str:
    shown = ", ".join(labels[:most])
    return shown if len(labels) <= most else f"{shown}, ... ({len(labels)} in all)"


def check_labels(labels: Iterable[str]) -> list[str]:
    """The labels a caller gave, as text, in the order given.

    Raises:
        ConfigError: a single string, fewer than two, or one that occurs twice.
    """
    names = check_names(labels, "labels")
    if len(names) < 2:
        raise ConfigError(f"labels has {len(names)} entries; a classifier needs at least two")
    return names


def check_names(names: Iterable[str], what: str) -> list[str]:
    """Names that a caller gave, as text, in the order given.

    Raises:
        ConfigError: a single string, none, an empty one, or one that occurs twice.
    """
    if isinstance(names, str):
        raise ConfigError(f"{what} is {names!r}; give a list of {what}")
    found = [str(name) for name in names]
    twice = next((name for place, name in enumerate(found) if name in found[:place]), None)
    if twice is not None:
        raise ConfigError(f"{what.removesuffix('s')} {twice!r} occurs twice among the {what}; each may be there once")
    if "" in found:
        raise ConfigError(f"one of the {what} is empty; give each a name")
    return found
