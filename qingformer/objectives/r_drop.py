"""R-Drop: two forward passes with different dropout, which are to agree."""

from collections.abc import Callable, Mapping

import keras
from keras import losses, ops

from qingformer.errors import ConfigError
from qingformer.objectives.objective import Aux, Batch, Objective, State, Transform, TransformedObjective
from qingformer.objectives.outputs import Output, Outputs, Term
from qingformer.objectives.transform_arguments import not_negative, one_of
from qingformer.ops.divergence import (
    bernoulli_divergence,
    categorical_divergence,
    sigmoid_divergence,
    softmax_divergence,
    squared_divergence,
)
from qingformer.types import Config, Tensor

_DIVERGENCES = {
    "softmax": softmax_divergence,
    "sigmoid": sigmoid_divergence,
    "categorical": categorical_divergence,
    "bernoulli": bernoulli_divergence,
    "squared": squared_divergence,
    "none": None,
}
_CATEGORICAL = (
    losses.sparse_categorical_crossentropy,
    losses.categorical_crossentropy,
    losses.categorical_focal_crossentropy,
)
_BINARY = (losses.binary_crossentropy, losses.binary_focal_crossentropy)
Comparison = Callable[[Tensor, Tensor, Tensor], Tensor]  # (labels, predictions, other predictions) to values
_RATES = ("rate", "dropout", "_dropout", "dropout_rate", "recurrent_dropout", "stddev")
_FORMS = ("mean", "sum")


@keras.saving.register_keras_serializable("qingformer")
class RDrop(Transform):
    """Run the model twice with different dropout masks and make the two predictions p1 and p2 agree.

        mean:  (L_1 + L_2) / 2 + alpha / 4 * (KL(p1 || p2) + KL(p2 || p1))
        sum:    L_1 + L_2      + alpha / 2 * (KL(p1 || p2) + KL(p2 || p1))

    L_i is the objective underneath in pass i. The paper's is `form="sum"`, exactly twice the other one; "mean" keeps
    the size of the loss, so that learning rate and regularisation keep their meaning, and is the form of the article
    (each sample twice in a batch, alpha = 4). The divergence is averaged as the output's own loss is: rows and
    positions with sample weight 0, masked ones and the ignored class do not count; outputs are added with the weights
    of their losses. A step costs two forward and two backward passes; predictions and metrics are those of the first.
    Moving statistics are updated once, by the first pass.

    Args:
        alpha: weight of the divergence, >= 0.
        divergence: how predictions are compared, one name for all outputs or names by output; what is not named
            follows from the compiled loss; those of `qingformer.losses` on classes, labels, tags and spans say it
            themselves. "softmax" (logits of classes that exclude each other), "sigmoid" (logits of independent labels),
            "categorical" and "bernoulli" (the same from probabilities), "squared" (numbers: the divergence of normal
            distributions of variance 1), "none" (this output is not compared).
        form: "mean" or "sum", as above.

    Raises:
        ConfigError: an argument that cannot be; in `compile`, a model in which nothing is random in training, or an
            output whose loss does not say how its predictions are to be compared (a regression, a loss of your own).

    Source: Wu et al. 2021, arXiv 2106.14448; 科学空间, archives/8496.

    Example:
        >>> model.compile("adam", "sparse_categorical_crossentropy", transforms=[RDrop(4.0)])
    """

    def __init__(
        self, alpha: float = 4.0, divergence: str | Mapping[str, str] | None = None, form: str = "mean"
    ) -> None:
        names = divergence.values() if isinstance(divergence, Mapping) else [divergence or "none"]
        unknown = [name for name in names if name not in _DIVERGENCES]
        if unknown:
            raise ConfigError(f"RDrop: divergence is {unknown[0]!r}; it must be one of {', '.join(_DIVERGENCES)}")
        self.alpha = not_negative("RDrop", "alpha", alpha)
        self.divergence = dict(divergence) if isinstance(divergence, Mapping) else divergence
        self.form = one_of("RDrop", "form", form, _FORMS)

    def __call__(self, objective: Objective) -> Objective:
        """The objective over two passes."""
        return _TwoPasses(objective, self)

    def get_config(self) -> Config:
        """The constructor's arguments."""
        return {"alpha": self.alpha, "divergence": self.divergence, "form": self.form}

    def named(self, output: Output) -> str | None:
        """The name that was given for `output`."""
        return self.divergence.get(output.name) if isinstance(self.divergence, dict) else self.divergence

    def divergence_of(self, output: Output) -> str:
        """The name of the divergence for `output`."""
        given = self.named(output) or getattr(output.loss, "divergence", None)
        if given is not None:
            return str(given)
        logits = output.option("from_logits", False)
        if output.function in _CATEGORICAL:
            return "softmax" if logits else "categorical"
        if output.function in _BINARY:
            return "sigmoid" if logits else "bernoulli"
        raise ConfigError(
            f"RDrop: the loss of output {output.name!r} is {output.loss.name}, which does not say how two predictions "
            f"are compared; give divergence={{{output.name!r}: ...}}, one of {', '.join(_DIVERGENCES)}"
        )


class _TwoPasses(TransformedObjective):
    def __init__(self, objective: Objective, settings: RDrop) -> None:
        super().__init__(objective)
        self.settings = settings
        self.outputs = Outputs(self.model, "RDrop")
        named = settings.divergence if isinstance(settings.divergence, dict) else {}
        missing = [name for name in named if name not in self.outputs.names]
        if missing:
            raise ConfigError(f"RDrop: there is no output {missing[0]!r}; there are {', '.join(self.outputs.names)}")
        compared = [(output, self._comparison(output)) for output in self.outputs.found]
        self.compared = [(output, function) for output, function in compared if function is not None]
        if not self.compared:
            raise ConfigError("RDrop: no output is compared; give at least one a divergence other than 'none'")
        self.seeds = _seed_places(self.model)

    def __call__(self, trainable: list[Tensor], state: State, batch: Batch) -> tuple[Tensor, Aux]:
        first, aux = self.objective(trainable, state, batch)
        second, other = self.objective(trainable, aux.state, batch)
        penalty = self.settings.alpha / 4 * self._divergence(batch, aux.predictions, other.predictions)
        factor = 2.0 if self.settings.form == "sum" else 1.0
        loss = factor * ((first + second) / 2 + ops.cast(penalty * ops.cast(state.scale, penalty.dtype), first.dtype))
        logged = factor * ((aux.loss + other.loss) / 2 + ops.cast(penalty, aux.loss.dtype))
        pairs = enumerate(zip(aux.state.non_trainable, other.state.non_trainable))
        kept = [after if place in self.seeds else before for place, (before, after) in pairs]
        after = other.state._replace(non_trainable=kept)
        return loss, aux._replace(loss=logged, state=after)

    def _divergence(self, batch: Batch, ones: object, others: object) -> Tensor:
        flat = keras.tree.flatten(others)
        terms = [(output, _apart(function, flat[output.place])) for output, function in self.compared]
        return self.outputs.total(terms, batch, ones)

    def _comparison(self, output: Output) -> Comparison | None:
        """How predictions are compared: by the name that was given, or as the loss says."""
        own: Comparison | None = getattr(output.loss, "disagreement", None)
        if self.settings.named(output) is None and own is not None:
            return own
        function = _DIVERGENCES[self.settings.divergence_of(output)]
        return None if function is None else lambda labels, one, other: function(other, one)


def _apart(function: Comparison, other: Tensor) -> Term:
    return lambda labels, predicted: function(labels, predicted, other)


def _seed_places(model: keras.Model) -> set[int]:
    """Places of dropout seeds in `model.non_trainable_variables`; an error if nothing is random in training."""
    layers = [(layer, _rates(layer)) for layer in model._flatten_layers()]
    drawing = [(layer, rates) for layer, rates in layers if layer._seed_generators]
    if not any(rate > 0 for _, rates in layers for rate in rates) and all(rates for _, rates in drawing):
        idle = ", ".join(layer.name for layer, _ in drawing) or "none"
        raise ConfigError(
            "RDrop: nothing in the model is random in training, so both passes would be the same; give it dropout "
            f"(layers that could draw, all at rate 0: {idle})"
        )
    seeds = {id(generator.state) for layer, _ in drawing for generator in layer._seed_generators}
    return {place for place, variable in enumerate(model.non_trainable_variables) if id(variable) in seeds}


def _rates(layer: keras.layers.Layer) -> list[float]:
    found = [getattr(layer, attribute, None) for attribute in _RATES]
    return [rate for rate in found if isinstance(rate, (int, float)) and not isinstance(rate, bool)]
