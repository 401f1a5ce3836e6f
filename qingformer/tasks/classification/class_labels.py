"""Labels: found in the data, kept in one order, turned into targets, weighted."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from qingformer.data import class_weights
from qingformer.data.cells import label_text, quoted
from qingformer.errors import ConfigError, DataError
from qingformer.tasks.classification.text_examples import Examples
from qingformer.tasks.label_names import check_names


def discover_labels(examples: Examples) -> list[str]:
    """Every label that occurs, sorted: by value if all are whole numbers, else by code point.

    The order does not depend on the order of the rows, so shuffling or extending a file keeps the meaning of output 3.

    Raises:
        DataError: fewer than two labels occur.
    """
    found = _one_spelling({label for example in examples for label in example.labels or ()})
    if len(found) < 2:
        held = f"only {quoted(next(iter(found)))}" if found else "none"
        raise DataError(
            f"{examples.name}: a classifier needs at least two labels, found {held}; check the label column"
        )
    if all(map(_WHOLE.fullmatch, found)):
        return sorted(found, key=lambda label: (int(label), label))
    return sorted(found)


# Labels that are all whole numbers are sorted by value: "10" comes behind "9".
_WHOLE = re.compile(r"-?\d{1,100}")  # Python refuses to read longer numbers than some thousand digits
_TRUTH = {"true": "1", "false": "0", "1": "1", "0": "0"}


def _one_spelling(labels: set[str]) -> set[str]:
    """The labels, where true and 1 are one if nothing but truth values occurs."""
    truths = [_TRUTH.get(label.casefold()) for label in labels]
    if None in truths or len(set(truths)) == len(labels):
        return labels
    return {str(truth) for truth in truths} if labels & {"0", "1"} else {label.capitalize() for label in labels}


def label_index(labels: Sequence[str]) -> dict[str, int]:
    """The position of each label, also under other spellings of the same number or truth value.

    >>> label_index(["1.0", "2.0"])["1"], label_index(["0", "1"])["True"]
    (0, 1)
    """
    index = {label: position for position, label in enumerate(labels)}
    truths = len(labels) == 2 and {_TRUTH.get(label.casefold()) for label in labels} == {"0", "1"}
    for position, label in enumerate(labels):
        spellings = {label_text(label, "labels")}
        if truths:
            words = [word for word, truth in _TRUTH.items() if truth == _TRUTH[label.casefold()]]
            spellings |= {spelling for word in words for spelling in (word, word.capitalize(), word.upper())}
        for spelling in spellings:
            index.setdefault(spelling, position)
    return index


def label_targets(examples: Examples, labels: Sequence[str], *, multi_label: bool) -> np.ndarray:
    """Targets of `examples`: `(n,)` int32 indices into `labels`, or `(n, len(labels))` float32 zeros and ones.

    Raises:
        DataError: a label is not among `labels`, a row has none, or several where one is expected.
    """
    index = label_index(labels)
    targets = np.zeros(
        (len(examples), len(labels)) if multi_label else len(examples), "float32" if multi_label else "int32"
    )
    for row, example in enumerate(examples):
        for label in example.labels or ():
            if label not in index:
                raise DataError(
                    f"{examples.where(example)}: label {quoted(label)} is not known to this model; known labels: "
                    f"{_shorten(labels, 8)}; correct the row, train with it, or name all labels with labels="
                )
        if multi_label:
            targets[row, [index[label] for label in example.labels or ()]] = 1
        elif example.labels is None or len(example.labels) != 1:
            remedy = "for several labels a text use multi_label=True"
            if not example.labels:
                remedy = "fill it in, or leave such rows out with skip_unlabelled=True"
            raise DataError(
                f"{examples.where(example)}: {len(example.labels or ())} labels where one is expected; {remedy}"
            )
        else:
            targets[row] = index[example.labels[0]]
    return targets


def row_weights(
    targets: np.ndarray, labels: Sequence[str], weights: Mapping[Any, float] | str | None
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
    if not isinstance(weights, Mapping):
        raise ConfigError(
            f"class_weights is {quoted(weights)}; expected a weight by label, such as {{{labels[0]!r}: 2.0}}, or a word"
        )
    index = label_index(labels)
    table = np.ones(len(labels), "float32")
    for key, weight in weights.items():
        label = label_text(key, "class_weights")
        if label not in index:
            raise ConfigError(f"class_weights names {quoted(label)}, which is not a label; labels: {_shorten(labels)}")
        try:
            table[index[label]] = float(weight)
        except (TypeError, ValueError):
            table[index[label]] = np.nan
    if not np.all(np.isfinite(table) & (table > 0)):
        raise ConfigError(f"class_weights must be positive numbers, got {quoted(dict(weights))}")
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
