"""Losses of classifiers by name."""

from collections.abc import Callable
from typing import Any

import keras

from qingformer.errors import ConfigError
from qingformer.losses.dice import DiceLoss
from qingformer.losses.focal import FocalLoss
from qingformer.losses.function import FunctionLoss
from qingformer.losses.label_smoothing import LabelSmoothedCrossentropy
from qingformer.losses.logit_adjustment import LogitAdjustedCrossentropy
from qingformer.losses.multilabel import MultilabelCategoricalCrossentropy
from qingformer.losses.on_logits import check_on_logits
from qingformer.losses.smooth_f1 import SmoothF1Crossentropy

_ONE_LABEL: dict[str, Callable[[], keras.losses.Loss]] = {
    "crossentropy": lambda: keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    "dice": DiceLoss,
    "focal": FocalLoss,
    "label_smoothing": LabelSmoothedCrossentropy,
    "logit_adjustment": LogitAdjustedCrossentropy,
}
_SEVERAL_LABELS: dict[str, Callable[[], keras.losses.Loss]] = {
    "crossentropy": lambda: keras.losses.BinaryCrossentropy(from_logits=True),
    "dice": lambda: DiceLoss(multi_label=True),
    "focal": lambda: FocalLoss(multi_label=True),
    "multilabel_crossentropy": MultilabelCategoricalCrossentropy,
    "smooth_f1": lambda: SmoothF1Crossentropy(average="macro"),
}


def named_loss(
    loss: str | keras.losses.Loss | Callable[..., Any] | None, *, multi_label: bool = False
) -> keras.losses.Loss:
    """A loss on the logits of a classifier from its name, with its usual settings; a loss is given back as it is,
    and a plain function `(y_true, y_pred) -> values` becomes one.

    One label for each text: crossentropy (also for None), dice, focal, label_smoothing, logit_adjustment. With
    `multi_label`: crossentropy (binary), dice, focal, multilabel_crossentropy, smooth_f1.

    Raises `ConfigError` for a name that is not known, for what is no loss, and for a loss of Keras that takes
    probabilities or targets of another form.

    Example:
        >>> named_loss("focal").gamma
        2.0
    """
    if isinstance(loss, keras.losses.Loss):
        check_on_logits(loss, multi_label=multi_label)
        return loss
    if callable(loss) and not isinstance(loss, type):
        check_on_logits(loss, multi_label=multi_label)
        return FunctionLoss(loss)
    if isinstance(loss, type) or (loss is not None and not isinstance(loss, str)):
        named = f"the class {loss.__name__}" if isinstance(loss, type) else repr(loss)[:80]
        raise ConfigError(f"loss is {named}; give a keras.losses.Loss object, a function, or a name such as 'focal'")
    known = _SEVERAL_LABELS if multi_label else _ONE_LABEL
    name = "crossentropy" if loss is None else loss
    if name not in known:
        kind = "several labels" if multi_label else "one label"
        raise ConfigError(f"loss is {loss!r}; for {kind} a text give a keras.losses.Loss or one of {', '.join(known)}")
    return known[name]()
