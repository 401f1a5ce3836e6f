"""How the compiled losses of a batch were averaged: what is needed to put the averages of its parts together again."""

from typing import Any

import keras

from qingformer.losses.means import PLAIN, SUM

__all__ = ["PLAIN", "SUM", "divisors", "reductions"]


def reductions(model: keras.Model) -> list[str]:
    """The reduction of every compiled loss of `model`; functions and names stand for the plain mean."""
    losses = [loss for loss in keras.tree.flatten(model.loss) if loss is not None]
    return [getattr(loss, "reduction", None) or PLAIN[0] for loss in losses]


def divisors(model: keras.Model) -> tuple[Any, ...]:
    """For each compiled loss what the last batch was divided by (see `losses.means.divisor`); read in its trace.

    None for all of a plain `keras.Model`, whose losses do not tell.
    """
    compiled = model._compile_loss
    return (
        () if compiled is None else tuple(getattr(each.loss, "divisor", None) for each in compiled._flat_losses or ())
    )
