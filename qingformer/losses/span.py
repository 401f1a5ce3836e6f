"""Cross-entropy of where an answer starts and ends in a text."""

import keras
from keras import ops

from qingformer.errors import ConfigError
from qingformer.losses.loss import MEAN, Loss, as_array
from qingformer.ops.classes import LARGEST, class_ids, finite, log_sum_exp, take_class, visible
from qingformer.ops.divergence import softmax_divergence
from qingformer.types import Nest, Tensor


@keras.saving.register_keras_serializable("qingformer")
class SpanCrossentropy(Loss):
    """Extractive reading: softmax over the tokens of a text, once for the start of the answer and once for its end.

        L = -(log softmax(s_start)[start] + log softmax(s_end)[end]) / 2

    The softmax is over the tokens that no mask hid (-inf, or below -1e11). Position 0, that of [CLS], stands for no
    answer. A negative position costs nothing; one that is hidden or behind the text costs 1e30, without gradient, so
    that a wrong label shows.

    Args:
        reduction, name: as in Keras.

    Labels (B, 2) whole numbers, start and end (inclusive); scores (B, T, 2) float, start and end; values (B,) float32.
    Weights (B,). Raises `ConfigError` for other shapes.

    Source: Devlin et al. 2018, arXiv 1810.04805 (section 4.2; 4.3 for no answer).

    Example:
        >>> loss = SpanCrossentropy()
        >>> value = loss([[1, 2]], [[[0.0, 0.0], [3.0, 0.0], [0.0, 2.0]]])
    """

    class_axes = 2

    def __init__(self, reduction: str | None = MEAN, name: str | None = "span_crossentropy") -> None:
        super().__init__(reduction, name)

    def __call__(self, y_true: Tensor, y_pred: Tensor, sample_weight: Nest = None) -> Tensor:
        """The reduced loss; `sample_weight` (B,)."""
        labels, scores = as_array(y_true), as_array(y_pred)
        shapes = tuple(labels.shape), tuple(scores.shape)
        if (len(shapes[0]), len(shapes[1])) != (2, 3) or shapes[0][-1] != 2 or shapes[1][-1] != 2:
            raise ConfigError(
                f"{self.name}: labels of shape {shapes[0]} and scores of shape {shapes[1]}; expected (texts, 2) and "
                "(texts, tokens, 2), for start and end"
            )
        return super().__call__(labels, scores, sample_weight)

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        """Positions (B, 2) and scores (B, T, 2) to values (B,)."""
        scores, ids = ops.transpose(finite(y_pred), (0, 2, 1)), class_ids(y_true)
        tokens = ops.shape(scores)[-1]
        right = take_class(scores, ops.clip(ids, 0, tokens - 1))
        # Relative to the right score: exact when the model is sure, at any size of the scores.
        costs = log_sum_exp(scores - ops.expand_dims(right, -1))
        costs = ops.where(ops.logical_and(visible(right), ids < tokens), costs, LARGEST)
        return ops.mean(ops.where(ids < 0, 0.0, costs), -1)

    def disagreement(self, y_true: Tensor, first: Tensor, second: Tensor) -> Tensor:
        """Between two predictions, the mean of start and end: (B, T, 2) twice, to (B,)."""
        first, second = (ops.transpose(finite(scores), (0, 2, 1)) for scores in (first, second))
        return ops.mean(softmax_divergence(first, second), -1)
