"""Adversarial training on the embedding matrix (fast gradient method)."""

from typing import Any

import keras
from keras import ops

from qingformer import backend
from qingformer.errors import ConfigError
from qingformer.objectives.objective import Array, Aux, Batch, Objective, State, Transform, TransformedObjective

_NORMS = ("matrix", "row")


@keras.saving.register_keras_serializable("qingformer")
class FGM(Transform):
    """Train at the point where a small step along the gradient of the embeddings makes the loss larger.

        G = dL/dE,   delta = epsilon * G / (||G||_F + 1e-8),   minimise L(E + delta) with delta held constant

    for the embedding matrix E `(V, H)`; the weights are not changed by the perturbation, only by the update. A step
    costs two gradients. Logs and metrics are those of the perturbed pass.

    Both passes see the same dropout masks and the same moving statistics, so `epsilon=0` is plain training to the bit;
    with `fresh_dropout=True` the second pass draws new masks and updates the statistics once more, as two separate
    calls of a model would.

    Args:
        epsilon: length of the perturbation, in units of the weights, >= 0.
        layer: name or path of the layer whose trainable weights are perturbed; several weights share one norm.
        norm: "matrix" (over the whole weight) or "row" (each vocabulary row has length epsilon by itself).
        fresh_dropout: draw new dropout masks for the second pass.

    Raises:
        ConfigError: an argument that cannot be; in `compile`, a layer that is not there or has nothing to train.

    Under float16 the gradient is unscaled before it is normalised; where it overflowed, nothing is perturbed and the
    loss-scaling optimizer drops the step as usual.

    Source: Miyato, Dai, Goodfellow 2016, arXiv 1605.07725; the embedding-matrix form: 科学空间, archives/7234.

    Example:
        >>> model.compile("adam", "sparse_categorical_crossentropy", transforms=[FGM(0.5)])
    """

    def __init__(
        self, epsilon: float = 0.5, layer: str = "token_embedding", norm: str = "matrix", fresh_dropout: bool = False
    ) -> None:
        if not 0 <= epsilon < float("inf"):
            raise ConfigError(f"FGM: epsilon is {epsilon}; it must be a finite number that is not negative")
        if norm not in _NORMS:
            raise ConfigError(f"FGM: norm is {norm!r}; it must be one of {', '.join(_NORMS)}")
        self.epsilon = float(epsilon)
        self.layer = layer
        self.norm = norm
        self.fresh_dropout = fresh_dropout

    def __call__(self, objective: Objective) -> Objective:
        """The objective at the perturbed point."""
        return _Adversarial(objective, self)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            "epsilon": self.epsilon,
            "layer": self.layer,
            "norm": self.norm,
            "fresh_dropout": self.fresh_dropout,
        }


class _Adversarial(TransformedObjective):
    def __init__(self, objective: Objective, settings: FGM) -> None:
        super().__init__(objective)
        self.settings = settings
        self.indices = _trainable_indices(objective.model, settings.layer)

    def __call__(self, trainable: list[Array], state: State, batch: Batch) -> tuple[Array, Aux]:
        return self.objective(*self._perturb(trainable, state, batch), batch)

    def value_and_grad(
        self, trainable: list[Array], state: State, batch: Batch
    ) -> tuple[tuple[Array, Aux], list[Array]]:
        return self.objective.value_and_grad(*self._perturb(trainable, state, batch), batch)

    def _perturb(self, trainable: list[Array], state: State, batch: Batch) -> tuple[list[Array], State]:
        here = [ops.stop_gradient(value) for value in trainable]
        if self.settings.fresh_dropout:
            (_, aux), gradients = self.objective.value_and_grad(here, state, batch)
            state = state._replace(non_trainable=aux.state.non_trainable)
        else:
            with backend.repeated_randomness():
                _, gradients = self.objective.value_and_grad(here, state, batch)
        perturbed = list(trainable)
        for index, delta in zip(self.indices, self._deltas([gradients[i] for i in self.indices], state.scale)):
            perturbed[index] = trainable[index] + ops.cast(ops.stop_gradient(delta), trainable[index].dtype)
        return perturbed, state

    def _deltas(self, gradients: list[Array], scale: Array) -> list[Array]:
        unscaled = [ops.cast(g, "float32") / ops.cast(scale, "float32") for g in gradients]
        if self.settings.norm == "row":
            lengths = [ops.sqrt(ops.sum(g**2, axis=-1, keepdims=True)) for g in unscaled]
        else:
            lengths = [ops.sqrt(sum(ops.sum(g**2) for g in unscaled))] * len(unscaled)
        # An overflowed gradient has no direction; 0 * inf would put NaN into the weights' neighbourhood and the logs.
        return [
            ops.where(ops.isfinite(length), self.settings.epsilon * g / (length + 1e-8), ops.zeros_like(g))
            for g, length in zip(unscaled, lengths)
        ]


def _trainable_indices(model: keras.Model, name: str) -> list[int]:
    """Positions in `model.trainable_variables` of the weights of the layer called `name`, at any depth."""
    layers = list(model._flatten_layers(include_self=False))
    found = [layer for layer in layers if name in (layer.name, layer.path)]
    if not found:
        there = "; ".join(
            f"{layer.path} ({', '.join(v.name for v in layer.variables)})"
            for layer in layers
            if layer.variables and not list(layer._flatten_layers(include_self=False))
        )
        raise ConfigError(f"FGM: the model has no layer {name!r}; its layers with variables are: {there}")
    wanted = {id(v) for layer in found for v in layer.trainable_variables}
    indices = [i for i, v in enumerate(model.trainable_variables) if id(v) in wanted]
    if not indices:
        raise ConfigError(f"FGM: layer {name!r} has no trainable variables; unfreeze it or perturb another layer")
    return indices
