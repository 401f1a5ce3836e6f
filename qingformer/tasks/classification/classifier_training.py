"""The loss of a classifier, and how labelled and unlabelled texts share a batch."""

from collections.abc import Callable
from typing import Any

import keras

from qingformer.errors import ConfigError
from qingformer.losses import named_loss


def choose_loss(
    loss: keras.losses.Loss | Callable[..., Any] | str | None, targets: object, num_classes: int, *, multi_label: bool
) -> keras.losses.Loss:
    """The loss that was asked for, cross-entropy if none; one that needs the frequencies of the labels gets them."""
    chosen = named_loss(loss, multi_label=multi_label)
    return chosen.for_labels(targets, num_classes) if hasattr(chosen, "for_labels") and not multi_label else chosen


def mixed_rows(batch_size: int, share: float) -> dict[str, int]:
    """How many rows of a batch are labelled (`batch_size`) and how many not (`unlabelled_rows`); one of each at least.

    Raises:
        ConfigError: no share, or all of the batch, or a batch of one row.

    Example:
        >>> mixed_rows(32, 0.75)
        {'batch_size': 8, 'unlabelled_rows': 24}
    """
    if not 0 < share < 1:
        raise ConfigError(f"unlabelled_share is {share}; expected a number above 0 and below 1")
    if batch_size < 2:
        raise ConfigError(f"batch_size is {batch_size}; a batch of labelled and unlabelled texts has at least two rows")
    # At least one row of each kind, whatever the rounding says.
    rows = min(max(round(batch_size * share), 1), batch_size - 1)
    return {"batch_size": batch_size - rows, "unlabelled_rows": rows}
