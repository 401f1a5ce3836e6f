"""How the compiled losses of a batch were averaged: what is needed to put the averages of its parts together again."""

from typing import Any

import keras
from keras import ops

PLAIN, SUM, WEIGHTED = ("sum_over_batch_size", "mean"), "sum", "mean_with_sample_weight"


def reductions(model: keras.Model) -> list[str]:
    """The reduction of every compiled loss of `model`; functions and names stand for the plain mean."""
    losses = [loss for loss in keras.tree.flatten(model.loss) if loss is not None]
    return [getattr(loss, "reduction", None) or PLAIN[0] for loss in losses]


def loss_weights(model: keras.Model, predictions: Any, sample_weight: Any) -> tuple[Any, ...]:
    """For each output, what Keras divides its weighted loss by, float32 scalar; None for the number of its elements.

        plain mean:              sum(w l) / number of l
        plain mean, masked:      sum(w l m) / sum(m)
        mean_with_sample_weight: sum(w l m) / sum(w m)
        sum:                     sum(w l m)

    with sample weights `w` and the mask `m` that Keras has attached to the output. Outputs are matched with losses and
    weights in the order of the flattened nests.
    """
    outputs, kinds = keras.tree.flatten(predictions), reductions(model)
    kinds = kinds * len(outputs) if len(kinds) == 1 else kinds
    weights = keras.tree.flatten(sample_weight) if sample_weight is not None else [None]
    weights = weights * len(outputs) if len(weights) == 1 else weights
    return tuple(
        _divisor(kind, keras.src.backend.get_keras_mask(output), weight)
        for kind, output, weight in zip(kinds, outputs, weights)
    )


def _divisor(kind: str, mask: Any, weight: Any) -> Any:
    if kind == SUM or (mask is None and (kind in PLAIN or weight is None)):
        return None
    if kind in PLAIN or weight is None:
        return ops.sum(ops.cast(mask, "float32"))
    weight = ops.cast(weight, "float32")
    if mask is not None:
        while len(weight.shape) < len(mask.shape):
            weight = ops.expand_dims(weight, -1)
        weight = weight * ops.cast(mask, "float32")
    return ops.sum(weight)
