"""Cross-entropy with the frequencies of the classes taken out of what the model has to learn."""

from collections.abc import Sequence
from typing import Any, Self

import keras
import numpy as np
from keras import ops

from qingformer.errors import ConfigError
from qingformer.losses.loss import MEAN, ClassLoss
from qingformer.ops.classes import finite, log_softmax
from qingformer.types import Config, Tensor


@keras.saving.register_keras_serializable("qingformer")
class LogitAdjustedCrossentropy(ClassLoss):
    """Cross-entropy of the logits plus the log-frequency of the classes, which the logits then need not contain.

        L = -log softmax(s + tau log prior)_y

    At tau = 1 the best s is log p(x | y) + const: the mutual information of text and class. Predict with the largest s
    for balanced accuracy and macro F1, with the largest s + tau log prior (`adjust`) for the usual accuracy.
    A margin view of the same: a rare class y is pushed away by m_y = -tau log prior_y.

    Args:
        prior: a frequency for each class, positive; scaled to sum 1. None to have it counted by whoever trains
            (`TextClassifier.fit` does, by `for_labels`).
        tau: strength, >= 0; 0 is cross-entropy.
        reduction, name: as in Keras.

    Labels whole numbers (...) - negative ones cost nothing - or (..., C) float; logits (..., C); values (...) float32.
    Raises `ConfigError` for frequencies that are not positive, and in use without a prior.

    Source: Menon et al. 2020, arXiv 2007.07314; 科学空间 archives/7708 for the margin view.

    Example:
        >>> loss = LogitAdjustedCrossentropy.from_labels([0, 0, 0, 1], 2)
        >>> value = loss([1], [[0.5, 2.0]])
        >>> usual = loss.adjust([[0.5, 2.0]])
    """

    def __init__(
        self,
        prior: Sequence[float] | None = None,
        tau: float = 1.0,
        reduction: str | None = MEAN,
        name: str | None = "logit_adjusted_crossentropy",
    ) -> None:
        super().__init__(reduction, name)
        if not 0 <= tau < float("inf"):
            raise ConfigError(f"{type(self).__name__}: tau is {tau}; it must be a finite number that is not negative")
        self.tau = float(tau)
        self.prior = None if prior is None else _frequencies(prior)

    @classmethod
    def from_labels(cls, labels: Any, num_classes: int | None = None, **options: Any) -> Self:
        """The loss for the frequencies of `labels` (n,), integer; a class that does not occur counts as one example."""
        counts = np.bincount(np.asarray(labels, "int64"), minlength=num_classes or 0)
        # A class that does not occur counts as one example: its logarithm must be finite.
        return cls(np.maximum(counts, 1).tolist(), **options)

    def for_labels(self, labels: Tensor, num_classes: int) -> "LogitAdjustedCrossentropy":
        """This loss if it has a prior, else the one whose prior is counted in the training `labels` (n,)."""
        if self.prior is not None:
            return self
        return self.from_labels(labels, num_classes, tau=self.tau, reduction=self.reduction, name=self.name)

    def costs(self, logits: Tensor) -> Tensor:
        """Cross-entropy of the adjusted logits for each possible class, (..., C)."""
        return -log_softmax(self.adjust(logits))

    def adjust(self, logits: Tensor) -> Tensor:
        """s + tau log prior, the logits of the usual prediction: (..., C) logits or log-probabilities, to (..., C)."""
        if self.prior is None:
            raise ConfigError(f"{type(self).__name__} has no prior; give one, or use from_labels(labels, num_classes)")
        if logits is not None and np.shape(logits)[-1] != len(self.prior):
            raise ConfigError(
                f"{type(self).__name__}: the prior has {len(self.prior)} classes, the logits {np.shape(logits)[-1]}"
            )
        shift = self.tau * np.log(np.array(self.prior, "float64"))
        return finite(logits) + ops.convert_to_tensor(shift.astype("float32"))

    def get_config(self) -> Config:
        return {**super().get_config(), "prior": self.prior, "tau": self.tau}


def _frequencies(prior: Sequence[float]) -> list[float]:
    values = np.asarray(prior, "float64")
    if values.ndim != 1 or not len(values) or not np.all(np.isfinite(values) & (values > 0)):
        bad = values[~(np.isfinite(values) & (values > 0))] if values.ndim == 1 else values
        raise ConfigError(
            f"LogitAdjustedCrossentropy: the prior needs one positive frequency for each class, got {bad.tolist()}"
        )
    # Numbers that sum to 1 already come back to the bit, so that a saved loss is the same loss.
    total = values.sum()
    return (values if abs(total - 1) < 1e-12 else values / total).tolist()
