"""Losses of Keras on the logits of a classifier: those that read something else train on it without a word."""

import inspect
from typing import Any

import keras

from qingformer.errors import ConfigError

_WITH_NUMBERS = "SparseCategoricalCrossentropy"  # Keras' only loss whose targets are numbers of classes


def check_on_logits(loss: Any, *, multi_label: bool) -> None:
    """Refuse a loss or function that takes probabilities, targets of another form, or leaves the mean to others.

    Targets are one number of a class for each text, with `multi_label` a row of zeros and ones.

    Raises:
        ConfigError: names the loss and what to give in its place.
    """
    if isinstance(loss, keras.losses.Loss):
        name, reads_logits = type(loss).__name__, getattr(loss, "from_logits", None)
        of_keras = type(loss).__module__.startswith("keras.")
    else:
        name, reads_logits, of_keras = getattr(loss, "__name__", "loss"), _default_from_logits(loss), False
    right = "BinaryCrossentropy" if multi_label else _WITH_NUMBERS
    instead = f"give keras.losses.{right}(from_logits=True), or a name such as 'focal'"
    if of_keras and (name == _WITH_NUMBERS) == multi_label:
        form = "a row of 0 and 1 for each text" if multi_label else "one number of a class for each text"
        raise ConfigError(f"the loss {name} does not fit the targets of this classifier, {form}; {instead}")
    if reads_logits is False:
        raise ConfigError(f"the loss {name} takes probabilities (from_logits=False), this classifier gives logits; "
                          f"{instead}")  # fmt: skip
    if getattr(loss, "reduction", "") in (None, "none"):
        raise ConfigError(f"the loss {name} has reduction={loss.reduction!r}; leave reduction out, or give 'sum'")


def _default_from_logits(function: Any) -> Any:
    try:
        parameter = inspect.signature(function).parameters.get("from_logits")
    except (TypeError, ValueError):
        return None
    return None if parameter is None else parameter.default
