"""Tags that know nothing of one another: softmax at each token, behind the face of the linear chains."""

from typing import Any

import keras
import numpy as np
from keras import ops

from qingformer.layers.linear_chain import LinearChain
from qingformer.ops.chain_algorithms import Chain
from qingformer.ops.classes import finite, log_softmax, log_sum_exp, take_class
from qingformer.types import Config, Options, Tensor


@keras.saving.register_keras_serializable("qingformer")
class IndependentTags(LinearChain):
    """Softmax tagging, p(y_k) = softmax of f_k: a chain whose transitions are all 0, without weights.

        score(y) = sum_k f_k[y_k],   loss: -log p(y_k), the mean over the tokens that have a label

    Used as `ConditionalRandomField` is. `decode` takes the best tag of each token; with `allowed`, the best path among
    those that the rules let through. The emissions f (B, T, L) are the input and, in float32, the output. Labels
    (B, T), negative where a token has none, and weights (B,) or (B, T). Raises `ConfigError` where shapes do not fit.

    Source: Collobert et al. 2011, arXiv 1103.0398 (the word-level likelihood).

    Example:
        >>> tagger = IndependentTags()
        >>> model = keras.Model(inputs, tagger(keras.layers.Dense(9)(hidden)))
        >>> model.compile("adam", loss=tagger.loss)  # labels (B, T), -1 at padding
        >>> tags, scores = tagger.decode(model.predict(x), mask)
    """

    loss_by_token = True

    def __init__(self, **kwargs: object) -> None:
        super().__init__(1.0, "zeros", **kwargs)

    def add_scores(self) -> None:
        """No weights."""

    def transition_scores(self) -> Tensor:
        """Zeros (L, L) float32."""
        return ops.zeros((self.num_tags, self.num_tags), "float32")

    def loss_values(self, tags: Tensor, mask: Tensor, emissions: Tensor) -> Tensor:
        """Cross-entropy of each token: (B, T) float32, 0 where masked."""
        scores = finite(emissions)
        # Relative to the score of the label: exact when the model is sure, at any size of the scores.
        return ops.where(mask, log_sum_exp(scores - ops.expand_dims(take_class(scores, tags), -1)), 0.0)

    def decode(
        self, emissions: Tensor, mask: Tensor = None, allowed: tuple[Any, Any, Any] | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """The best tag of each token, or with `allowed` the best path by Viterbi's algorithm; arguments, results and
        errors as in `ConditionalRandomField.decode`. Of tags with equal scores the one with the lower number.

        Example: `tags, scores = tagger.decode(model.predict(x), mask)`
        """
        if allowed is not None:
            return super().decode(emissions, mask, allowed)
        given = self._checked(emissions, mask)
        tags, scores = self._program(_best)(*given, self.transition_scores())
        return ops.convert_to_numpy(tags), ops.convert_to_numpy(scores)

    def marginals(self, emissions: Tensor, mask: Tensor = None) -> np.ndarray:
        """Probability of each tag at each token: (B, T, L) to (B, T, L) float32, 0 where masked.

        Example: `tagger.marginals(model.predict(x), mask).max(-1)` says how sure each token is
        """
        given = self._checked(emissions, mask)
        return ops.convert_to_numpy(self._program(_probabilities)(*given, self.transition_scores()))

    def get_config(self) -> Config:
        settings: Options = super().get_config()
        return {name: value for name, value in settings.items() if name not in ("lr_multiplier", "initializer")}


def _best(chain: Chain) -> tuple[Tensor, Tensor]:
    """Tags (B, T) int32, -1 where masked, and the sums of their scores (B,)."""
    tags = ops.where(chain.mask, ops.cast(ops.argmax(chain.emissions, -1), "int32"), -1)
    return ops.transpose(tags), ops.sum(ops.where(chain.mask, ops.max(chain.emissions, -1), 0.0), 0)


def _probabilities(chain: Chain) -> Tensor:
    found = ops.where(ops.expand_dims(chain.mask, -1), ops.exp(log_softmax(chain.emissions)), 0.0)
    return ops.transpose(found, (1, 0, 2))
