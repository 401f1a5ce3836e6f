"""Layers that score sequences of tags: the conditional random field and the maximum-entropy Markov model."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from qingformer import backend
from qingformer.errors import ConfigError
from qingformer.losses.loss import MEAN, WEIGHTED_MEAN, Loss, as_array
from qingformer.ops import chain_algorithms
from qingformer.ops.classes import LARGEST, class_ids, finite, log_sum_exp, take_class
from qingformer.ops.divergence import softmax_divergence
from qingformer.types import Config, InitializerLike, Nest, Tensor


@keras.saving.register_keras_serializable("qingformer")
class ChainLoss(Loss):
    """The loss of a layer that scores paths of tags; it reads the transitions of the layer whenever it is called.

    Labels (B, T), negative at padding; the tokens that have one stand side by side in each row. Emissions (B, T, L).
    """

    def __init__(self, layer: "LinearChain", reduction: str | None, name: str | None = None) -> None:
        super().__init__(reduction, name or f"{layer.name}_loss")
        # The method, not the layer: Keras would save the layer's weights as the loss's.
        self._values, self._layer_name = layer.loss_values, layer.name
        self._by_token = layer.loss_by_token
        self.class_axes = 1 if layer.loss_by_token else 2

    def __call__(self, y_true: Tensor, y_pred: Tensor, sample_weight: Nest = None) -> Tensor:
        """The reduced loss; `sample_weight` (B,), and (B, T) where the loss is one of tokens."""
        labels, emissions = as_array(y_true), as_array(y_pred)
        labels = ops.squeeze(labels, -1) if len(labels.shape) == 3 else labels
        if len(labels.shape) != 2 or len(emissions.shape) != 3:
            raise ConfigError(
                f"{self.name}: labels of shape {tuple(labels.shape)} and emissions of shape {tuple(emissions.shape)}; "
                "expected (texts, tokens) and (texts, tokens, tags)"
            )
        return super().__call__(labels, emissions, self.entry_weights(labels, emissions, sample_weight))

    def entry_weights(self, y_true: Tensor, y_pred: Tensor, sample_weight: Nest = None) -> Tensor | None:
        """The weights of the texts (B,), or of the tokens (B, T)."""
        if not self._by_token:
            return sample_weight
        counted = self._labelled(y_true)
        if sample_weight is not None:
            weights = ops.convert_to_tensor(sample_weight, dtype="float32")
            counted = counted * (weights if len(weights.shape) == 2 else ops.reshape(weights, (-1, 1)))
        return counted

    def disagreement(self, y_true: Tensor, first: Tensor, second: Tensor) -> Tensor:
        """Between two predictions of tags, of the tokens (B, T), or for losses of paths their sum in each text (B,)."""
        values = self._labelled(y_true) * softmax_divergence(finite(first), finite(second))
        return values if self._by_token else ops.sum(values, -1)

    def _labelled(self, labels: Tensor) -> Tensor:
        labels = ops.squeeze(labels, -1) if len(labels.shape) == 3 else labels
        return ops.cast(labels >= 0, "float32")

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        """Values of the texts (B,), or of the tokens (B, T)."""
        ids = class_ids(y_true)
        return self._values(ops.maximum(ids, 0), ids >= 0, y_pred)

    def get_config(self) -> Config:
        """Keras' settings and the name of the layer, by which `TrainableModel` finds it."""
        return {**super().get_config(), "layer": self._layer_name}

    @classmethod
    def from_config(cls, config: Config) -> "ChainLoss":
        """Raises `ConfigError`: a loss from a file does not know its layer; only the model that holds it does."""
        raise ConfigError(
            f"{config['name']} reads the transitions of a layer, which a file cannot say: load the model with "
            "compile=False, then compile it with `loss=model.get_layer(...).loss`"
        )


class LinearChain(keras.layers.Layer):
    """What layers have in common whose score of a path is sum_k f_k[y_k] + sum_{k>1} g[y_{k-1}, y_k].

    A layer hands the emissions f (B, T, L) on in float32 and owns g, shape (L, L) with the row for the tag before. It
    is trained with `loss=layer.loss` and asked for tags with `layer.decode`. Weights are stored divided by
    `lr_multiplier` and act multiplied by it.
    """

    loss_by_token = False

    def __init__(
        self, lr_multiplier: float = 1.0, initializer: InitializerLike = "glorot_uniform", **kwargs: object
    ) -> None:
        super().__init__(**kwargs)
        if not 0 < lr_multiplier < float("inf"):
            raise ConfigError(f"{self.name}: lr_multiplier is {lr_multiplier}; expected a number above 0")
        self.lr_multiplier = float(lr_multiplier)
        self.initializer = keras.initializers.get(initializer)
        self._programs: dict[Any, Callable[..., Any]] = {}
        self._loss = ChainLoss(self, WEIGHTED_MEAN if self.loss_by_token else MEAN)

    def build(self, emissions_shape: tuple[Any, ...]) -> None:
        self.num_tags = emissions_shape[-1]
        if len(emissions_shape) != 3 or self.num_tags is None:
            raise ConfigError(f"{self.name}: emissions of shape {emissions_shape}; expected (texts, tokens, tags)")
        self.add_scores()

    def add_scores(self) -> None:
        """Make the weights; here g (L, L) alone."""
        self.transitions = self.add_stored("transitions", self.num_tags)

    def add_stored(self, name: str, *more: int, initializer: Any = None) -> keras.Variable:
        """A float32 weight (L, *more) that acts `lr_multiplier` times as strongly as it is stored."""
        start = self.initializer.clone() if initializer is None else initializer
        return self.add_weight(
            name=name,
            shape=(self.num_tags, *more),
            initializer=lambda shape, dtype=None: start(shape, dtype=dtype) / self.lr_multiplier,
            autocast=False,
            dtype="float32",
        )

    def acting(self, weight: keras.Variable) -> Tensor:
        """A weight of `add_stored` as it acts: float32, of its shape."""
        return ops.convert_to_tensor(weight) * self.lr_multiplier

    def call(self, emissions: Tensor) -> Tensor:
        """Emissions (B, T, L) in float32, unchanged."""
        return ops.cast(emissions, "float32")

    def compute_output_spec(self, emissions: Tensor) -> keras.KerasTensor:
        return keras.KerasTensor(emissions.shape, dtype="float32")

    def get_config(self) -> Config:
        initializer = keras.initializers.serialize(self.initializer)
        return {**super().get_config(), "lr_multiplier": self.lr_multiplier, "initializer": initializer}

    @property
    def loss(self) -> ChainLoss:
        """For `compile(loss=layer.loss)`: the mean over the texts of the batch, or over the tokens with a label."""
        return self._loss

    def loss_values(self, tags: Tensor, mask: Tensor, emissions: Tensor) -> Tensor:
        """Loss of each text (B,) or token (B, T): `tags` int32 (B, T) in [0, L), `mask` bool (B, T), `emissions`."""
        raise TypeError(f"{type(self).__name__} does not define its loss")

    def transition_scores(self) -> Tensor:
        """g (L, L) float32 as it acts."""
        return self.acting(self.transitions)

    def boundary_scores(self) -> tuple[Tensor | None, Tensor | None]:
        """Scores (L,) of the first and of the last tag, where the layer has them."""
        return None, None

    def decode(
        self,
        emissions: Tensor,
        mask: Tensor = None,
        allowed: tuple[Any, Any, Any] | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """The best path of each text by Viterbi's algorithm, compiled.

        `emissions` (B, T, L), `mask` (B, T) true for the tokens that count (one run in each row); `allowed` are three
        bool arrays: which tag may follow which (L, L), which may begin and which may end a text (L,). Returns tags
        (B, T) int32, -1 where masked, and the scores of the paths (B,) float32. Raises `ConfigError` where the shapes
        do not fit.

        Example: `tags, scores = crf.decode(model.predict(x), mask)`
        """
        given = self._checked(emissions, mask)
        transitions, (start, end) = self.transition_scores(), self.boundary_scores()
        if allowed is not None:
            transitions, start, end = self._within(allowed, transitions, start, end)
        tags, scores = self._program(chain_algorithms.viterbi)(*given, transitions, start, end)
        return ops.convert_to_numpy(tags), ops.convert_to_numpy(scores)

    def _program(self, function: Callable[..., Any]) -> Callable[..., Any]:
        if function not in self._programs:
            self._programs[function] = backend.compile(
                lambda emissions, mask, *scores: function(
                    chain_algorithms.make_chain(emissions, scores[0], mask, *scores[1:])
                )
            )
        return self._programs[function]

    def _checked(self, emissions: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        if not self.built:
            raise ConfigError(
                f"{self.name} has no transitions yet: call it, or the model that it stands in, once first"
            )
        emissions = ops.convert_to_tensor(emissions, dtype="float32")
        if len(emissions.shape) != 3 or emissions.shape[-1] != self.num_tags:
            raise ConfigError(
                f"{self.name} scores {self.num_tags} tags, but the emissions have shape {tuple(emissions.shape)}; "
                f"expected (texts, tokens, {self.num_tags})"
            )
        if mask is None:
            return emissions, ops.ones(tuple(emissions.shape[:2]), "bool")
        mask = ops.convert_to_numpy(mask).astype(bool)
        if mask.shape != tuple(emissions.shape[:2]):
            raise ConfigError(f"{self.name}: the mask has shape {mask.shape}; expected {tuple(emissions.shape[:2])}")
        holes = (np.diff(mask.astype("int8"), axis=1, prepend=0) == 1).sum(1) > 1
        if holes.any():
            raise ConfigError(
                f"{self.name}: the mask of text {int(holes.argmax())} has holes; take the tokens that have tags first, "
                "so that they stand side by side"
            )
        return emissions, ops.convert_to_tensor(mask)

    def _within(self, allowed: tuple[Any, Any, Any], *scores: Tensor | None) -> list[Tensor]:
        shapes = ((self.num_tags, self.num_tags), (self.num_tags,), (self.num_tags,))
        if len(allowed) != 3:
            raise ConfigError(
                f"{self.name}: allowed has {len(allowed)} arrays; expected transitions, first and last tags"
            )
        found = []
        for given, score, shape, what in zip(allowed, scores, shapes, ("transitions", "first tags", "last tags")):
            may = np.asarray(given)
            if may.shape != shape or may.dtype != bool:
                raise ConfigError(
                    f"{self.name}: allowed {what} are {may.dtype} of shape {may.shape}; expected bool of shape {shape}"
                )
            found.append(ops.where(may, 0.0 if score is None else score, -LARGEST))
        return found


@keras.saving.register_keras_serializable("qingformer")
class ConditionalRandomField(LinearChain):
    """A linear-chain conditional random field: p(y|x) = e^(score of y) / sum over all paths of e^score.

        score(y) = sum_k f_k[y_k] + sum_{k>1} g[y_{k-1}, y_k]   [+ start[y_1] + end[y_n]]

    The emissions f (B, T, L) are the input and, in float32, the output; `loss` is the negative log-likelihood of a
    text, not divided by its length. Sums run in float32 relative to the gold path, so lengths of 512 and scores of 1e4
    are safe.

    Args:
        use_boundary_scores: learn scores of the first and the last tag too; off, as in the original.
        lr_multiplier: g is stored divided by it and acts multiplied: under Adam and its kin g moves so many times
            faster, under SGD with its square. At 1, beside an encoder trained at 1e-5, g hardly leaves its start.
            `qingformer.optimizers.LayerwiseLearningRate(optimizer, {"crf": 100})` does the same from outside.
        initializer: of g as it acts.

    Sources: Lafferty, McCallum, Pereira 2001; 科学空间 archives/5542, archives/7196 (the rate).

    Example:
        >>> crf = ConditionalRandomField(lr_multiplier=100)
        >>> model = keras.Model(inputs, crf(keras.layers.Dense(9)(hidden)))
        >>> model.compile("adam", loss=crf.loss)  # labels (B, T), -1 at padding
        >>> tags, scores = crf.decode(model.predict(x), mask)
    """

    def __init__(
        self,
        use_boundary_scores: bool = False,
        lr_multiplier: float = 1.0,
        initializer: InitializerLike = "glorot_uniform",
        **kwargs: object,
    ) -> None:
        super().__init__(lr_multiplier, initializer, **kwargs)
        self.use_boundary_scores = bool(use_boundary_scores)

    def add_scores(self) -> None:
        """g, and with `use_boundary_scores` start and end (L,), which begin at 0."""
        super().add_scores()
        if self.use_boundary_scores:
            self.start = self.add_stored("start", initializer=keras.initializers.Zeros())
            self.end = self.add_stored("end", initializer=keras.initializers.Zeros())

    def boundary_scores(self) -> tuple[Tensor | None, Tensor | None]:
        """start and end (L,) as they act, or None."""
        if not self.use_boundary_scores:
            return None, None
        return self.acting(self.start), self.acting(self.end)

    def loss_values(self, tags: Tensor, mask: Tensor, emissions: Tensor) -> Tensor:
        """-log p(tags | emissions) of each text: (B,) float32."""
        chain = chain_algorithms.make_chain(emissions, self.transition_scores(), mask, *self.boundary_scores())
        return chain_algorithms.negative_log_likelihood(chain, tags)

    def marginals(self, emissions: Tensor, mask: Tensor = None) -> np.ndarray:
        """Probability of each tag at each token over all paths: (B, T, L) to (B, T, L) float32, 0 where masked.

        Example: `crf.marginals(model.predict(x), mask).max(-1)` says how sure each token is
        """
        given = self._checked(emissions, mask)
        found = self._program(chain_algorithms.marginals)(*given, self.transition_scores(), *self.boundary_scores())
        return ops.convert_to_numpy(found)

    def get_config(self) -> Config:
        return {**super().get_config(), "use_boundary_scores": self.use_boundary_scores}


@keras.saving.register_keras_serializable("qingformer")
class MaximumEntropyMarkovModel(LinearChain):
    """A chain normalised at each step, p(y|x) = p(y_1) prod_k p(y_k | y_{k-1}), which needs no loop in training.

        left to right:  p(y_k | y_{k-1}) = softmax over y_k of f_k[y_k] + g[y_{k-1}, y_k],  p(y_1) = softmax of f_1
        right to left:  p(y_k | y_{k+1}) = softmax over y_k of f_k[y_k] + g[y_k, y_{k+1}],  p(y_n) = softmax of f_n

    `loss` is the cross-entropy of each token, in both directions the mean of the two; decoding is that of a conditional
    random field with the same f and g. All steps of training run at once, so it is faster than the random field, and in
    the article as good where the encoder is strong.

    Args:
        bidirectional: both directions, the default as in the article; otherwise left to right alone.
        rank: g = left right^T with two matrices (L, rank), for many tags; None for a full g.
        lr_multiplier: as in `ConditionalRandomField`, for each factor where g has two.
        initializer: of g, or of its factors, as they act.

    The loss is the mean over the tokens that have a label. The original layer halves the scores of each step but the
    first; ours does not.

    Sources: McCallum, Freitag, Pereira 2000; 科学空间 archives/7213.

    Example:
        >>> memm = MaximumEntropyMarkovModel()
        >>> model = keras.Model(inputs, memm(keras.layers.Dense(9)(hidden)))
        >>> model.compile("adam", loss=memm.loss)  # labels (B, T), -1 at padding
    """

    loss_by_token = True

    def __init__(
        self,
        bidirectional: bool = True,
        rank: int | None = None,
        lr_multiplier: float = 1.0,
        initializer: InitializerLike = "glorot_uniform",
        **kwargs: object,
    ) -> None:
        super().__init__(lr_multiplier, initializer, **kwargs)
        if rank is not None and rank < 1:
            raise ConfigError(f"{self.name}: rank is {rank}; expected at least 1, or None for full transitions")
        self.bidirectional = bool(bidirectional)
        self.rank = rank

    def add_scores(self) -> None:
        """g (L, L), or its factors (L, rank)."""
        if self.rank is None:
            super().add_scores()
        else:
            self.left, self.right = self.add_stored("left", self.rank), self.add_stored("right", self.rank)

    def transition_scores(self) -> Tensor:
        """g (L, L) float32 as it acts."""
        if self.rank is None:
            return super().transition_scores()
        return ops.matmul(self.acting(self.left), ops.transpose(self.acting(self.right)))

    def loss_values(self, tags: Tensor, mask: Tensor, emissions: Tensor) -> Tensor:
        """Cross-entropy of each token: (B, T) float32, 0 where masked."""
        emissions = finite(emissions)
        onward, back = self._histories()
        value = self._direction(emissions, tags, mask, onward(_shifted(tags, 1)), _shifted(mask, 1))
        if self.bidirectional:
            other = self._direction(emissions, tags, mask, back(_shifted(tags, -1)), _shifted(mask, -1))
            value = (value + other) / 2
        return value

    def _histories(self) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
        """What a neighbour adds to the scores of a step: functions of its tag (B, T) to (B, T, L), one a direction."""
        if self.rank is None:
            scores = self.transition_scores()
            turned = ops.transpose(scores)
            return lambda tag: ops.take(scores, tag, axis=0), lambda tag: ops.take(turned, tag, axis=0)
        left, right = self.acting(self.left), self.acting(self.right)
        return (
            lambda tag: ops.matmul(ops.take(left, tag, axis=0), ops.transpose(right)),
            lambda tag: ops.matmul(ops.take(right, tag, axis=0), ops.transpose(left)),
        )

    def _direction(self, emissions: Tensor, tags: Tensor, mask: Tensor, history: Tensor, linked: Tensor) -> Tensor:
        scores = emissions + ops.where(ops.expand_dims(linked, -1), history, 0.0)
        return ops.where(mask, log_sum_exp(scores) - take_class(scores, tags), 0.0)

    def get_config(self) -> Config:
        return {**super().get_config(), "bidirectional": self.bidirectional, "rank": self.rank}


def _shifted(x: Tensor, by: int) -> Tensor:
    """`x` (B, T) with each entry's neighbour in its place, from the left (1) or the right (-1); zeros come in."""
    nothing = ops.zeros_like(x[:, :1])
    return ops.concatenate([nothing, x[:, :-1]] if by > 0 else [x[:, 1:], nothing], 1)
