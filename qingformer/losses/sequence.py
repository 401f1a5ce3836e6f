"""Cross-entropy of the tokens of language models, averaged over the tokens of the whole batch."""

import keras
import numpy as np
from keras import ops

from qingformer.errors import ConfigError
from qingformer.losses.label_smoothing import checked_smoothing
from qingformer.losses.loss import WEIGHTED_MEAN, Loss, of_classes
from qingformer.ops.classes import class_ids, finite, log_sum_exp, take_class, visible
from qingformer.types import Config, Nest, Tensor

IGNORE = -100


@keras.saving.register_keras_serializable("qingformer")
class SequenceCrossentropy(Loss):
    """Each position predicts the token `shift` places on; the mean is over all predicted tokens of the batch.

        L = sum_{b,t} w_bt CE(logits_b[t - shift], token_bt) / sum_{b,t} w_bt

    and not the mean of the means of the rows: so a batch has the loss of its tokens, however they are divided. Labels
    are the token ids that went in. The weights of the tokens are `sample_weight`, (B, T) at the place of the token
    (not of the position that predicts it) or (B,), times 0 where the label is `ignore_index` or negative:

    - language model: `fit(inputs, token_ids, sample_weight=padding_mask)`;
    - UniLM, prefix and seq2seq in one row: `fit(inputs, token_ids, sample_weight=segment_ids)`;
    - weights for rows besides: `fit(inputs, sequence_targets(token_ids, segment_ids), sample_weight=weights_of_rows)`;
    - masked language model, tagging, a decoder that was given shifted inputs: `shift=0`.

    Args:
        shift: how many places on the predicted token stands.
        label_smoothing: share of the uniform distribution, as in `LabelSmoothedCrossentropy`.
        ignore_index: the label that is not predicted.
        reduction: Keras'; the default "mean_with_sample_weight" is the formula above, "sum" its numerator,
            "sum_over_batch_size" divides by B (T - shift), "none" gives weighted values (B, T - shift).
        name: as in Keras.

    Labels (B, T) whole numbers, logits (B, T, V). Raises `ConfigError` for a negative shift, a label smoothing outside
    of [0, 1), or sequences that are too short.

    Source: 科学空间 archives/6933; Dong et al. 2019 (UniLM), arXiv 1905.03197.

    Example:
        >>> loss = SequenceCrossentropy()
        >>> value = loss([[2, 1, 0]], [[[0.0, 3.0, 0.0], [3.0, 0.0, 0.0], [0.0, 0.0, 0.0]]])
    """

    def __init__(
        self,
        shift: int = 1,
        label_smoothing: float = 0.0,
        ignore_index: int = IGNORE,
        reduction: str | None = WEIGHTED_MEAN,
        name: str | None = "sequence_crossentropy",
    ) -> None:
        super().__init__(reduction, name)
        if shift < 0 or int(shift) != shift:
            raise ConfigError(f"SequenceCrossentropy: shift is {shift}; it must be a whole number, 0 or more")
        self.shift, self.ignore_index = int(shift), int(ignore_index)
        self.label_smoothing = checked_smoothing("SequenceCrossentropy", label_smoothing)

    def __call__(self, y_true: Tensor, y_pred: Tensor, sample_weight: Nest = None) -> Tensor:
        """The mean over the predicted tokens; weights (B,) or (B, T)."""
        ids = class_ids(ops.convert_to_tensor(y_true))
        logits = ops.convert_to_tensor(y_pred)
        length = logits.shape[1]
        if len(ids.shape) != 2 or len(logits.shape) != 3 or (length is not None and length <= self.shift):
            raise ConfigError(
                f"SequenceCrossentropy: expected token ids (B, T) and logits (B, T, V) with T > {self.shift}, "
                f"not {tuple(ids.shape)} and {tuple(logits.shape)}"
            )
        end = ops.shape(logits)[1] - self.shift
        weights = self.entry_weights(ids, logits, sample_weight)
        return super().__call__(ids[:, self.shift :], logits[:, :end], weights)

    def entry_weights(self, y_true: Tensor, y_pred: Tensor, sample_weight: Nest = None) -> Tensor:
        """The weights of the predicted tokens, (B, T - shift)."""
        ids = class_ids(ops.convert_to_tensor(y_true))
        counted = ops.cast(ops.logical_and(ids >= 0, ids != self.ignore_index), "float32")
        weights = counted if sample_weight is None else counted * _as_columns(sample_weight)
        return weights[:, self.shift :]

    def disagreement(self, y_true: Tensor, first: Tensor, second: Tensor) -> Tensor:
        """Between two predictions of the tokens, (B, T - shift)."""
        end = ops.shape(first)[1] - self.shift
        return of_classes(y_true[:, self.shift :], first[:, :end], second[:, :end])

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        """Cross-entropy of each position with the label at the same place: (B, T) and (B, T, V) to (B, T)."""
        logits, ids = finite(y_pred), class_ids(y_true)
        total = log_sum_exp(logits)
        # Only the chosen logit is looked up: nothing of the size of the logits is made for the labels.
        cost = total - take_class(logits, ops.where(ids == self.ignore_index, 0, ops.maximum(ids, 0)))
        if not self.label_smoothing:
            return cost
        seen = visible(logits)
        count = ops.maximum(ops.sum(ops.cast(seen, "float32"), -1), 1.0)
        uniform = total - ops.sum(ops.where(seen, logits, 0.0), -1) / count
        return (1.0 - self.label_smoothing) * cost + self.label_smoothing * uniform

    def get_config(self) -> Config:
        names = ("shift", "label_smoothing", "ignore_index")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


def sequence_targets(
    token_ids: Tensor, segment_ids: Tensor = None, padding_mask: Tensor = None, ignore_index: int = IGNORE
) -> np.ndarray:
    """Labels of `SequenceCrossentropy`: the token ids (B, T), `ignore_index` where the source or the padding is.

    `segment_ids` (B, T): 0 for what is given, 1 for what is predicted; `padding_mask` (B, T): 0 for padding. Either may
    be None. Returns (B, T) int32.

    Example:
        >>> sequence_targets([[101, 7, 102, 8, 102, 0]], [[0, 0, 0, 1, 1, 0]]).tolist()
        [[-100, -100, -100, 8, 102, -100]]
    """
    targets = np.asarray(token_ids).astype("int32")
    for mask in (segment_ids, padding_mask):
        if mask is not None:
            targets = np.where(np.asarray(mask) > 0, targets, np.int32(ignore_index))
    return targets


def _as_columns(sample_weight: Nest) -> Tensor:
    weights = ops.convert_to_tensor(sample_weight, dtype="float32")
    return ops.expand_dims(weights, -1) if len(weights.shape) == 1 else weights
