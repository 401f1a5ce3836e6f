"""Divergences between two predictions: KL(p || q), and the symmetric KL(p || q) + KL(q || p)."""

from keras import ops

from qingformer.types import Tensor

_SMALLEST = 1e-7  # of a probability whose logarithm is taken, as in Keras' cross entropies


def softmax_divergence(a: Tensor, b: Tensor) -> Tensor:
    """KL(p || q) + KL(q || p) for p = softmax(a), q = softmax(b) over the last axis: (..., K) to (...), float32.

        sum_k (p_k - q_k) (a_k - b_k)

    The normalisers fall out because p - q sums to zero. Example: `softmax_divergence(logits, other_logits)`
    """
    a, b = ops.cast(a, "float32"), ops.cast(b, "float32")
    # KL(p|q) + KL(q|p) = sum (p - q)(log p - log q), in which the normalisers of the softmax cancel.
    return ops.sum((ops.softmax(a) - ops.softmax(b)) * (a - b), axis=-1)


def sigmoid_divergence(a: Tensor, b: Tensor) -> Tensor:
    """The same for independent yes-or-no outputs with the logits a and b, mean over the last axis: (..., K) to (...).

        mean_k (s(a_k) - s(b_k)) (a_k - b_k),   s the logistic function

    Example: `sigmoid_divergence(logits, other_logits)`
    """
    a, b = ops.cast(a, "float32"), ops.cast(b, "float32")
    return ops.mean((ops.sigmoid(a) - ops.sigmoid(b)) * (a - b), axis=-1)


def categorical_divergence(p: Tensor, q: Tensor) -> Tensor:
    """The same for probabilities over the last axis: (..., K) to (...); logarithms of at least 1e-7.

    Example: `categorical_divergence(probabilities, other_probabilities)`
    """
    p, q = _clipped(p), _clipped(q)
    return ops.sum((p - q) * (ops.log(p) - ops.log(q)), axis=-1)


def bernoulli_divergence(p: Tensor, q: Tensor) -> Tensor:
    """The same for independent probabilities of yes, mean over the last axis: (..., K) to (...).

    Example: `bernoulli_divergence(probabilities, other_probabilities)`
    """
    p, q = _clipped(p), _clipped(q)
    odds = ops.log(p) - ops.log(1 - p) - ops.log(q) + ops.log(1 - q)
    return ops.mean((p - q) * odds, axis=-1)


def squared_divergence(a: Tensor, b: Tensor) -> Tensor:
    """The same for normal distributions of variance 1 around a and b: (a - b)^2, mean over the last axis.

    Example: `squared_divergence(predictions, other_predictions)`
    """
    return ops.mean((ops.cast(a, "float32") - ops.cast(b, "float32")) ** 2, axis=-1)


def kullback_leibler(p: Tensor, q: Tensor, distribution: str, from_logits: bool) -> Tensor:
    """KL(p || q) over the last axis of two outputs: (..., K) to (...) float32, never negative up to rounding.

        categorical: sum_k p_k log(p_k / q_k)
        bernoulli:   sum_k p_k log(p_k / q_k) + (1 - p_k) log((1 - p_k) / (1 - q_k))

    `p` and `q` are logits (softmax or sigmoid is taken here) or probabilities, of at least 1e-7.
    Source: Kullback, Leibler 1951, doi 10.1214/aoms/1177729694.

    Example: `kullback_leibler(logits, other_logits, "categorical", from_logits=True)`
    """
    if not from_logits:
        p, q = _clipped(p), _clipped(q)
        if distribution == "categorical":
            return ops.sum(p * (ops.log(p) - ops.log(q)), axis=-1)
        return ops.sum(p * (ops.log(p) - ops.log(q)) + (1 - p) * (ops.log(1 - p) - ops.log(1 - q)), axis=-1)
    p, q = ops.cast(p, "float32"), ops.cast(q, "float32")
    if distribution == "categorical":
        return ops.sum(ops.softmax(p) * (ops.log_softmax(p) - ops.log_softmax(q)), axis=-1)
    on, off = (ops.log_sigmoid(sign * p) - ops.log_sigmoid(sign * q) for sign in (1, -1))
    return ops.sum(ops.sigmoid(p) * on + ops.sigmoid(-p) * off, axis=-1)


def _clipped(p: Tensor) -> Tensor:
    return ops.clip(ops.cast(p, "float32"), _SMALLEST, 1 - _SMALLEST)
