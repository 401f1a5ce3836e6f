"""Batches of questions whose choices stand side by side, each a row of its own."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from qingformer.data import PaddedBatches
from qingformer.data.packed import PackedFeatures
from qingformer.errors import ConfigError, DataError
from qingformer.losses.loss import MEAN, Loss, as_array
from qingformer.ops.classes import HIDDEN, finite, log_sum_exp
from qingformer.ops.divergence import softmax_divergence
from qingformer.types import Config, Nest


class ChoiceBatches(PaddedBatches):
    """`PaddedBatches` of questions: `choices` rows for each, side by side; those of a missing choice are padding.

    Item i is `(inputs, labels, sample_weights)`: inputs (batch_size * choices, T); labels (batch_size * choices, 1)
    int32, 1 at the right choice, 0 at the others, -1 where there is none; weights the question's in each of its rows.

    Args:
        questions: for each question the features of its choices.
        answers: the number of the right one for each, or None for prediction.
        choices: rows of a question; at least as many as any has choices.
        options: those of `PaddedBatches`; `batch_size` counts questions.

    Raises:
        DataError: a question with more choices, or with none; and as `PaddedBatches`.
    """

    def __init__(
        self, questions: Sequence[Sequence[Any]], answers: Any, weights: Any = None, *, choices: int, **options: Any
    ) -> None:
        self.choices = choices
        for number, each in enumerate(questions):
            if not 1 <= len(each) <= choices:
                raise DataError(f"question {number} has {len(each)} choices; expected 1 to {choices}")
        longest = [max(each, key=lambda feature: len(feature.token_ids)) for each in questions]
        super().__init__(longest, answers, weights, **options)
        features = [feature for each in questions for feature in each]
        self._rows = PackedFeatures(features, max_length=self.buckets[-1], token_types=self.token_types)
        counts = np.array([len(each) for each in questions])
        firsts = np.cumsum(counts) - counts
        places = np.arange(choices)
        self._table = np.where(places < counts[:, None], firsts[:, None] + places, -1)

    def _item(self, index: int) -> tuple[Any, ...]:
        plan = self._plan_of(self.epoch)
        rows, length = plan.rows[self._first + index], int(plan.lengths[self._first + index])
        _, *rest = super()._item(index)
        table = np.where(rows[:, None] >= 0, self._table[rows], -1)
        found = self._rows.gather(table.reshape(-1), length, self.pad_token_id)
        inputs = {name: array for name, array in found.items() if name in self.inputs}
        if not rest:
            return (inputs,)
        answers, weights = rest
        labels = np.where(table >= 0, np.arange(self.choices) == answers[:, None], -1)
        return inputs, labels.reshape(-1, 1).astype(np.int32), np.repeat(weights, self.choices)


@keras.saving.register_keras_serializable("qingformer")
class ChoiceCrossentropy(Loss):
    """Cross-entropy of the choices of a question, whose scores are rows side by side: -log softmax(s)[right].

    Args:
        choices: rows of a question.
        reduction, name: as in Keras; the mean is over the questions.

    Labels (B * choices, 1): 1 at the right choice, 0 at the others, -1 where there is none; scores (B * choices, 1)
    float; values (B,) float32. Weights (B * choices,), of which the first of each question counts. Raises `ConfigError`
    for fewer than two choices, and for rows that are no whole questions: `GradientAccumulation` must cut a batch
    between questions.

    Example:
        >>> loss = ChoiceCrossentropy(choices=2)
        >>> value = loss([[1.0], [0.0]], [[2.0], [-1.0]])
    """

    def __init__(self, choices: int, reduction: str | None = MEAN, name: str | None = "choice_crossentropy") -> None:
        if choices < 2:
            raise ConfigError(f"ChoiceCrossentropy: {choices} choices; a question has at least 2")
        super().__init__(reduction, name)
        self.choices = int(choices)
        self.class_axes = 2

    def __call__(self, y_true: object, y_pred: object, sample_weight: Nest = None) -> Any:
        """The reduced loss."""
        rows = as_array(y_pred).shape[0]
        if rows is not None and rows % self.choices:
            raise ConfigError(
                f"{self.name}: {rows} rows are not a whole number of questions with {self.choices} choices; batch_size "
                "must be a multiple of the parts of GradientAccumulation"
            )
        return super().__call__(y_true, y_pred, self.entry_weights(y_true, y_pred, sample_weight))

    def entry_weights(self, y_true: object, y_pred: object, sample_weight: Nest = None) -> Any:
        """The weights of the questions, (B,)."""
        if sample_weight is None:
            return None
        return ops.reshape(ops.convert_to_tensor(sample_weight, dtype="float32"), (-1, self.choices))[:, 0]

    def call(self, y_true: object, y_pred: object) -> Any:
        """Labels and scores of rows to values of questions."""
        labels = ops.reshape(ops.cast(y_true, "float32"), (-1, self.choices))
        scores = finite(ops.reshape(y_pred, (-1, self.choices)))
        there = labels >= 0
        right = ops.sum(ops.where(labels > 0, scores, 0.0), -1)
        known = ops.any(labels > 0, -1)
        return ops.where(known, log_sum_exp(scores - right[:, None], there), 0.0)

    def disagreement(self, y_true: object, first: object, second: object) -> Any:
        """Between two predictions of the choices of each question: rows, to (B,)."""
        there = ops.reshape(ops.cast(y_true, "float32"), (-1, self.choices)) >= 0
        first, second = (finite(ops.reshape(scores, (-1, self.choices))) for scores in (first, second))
        return softmax_divergence(ops.where(there, first, HIDDEN), ops.where(there, second, HIDDEN))

    def get_config(self) -> Config:
        return {**super().get_config(), "choices": self.choices}
