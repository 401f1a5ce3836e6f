"""What losses share: labels as whole numbers again, finite logits, sums of exponentials without the hidden entries."""

from keras import ops

from qingformer.types import Tensor

LARGEST = 1e30
HIDDEN = -1e11
OUT_OF_REACH = -1e35  # added to a finite score it hides it, whatever it was


def finite(logits: Tensor) -> Tensor:
    """Logits in float32, and infinities as +-1e30, through which no gradient passes: same shape.

    So 0 * logit is 0, and what a mask hid has gradient 0 instead of NaN.

    Example: `finite(ops.array([0.0, -float("inf")]))` gives `[0, -1e30]`
    """
    return ops.clip(ops.cast(logits, "float32"), -LARGEST, LARGEST)


def visible(logits: Tensor) -> Tensor:
    """Which logits no mask has hidden: those above -1e11. Same shape, bool.

    Example: `visible(ops.array([0.0, -1e12]))` gives `[True, False]`
    """
    return ops.greater(logits, HIDDEN)


def class_ids(labels: Tensor) -> Tensor:
    """Whole-number labels after Keras has cast them to float32: same shape, int32. Exact below 2^24.

    Example: `class_ids(ops.array([2.0, 0.0]))` gives `[2, 0]`
    """
    return ops.cast(ops.round(ops.cast(labels, "float32")), "int32")


def is_distribution(labels: Tensor, logits: Tensor) -> bool:
    """Whether `labels` has one entry per class, as `logits` (..., C) has, and not one whole number for all.

    Example: `is_distribution(ops.zeros((5, 3)), ops.zeros((5, 3)))` is True
    """
    return len(labels.shape) == len(logits.shape) and labels.shape[-1] == logits.shape[-1] != 1


def one_for_all(labels: Tensor, logits: Tensor) -> Tensor:
    """Whole-number labels (...) or (..., 1) of `logits` (..., C), as (...) int32.

    Example: `one_for_all(ops.array([[2.0]]), ops.zeros((1, 3)))` gives `[2]`
    """
    ids = class_ids(labels)
    return ops.squeeze(ids, -1) if len(ids.shape) == len(logits.shape) else ids


def take_class(values: Tensor, ids: Tensor) -> Tensor:
    """The entry of each row that belongs to its class: `values` (..., C), `ids` (...) int32 in [0, C), to (...).

    Example: `take_class(ops.array([[5.0, 7.0]]), ops.array([1]))` gives `[7]`
    """
    return ops.squeeze(ops.take_along_axis(values, ops.expand_dims(ids, -1), -1), -1)


def log_sum_exp(x: Tensor, keep: Tensor | None = None, axis: object = -1, with_zero: bool = False) -> Tensor:
    """log(sum of e^x over the entries to keep [+ 1]): `x` float32, without `axis`.

    `keep` is bool like `x`; a row that keeps nothing gives about -1e30 with gradient 0. `with_zero` adds e^0 = 1 to the
    sum, so that a row that keeps nothing gives 0. Values up to 1e30 are safe. May be differentiated twice.

    Example: `log_sum_exp(ops.zeros((2, 4)))` gives `[log 4, log 4]`
    """
    if keep is not None:
        x = ops.where(keep, x, -LARGEST)
    top = ops.stop_gradient(ops.max(x, axis=axis, keepdims=True))
    top = ops.maximum(top, 0.0) if with_zero else top
    terms = ops.exp(x - top)
    if keep is not None and not with_zero:
        terms = ops.where(keep, terms, 0.0)  # where nothing is kept, e^(x - top) is 1 all the same
    total = ops.sum(terms, axis=axis)
    top = ops.squeeze(top, axis)
    total = total + ops.exp(-top) if with_zero else total
    return ops.log(ops.maximum(total, 1e-37)) + top


def log_softmax(logits: Tensor) -> Tensor:
    """log p over the last axis, differentiable twice on every backend: `logits` (..., C) finite float32.

    Example: `log_softmax(ops.zeros((1, 2)))` gives `[[-0.693, -0.693]]`
    """
    return logits - ops.expand_dims(log_sum_exp(logits), -1)
