"""The outputs of a compiled model with their losses, for tricks that add a term of their own to an output."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import keras
from keras import ops

from qingformer.backend.keras_internals import LossFunctionWrapper, set_keras_mask
from qingformer.errors import ConfigError
from qingformer.losses.means import WeightedMean
from qingformer.objectives.objective import Batch, copied
from qingformer.types import Nest, Tensor

Term = Callable[[Tensor, Tensor], Tensor]  # (labels, predictions) of an output -> one value for each of its entries


class Output(NamedTuple):
    """One output: its name, its place among the flat outputs, its loss and the weight of that in the total."""

    name: str
    place: int
    loss: keras.losses.Loss
    weight: float = 1.0

    @property
    def function(self) -> Any:
        """Keras' function behind the loss, or None."""
        return getattr(self.loss, "fn", None)

    def option(self, name: str, default: object = None) -> Any:
        """An argument with which the loss was made, such as `from_logits`."""
        return getattr(self.loss, "_fn_kwargs", {}).get(name, default)


class Outputs:
    """The outputs of `model` that have a loss; `who` is the trick that asks, for its errors.

    Raises:
        ConfigError: the model is compiled without a loss, or it cannot be told which loss belongs to which output.
    """

    def __init__(self, model: keras.Model, who: str) -> None:
        compiled = model._compile_loss
        if compiled is None or compiled._user_loss is None:
            raise ConfigError(f"{who}: the model has no loss on its outputs; give one to compile(loss=...)")
        self.names = output_names(model)
        self._compiled = compiled
        losses = self._by_output(compiled._user_loss, who, "loss")
        weights = self._by_output(compiled._user_loss_weights, who, "loss_weights")
        self.found = [
            Output(name, place, _loss(loss, who, name), 1.0 if weight is None else float(weight))
            for place, (name, loss, weight) in enumerate(zip(self.names, losses, weights))
            if loss is not None
        ]

    def total(self, terms: Iterable[tuple[Output, Term]], batch: Batch, predictions: object) -> Tensor:
        """The sum of the terms, each times the weight of its output in the total loss: a float scalar.

        A term is reduced as the loss of its output is: same sample weights, masks, ignored class, and divisor.
        """
        return sum((self._mean(output, term, batch, predictions) for output, term in terms), start=ops.zeros(()))

    def _mean(self, output: Output, term: Term, batch: Batch, predictions: object) -> Tensor:
        labels = self._of(output, batch.y, single=len(self.found) == 1)
        weights = batch.sample_weight
        if weights is not None and keras.tree.is_nested(weights):
            weights = self._of(output, weights, single=False)
        predicted = keras.tree.flatten(predictions)[output.place]
        reduced = WeightedMean(_Reduced(output, term), self._compiled)
        return reduced(labels, predicted, copied(weights)) * output.weight

    def _by_output(self, given: object, who: str, argument: str) -> list[Any]:
        if not isinstance(given, (dict, list, tuple)):
            return [given] * len(self.names)
        if isinstance(given, dict):
            if set(given) <= set(self.names) and not any(keras.tree.is_nested(v) for v in given.values()):
                return [given.get(name) for name in self.names]
        elif len(given) == len(self.names):
            return list(given)
        raise ConfigError(
            f"{who}: cannot tell which {argument} belongs to which output; give a dictionary with the keys "
            f"{', '.join(self.names)}"
        )

    def _of(self, output: Output, given: object, single: bool) -> Any:
        """The part of a nest of labels or weights that belongs to `output`."""
        if isinstance(given, dict):
            return given.get(output.name)
        flat = keras.tree.flatten(given)
        if len(flat) == len(self.names):
            return flat[output.place]
        return flat[0] if single else flat[self.found.index(output)]


class _Reduced(keras.losses.Loss):
    """A term in the place of an output's loss, so that Keras weighs, masks and divides it in the same way."""

    def __init__(self, output: Output, term: Term) -> None:
        super().__init__(name="term", reduction=output.loss.reduction)
        self.term, self.loss = term, output.loss
        self.ignored = output.option("ignore_class")
        self._fn_kwargs = {"ignore_class": self.ignored}

    def __call__(self, y_true: Tensor, y_pred: Tensor, sample_weight: Nest = None) -> Tensor:
        """The reduced term, whose entries have the weights of the loss's own."""
        if hasattr(self.loss, "entry_weights"):
            sample_weight = self.loss.entry_weights(y_true, y_pred, sample_weight)
        if sample_weight is not None and hasattr(self.loss, "class_axes"):
            while 0 < len(sample_weight.shape) < len(y_pred.shape) - self.loss.class_axes:
                sample_weight = ops.expand_dims(sample_weight, -1)
        return super().__call__(y_true, y_pred, sample_weight)

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        if self.ignored is None:
            values = self.term(y_true, y_pred)
            # A divergence of a given name is over the last axis; the entries of such a loss have several.
            beyond = len(values.shape) - len(y_pred.shape) + getattr(self.loss, "class_axes", 0)
            several = hasattr(self.loss, "class_axes") and beyond > 0
            return ops.mean(values, axis=tuple(range(-beyond, 0))) if several else values
        counted = ops.reshape(y_true, ops.shape(y_pred)[:-1]) != self.ignored
        values = self.term(ops.where(ops.reshape(counted, ops.shape(y_true)), y_true, 0), y_pred)
        values = ops.where(counted, values, 0.0)
        set_keras_mask(values, counted)
        return values


def output_names(model: keras.Model) -> list[str]:
    """The names of the flat outputs: the keys of a dictionary, otherwise the names of the layers."""
    if isinstance(model.output, dict):
        return [str(name) for name in keras.tree.flatten({key: key for key in model.output})]
    return list(model.output_names)


def _loss(given: object, who: str, name: str) -> keras.losses.Loss:
    if str(given).lower() in ("crossentropy", "ce"):
        raise ConfigError(f"{who}: the loss of output {name!r} is {given!r}, which may mean several; name it in full")
    loss = keras.losses.get(given)
    if isinstance(loss, keras.losses.Loss):
        return loss
    return LossFunctionWrapper(loss, name=getattr(loss, "__name__", "loss"))
