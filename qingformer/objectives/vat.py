"""Virtual adversarial training: smooth predictions, from labelled and unlabelled rows."""

from collections.abc import Mapping, Sequence

import keras
from keras import ops

from qingformer import backend
from qingformer.errors import ConfigError
from qingformer.objectives.objective import Aux, Batch, Objective, State, Transform, TransformedObjective
from qingformer.objectives.perturbation import (
    NORMS,
    RELATIVE,
    Length,
    Point,
    directions,
    embedding_target,
    noise,
    sized,
    unshifted,
)
from qingformer.objectives.transform_arguments import not_negative, one_of, radius
from qingformer.ops.divergence import kullback_leibler
from qingformer.types import Config, Nest, Tensor

_DISTRIBUTIONS = ("categorical", "bernoulli")
_SALT = 170403976


@keras.saving.register_keras_serializable("qingformer")
class VirtualAdversarialTraining(Transform):
    """Add how much the prediction of a row can be changed by a small perturbation of the embeddings: needs no label.

        u ~ N(0, 1);   iterations times: u <- d/dr KL(f(x) || f(x + r)) at r = xi u / ||u||
        L + weight * mean over rows of KL(f(x) || f(x + epsilon u / ||u||)),   f(x) and u held constant

    Rows of weight 0 are unlabelled and take part; rows of padding (no token at all) do not. So a batch may hold both
    kinds, see `TextClassifier.fit(unlabelled=...)` and `qingformer.data.MixedBatches`. All passes see the same dropout
    masks; a step costs `iterations + 2` forward and `iterations + 1` backward passes. The logged loss has the term in.

    Args:
        weight: of the term, >= 0.
        epsilon: length of the perturbation, in units of the weights or of the embedded text, >= 0.
        xi: length of the trial step, > 0, in the unit of the perturbation.
        iterations: steps towards the most sensitive direction, >= 0; with 0 the direction is random.
        layer, norm: where, as in `FGM`: "matrix" (one perturbation of the embedding matrix, as in the article) or
            "row", or "sample" (what is embedded, each row of the batch by itself, as in the paper).
        outputs: names of the outputs that are smoothed, for a model with several (keys where outputs are a dictionary);
            None for all.
        distribution: "categorical" (one class: softmax over the last axis) or "bernoulli" (several labels: a sigmoid
            each, KL summed).
        from_logits: whether the outputs are logits; otherwise they are probabilities.
        ids: name of the input that tells padding from text, where inputs are a dictionary that has it; otherwise all
            whole-number inputs do. A row is padding if all its ids are `padding`. A model without whole-number inputs
            has no rows of padding.
        padding: the id of padding.
        relative: instead of epsilon, the length in units of a token's vector, as in `FGM`; 0.05 if neither is given.

    Outputs are `(B, C)`, or `(B, ..., C)`, whose divergences are averaged within a row - over its tokens, if the ids
    are `(B, T)` and the output `(B, T, C)`.

    Raises:
        ConfigError: an argument that cannot be; in `compile`, a layer or an output that is not there.

    Source: Miyato et al. 2017, arXiv 1704.03976; 科学空间, archives/7466 (embedding matrix, epsilon 1, xi 10, one
    iteration).

    Example:
        >>> loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        >>> model.compile("adam", loss, transforms=[VirtualAdversarialTraining()])
    """

    def __init__(
        self,
        weight: float = 1.0,
        epsilon: float | None = None,
        xi: float = 10.0,
        iterations: int = 1,
        layer: str = "token_embedding",
        norm: str = "matrix",
        outputs: str | Sequence[str] | None = None,
        distribution: str = "categorical",
        from_logits: bool = True,
        ids: str = "token_ids",
        padding: int = 0,
        relative: float | None = None,
    ) -> None:
        name = "VirtualAdversarialTraining"
        self.weight = not_negative(name, "weight", weight)
        self.epsilon, self.relative = radius(name, epsilon, relative, RELATIVE)
        self.xi = not_negative(name, "xi", xi)
        self.norm = one_of(name, "norm", norm, NORMS)
        self.distribution = one_of(name, "distribution", distribution, _DISTRIBUTIONS)
        if xi == 0:
            raise ConfigError(f"{name}: xi is 0; it must be positive, a step of length 0 shows no direction")
        if int(iterations) != iterations or iterations < 0:
            raise ConfigError(f"{name}: iterations is {iterations}; it must be a whole number, 0 or more")
        self.iterations = int(iterations)
        self.layer = layer
        self.outputs = [outputs] if isinstance(outputs, str) else None if outputs is None else list(outputs)
        self.from_logits = from_logits
        self.ids, self.padding = ids, padding

    def __call__(self, objective: Objective) -> Objective:
        """The objective with the smoothness term."""
        return _Smoothed(objective, self)

    def get_config(self) -> Config:
        """The constructor's arguments."""
        return {
            "weight": self.weight,
            "epsilon": self.epsilon,
            "xi": self.xi,
            "iterations": self.iterations,
            "layer": self.layer,
            "norm": self.norm,
            "outputs": self.outputs,
            "distribution": self.distribution,
            "from_logits": self.from_logits,
            "ids": self.ids,
            "padding": self.padding,
            "relative": self.relative,
        }


VAT = VirtualAdversarialTraining


class _Smoothed(TransformedObjective):
    def __init__(self, objective: Objective, settings: VirtualAdversarialTraining) -> None:
        super().__init__(objective)
        self.settings = settings
        per_sample = settings.norm == "sample"
        self.target = embedding_target(objective, settings.layer, per_sample, "VirtualAdversarialTraining")
        self.length = None
        if settings.relative is not None:
            self.length = Length(self.model, settings.layer, "l2", "VirtualAdversarialTraining")
        self._chosen(self.model.output)  # names that do not fit are reported now

    def __call__(self, trainable: list[Tensor], state: State, batch: Batch) -> tuple[Tensor, Aux]:
        point = Point(trainable, state, batch)
        # The same dropout in all passes: the divergence is to measure the perturbation, not the dropout.
        with backend.repeated_randomness():
            loss, aux = self.objective(*point)
        clean = [ops.stop_gradient(output) for output in self._chosen(aux.predictions)]

        def divergence(at: Point, deltas: list[Tensor]) -> Tensor:
            _, moved = self.objective(*self.target.add(at, deltas))
            return self._mean_divergence(clean, self._chosen(moved.predictions), batch.x)

        epsilon = sized(self.settings.epsilon, self.settings.relative, self.length, point)
        xi = self.settings.xi if self.length is None else self.settings.xi * self.length(point)
        units = noise(self.target.zeros(point), state, _SALT)
        for _ in range(self.settings.iterations):
            trial = [xi * unit for unit in directions(units, self.settings.norm)]
            with backend.repeated_randomness():  # scaled, so that float16 does not lose small gradients
                _, units = backend.value_and_grad(lambda d: divergence(point.as_constants(), d) * state.scale)(trial)
        deltas = [epsilon * ops.stop_gradient(u) for u in directions(units, self.settings.norm)]
        term = self.settings.weight * divergence(point, deltas)
        total = loss + ops.cast(term * ops.cast(state.scale, term.dtype), loss.dtype)
        return unshifted((total, aux._replace(loss=aux.loss + ops.cast(term, aux.loss.dtype))), state)

    def _chosen(self, predictions: object) -> list[Tensor]:
        if isinstance(predictions, Mapping):
            named = dict(predictions)
        else:
            named = dict(zip(self.model.output_names, keras.tree.flatten(predictions)))
        wanted = list(named) if self.settings.outputs is None else self.settings.outputs
        unknown = [name for name in wanted if name not in named]
        if unknown:
            raise ConfigError(
                f"VirtualAdversarialTraining: the model has no output {unknown[0]!r}; there are: {', '.join(named)}"
            )
        return [named[name] for name in wanted]

    def _mean_divergence(self, clean: list[Tensor], moved: list[Tensor], x: Nest) -> Tensor:
        tokens = self._tokens(x)
        total = ops.zeros((), "float32")
        for p, q in zip(clean, moved):
            each = kullback_leibler(p, q, self.settings.distribution, self.settings.from_logits)
            if tokens is None:
                total += ops.mean(each)
                continue
            rows = ops.cast(ops.any(tokens, axis=tuple(range(1, len(tokens.shape)))), "float32")
            within = ops.cast(tokens, "float32") if each.shape[1:] == tokens.shape[1:] else ops.ones_like(each)
            axes = tuple(range(1, len(each.shape)))
            means = ops.sum(each * within, axes) / ops.maximum(ops.sum(within, axes), 1.0) if axes else each
            total += ops.sum(rows * means) / ops.maximum(ops.sum(rows), 1.0)
        return total

    def _tokens(self, x: Nest) -> Tensor | None:
        """Where an input `(B, ...)` holds something, bool; None for a model that takes no whole numbers."""
        padding = self.settings.padding
        if isinstance(x, Mapping) and self.settings.ids in x:
            return ops.not_equal(x[self.settings.ids], padding)
        found = [leaf for leaf in keras.tree.flatten(x) if leaf is not None and "int" in str(leaf.dtype)]
        if len(found) == 1:
            return ops.not_equal(found[0], padding)
        rows = [ops.any(ops.reshape(ops.not_equal(leaf, padding), (ops.shape(leaf)[0], -1)), 1) for leaf in found]
        return ops.any(ops.stack(rows, 1), 1)[:, None] if rows else None
