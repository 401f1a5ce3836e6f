"""From attention scores to attention weights: softmax, its entropy-invariant form, and the squared ReLU."""

import math

from keras import ops

from qingformer.errors import ConfigError
from qingformer.ops.masking import masked_scores
from qingformer.types import Tensor

NORMALIZATIONS = ("softmax", "softmax_plus", "squared_relu")
TRAINED_LENGTH = 512
FEWEST_KEYS = 16


def check_normalization(name: str) -> str:
    """The name itself if it is one of `NORMALIZATIONS`; `ConfigError` otherwise."""
    if name not in NORMALIZATIONS:
        raise ConfigError(f"unknown attention normalization {name!r}; use one of {', '.join(NORMALIZATIONS)}")
    return name


def attention_weights(scores: Tensor, mask: Tensor | None = None, normalization: str = "softmax") -> Tensor:
    """Turn scores into weights along the last axis, hidden keys left out.

    "softmax"; "softmax_plus": softmax(a log(l) / log(512)), l the number of keys that the row may see, at least 16,
    so that the entropy of the weights depends little on the length; "squared_relu": relu(a)^2 / l. `scores` (B, N, Tq,
    Tk) float32, `mask` bool, broadcastable to it, True = keep. A row without any key gives finite numbers.
    Sources: 科学空间 archives/8823 (softmax_plus); Hua et al. 2022, arXiv 2202.10447 (squared ReLU).

    Example: `attention_weights(ops.ones((1, 1, 2, 3)))`
    """
    length = ops.shape(scores)[-1]
    if normalization == "squared_relu":
        weights = ops.square(ops.relu(scores)) / ops.maximum(keys_seen(length, mask), 1.0)
        return weights if mask is None else ops.where(mask, weights, 0.0)
    if normalization == "softmax_plus":
        scores = scores * entropy_scale(length, mask)
    return ops.softmax(masked_scores(scores, mask), axis=-1)


def entropy_scale(length: Tensor, mask: Tensor | None) -> Tensor:
    """The factor log(max(l, 16)) / log(512) of "softmax_plus": (..., 1) float32, broadcastable to scores."""
    return ops.log(ops.maximum(keys_seen(length, mask), float(FEWEST_KEYS))) / math.log(TRAINED_LENGTH)


def keys_seen(length: Tensor, mask: Tensor | None) -> Tensor:
    """How many of `length` keys each row may see: (..., 1) float32, broadcastable to scores."""
    if mask is None:
        return ops.cast(length, "float32")
    return ops.sum(ops.cast(mask, "float32"), axis=-1, keepdims=True)


def zero_rows_without_keys(averages: Tensor, mask: Tensor | None) -> Tensor:
    """Averaged values (B, Tq, N, D), zero for queries that see no key, where the mask differs from query to query.

    Softmax would give such a row an average of what it must not see. A mask of keys alone hides all of them only for
    an empty text, and is not looked at.
    """
    if mask is None or mask.shape[-2] == 1:
        return averages
    seen = ops.transpose(ops.any(mask, axis=-1, keepdims=True), (0, 2, 1, 3))
    return ops.where(seen, averages, ops.cast(0.0, averages.dtype))
