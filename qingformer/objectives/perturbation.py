"""What adversarial transforms share: where a perturbation is added, and how long it is.

A perturbation is a list of float32 arrays. A `Place` makes one of zeros, and adds one to what an objective is a
function of: some weights, the outputs of a layer (each sample has its own), or the inputs. So the gradient with respect
to a perturbation of zero is the gradient at that place.
"""

import math
import re
from typing import Any, NamedTuple

import keras
from keras import ops

from qingformer import backend
from qingformer.errors import ConfigError
from qingformer.objectives.layer_outputs import all_layers, find_layers, observed_shapes
from qingformer.objectives.objective import Aux, Batch, Objective, State, TransformedObjective
from qingformer.types import Nest, Tensor

ATTACKS = ("l2", "linf")
NORMS = ("matrix", "row", "sample")
RELATIVE = 0.05  # of the length of a token's vector: what `FGM`, `PGD` and `VirtualAdversarialTraining` do by default


class Point(NamedTuple):
    """Where an objective is evaluated: `objective(*point)`."""

    trainable: list[Tensor]
    state: State
    batch: Batch

    def held(self) -> "Point":
        """The same point with weights through which nothing is differentiated."""
        return self._replace(trainable=[ops.stop_gradient(value) for value in self.trainable])


class Place:
    """Where a perturbation of `objective` is added."""

    def __init__(self, objective: Objective) -> None:
        self.objective = objective

    def zeros(self, point: Point) -> list[Tensor]:
        """A perturbation that changes nothing."""
        raise TypeError(f"{type(self).__name__} does not define its zeros")

    def add(self, point: Point, deltas: list[Tensor]) -> Point:
        """The point with `deltas` added."""
        raise TypeError(f"{type(self).__name__} does not define its sum")

    def value_and_slope(self, point: Point, deltas: list[Tensor]) -> tuple[tuple[Tensor, Aux], list[Tensor]]:
        """`((loss, aux), gradients)`: the gradient of the value with respect to `deltas`, in unscaled units."""
        result, found = backend.value_and_grad(lambda d: self.objective(*self.add(point, d)), has_aux=True)(deltas)
        return result, unscaled(found, point.state.scale)

    def slope(self, point: Point, deltas: list[Tensor]) -> tuple[Aux, list[Tensor]]:
        """What an attack follows: the gradient, constant with respect to the weights."""
        (_, aux), gradients = self.value_and_slope(point.held(), deltas)
        return aux, gradients


class Weights(Place):
    """Trainable weights, by their positions in `model.trainable_variables`."""

    def __init__(self, objective: Objective, indices: list[int]) -> None:
        super().__init__(objective)
        self.indices = indices

    def zeros(self, point: Point) -> list[Tensor]:
        """One array for each weight."""
        return [ops.zeros_like(point.trainable[index], dtype="float32") for index in self.indices]

    def add(self, point: Point, deltas: list[Tensor]) -> Point:
        """The point at moved weights."""
        moved = list(point.trainable)
        for index, delta in zip(self.indices, deltas):
            moved[index] = moved[index] + ops.cast(delta, moved[index].dtype)
        return point._replace(trainable=moved)

    def slope(self, point: Point, deltas: list[Tensor]) -> tuple[Aux, list[Tensor]]:
        """By the objective's own gradient, which a transform inside may have redefined."""
        (_, aux), found = self.objective.value_and_grad(*self.add(point.held(), deltas))
        return aux, unscaled([found[index] for index in self.indices], point.state.scale)


class Outputs(Place):
    """What layers put out, `(B, ...)`: one array for each call of each layer."""

    def __init__(self, objective: Objective, layers: list[int]) -> None:
        super().__init__(objective)
        self.layers = layers

    def zeros(self, point: Point) -> list[Tensor]:
        """Shapes are those of the last forward pass that the objective makes."""
        with observed_shapes(self.objective.model, self.layers) as shapes:
            backend.eval_shape(lambda: self.objective(*point))
        if not any(shapes.values()):
            named = ", ".join(repr(all_layers(self.objective.model)[number].name) for number in self.layers)
            raise ConfigError(f"the model was run, but layer {named} was not called: its output cannot be perturbed")
        self.calls = {number: len(each) for number, each in shapes.items()}
        return [ops.zeros(shape, "float32") for each in shapes.values() for shape in each]

    def add(self, point: Point, deltas: list[Tensor]) -> Point:
        """The point whose state has the sums of its shifts and these."""
        rest, shifts = list(deltas), dict(point.state.shifts or {})
        for number, count in self.calls.items():
            mine, rest = rest[:count], rest[count:]
            there = shifts.get(number)
            shifts[number] = mine if there is None else [a + b for a, b in zip(there, mine)]
        return point._replace(state=point.state._replace(shifts=shifts))


class Inputs(Place):
    """The float inputs of the model whose names fit `pattern`, or all of them."""

    def __init__(self, objective: Objective, pattern: str | None, asking: str) -> None:
        super().__init__(objective)
        self.pattern, self.asking = pattern, asking

    def zeros(self, point: Point) -> list[Tensor]:
        """One array for each float input."""
        return [ops.zeros_like(leaf, dtype="float32") for leaf, chosen in self._leaves(point.batch.x) if chosen]

    def add(self, point: Point, deltas: list[Tensor]) -> Point:
        """The point with moved inputs."""
        rest = iter(deltas)
        moved = [
            leaf + ops.cast(next(rest), leaf.dtype) if chosen else leaf for leaf, chosen in self._leaves(point.batch.x)
        ]
        return point._replace(batch=point.batch._replace(x=keras.tree.pack_sequence_as(point.batch.x, moved)))

    def _leaves(self, x: Nest) -> list[tuple[Tensor, bool]]:
        named = [("/".join(map(str, path)), leaf) for path, leaf in keras.tree.flatten_with_path(x)]
        floats = {name for name, leaf in named if leaf is not None and keras.backend.is_float_dtype(leaf.dtype)}
        chosen = {name for name in floats if self.pattern is None or re.search(self.pattern, name)}
        if not chosen:
            raise ConfigError(
                f"{self.asking}: no float input fits {self.pattern!r}; the float inputs are: "
                f"{', '.join(sorted(floats)) or 'none'}"
            )
        return [(leaf, name in chosen) for name, leaf in named]


class MovedObjective(TransformedObjective):
    """The objective inside, at a point that a subclass chooses; afterwards the state has its own shifts again."""

    def moved(self, point: Point) -> Point:
        """Where the objective inside is evaluated."""
        raise TypeError(f"{type(self).__name__} does not define where it goes")

    def __call__(self, trainable: list[Tensor], state: State, batch: Batch) -> tuple[Tensor, Aux]:
        return unshifted(self.objective(*self.moved(Point(trainable, state, batch))), state)

    def value_and_grad(
        self, trainable: list[Tensor], state: State, batch: Batch
    ) -> tuple[tuple[Tensor, Aux], list[Tensor]]:
        result, gradients = self.objective.value_and_grad(*self.moved(Point(trainable, state, batch)))
        return unshifted(result, state), gradients


def layer_weights(model: keras.Model, name: str, asking: str) -> list[int]:
    """Positions in `model.trainable_variables` of the weights of the layer called `name`, at any depth.

    Raises:
        ConfigError: no such layer, or it has nothing to train.
    """
    layers = all_layers(model)
    wanted = {id(v) for number in find_layers(model, name, asking) for v in layers[number].trainable_variables}
    indices = [i for i, v in enumerate(model.trainable_variables) if id(v) in wanted]
    if not indices:
        raise ConfigError(f"{asking}: layer {name!r} has no trainable variables; unfreeze it or perturb another layer")
    return indices


def embedding_place(objective: Objective, layer: str, per_sample: bool, asking: str) -> Weights | Outputs:
    """The weights of `layer`, or with `per_sample` its outputs; raises `ConfigError` as the two below it do."""
    if per_sample:
        return Outputs(objective, find_layers(objective.model, layer, asking))
    return Weights(objective, layer_weights(objective.model, layer, asking))


class Length:
    """The length of the vectors in a layer's table: the unit of a perturbation that is given by `relative`.

        l2:    sqrt(sum of the squares of all weights of the layer / number of their rows)
        linf:  sqrt(sum of the squares / number of entries)

    The root of the mean square over the rows; for an embedding the length of a token's vector, at every size of table
    and model. It is that of the present step, and nothing is differentiated through it.

    Raises:
        ConfigError: the layer has no weights.
    """

    def __init__(self, model: keras.Model, layer: str, attack: str, asking: str) -> None:
        layers = all_layers(model)
        wanted = {id(v) for number in find_layers(model, layer, asking) for v in layers[number].weights}
        self.trainable = [i for i, v in enumerate(model.trainable_variables) if id(v) in wanted]
        others = [i for i, v in enumerate(model.non_trainable_variables) if id(v) in wanted]
        self.others = [i for i in others if "float" in str(model.non_trainable_variables[i].dtype)]
        self.attack = attack
        if not self.trainable and not self.others:
            raise ConfigError(f"{asking}: layer {layer!r} has no weights to be relative to; give epsilon= instead")

    def __call__(self, point: Point) -> Tensor:
        """A float32 scalar."""
        values = [point.trainable[i] for i in self.trainable] + [point.state.non_trainable[i] for i in self.others]
        squares = [ops.sum(ops.square(ops.cast(ops.stop_gradient(value), "float32"))) for value in values]
        entries = sum(math.prod(value.shape) for value in values)
        rows = sum(math.prod(value.shape[:-1]) for value in values)
        return ops.sqrt(sum(squares) / (entries if self.attack == "linf" else rows))


def sized(epsilon: float | None, relative: float | None, length: Length | None, point: Point) -> Any:
    """The radius at `point`, in units of the weights."""
    return epsilon if length is None or relative is None else relative * length(point)


def unscaled(gradients: list[Tensor], scale: Tensor) -> list[Tensor]:
    """Float32 gradients of the loss before it was multiplied by `scale`."""
    return [ops.cast(gradient, "float32") / ops.cast(scale, "float32") for gradient in gradients]


def lengths(values: list[Tensor], norm: str) -> list[Tensor]:
    """L2 lengths, broadcastable to each of `values`: of all together, of every row, or of every sample `(B, ...)`."""
    squares = [ops.square(value) for value in values]
    if norm == "row":
        return [ops.sqrt(ops.sum(square, axis=-1, keepdims=True)) for square in squares]
    if norm == "matrix":
        return [ops.sqrt(sum(ops.sum(square) for square in squares))] * len(values)
    totals = [ops.sum(square, axis=tuple(range(1, len(square.shape)))) for square in squares]
    if len({total.shape[0] for total in totals}) == 1:  # calls for the same samples: a sample is all of them together
        totals = [sum(totals)] * len(totals)
    return [ops.reshape(ops.sqrt(total), (-1, *[1] * (len(v.shape) - 1))) for total, v in zip(totals, values)]


def ascent(gradients: list[Tensor], size: object, attack: str, norm: str) -> list[Tensor]:
    """The step that increases the loss most: `size g / (||g|| + 1e-8)`, or `size sign(g)` with "linf".

    A gradient that has overflowed has no direction and gives zeros: 0 inf would put NaN into the logs.
    """
    steps = []
    for gradient, length in zip(gradients, lengths(gradients, norm)):
        step = size * (ops.sign(gradient) if attack == "linf" else gradient / (length + 1e-8))
        steps.append(ops.where(ops.isfinite(length), step, ops.zeros_like(gradient)))
    return steps


def project(deltas: list[Tensor], epsilon: Any, attack: str, norm: str) -> list[Tensor]:
    """The nearest perturbation no longer than `epsilon`: scaled down as a whole, or with "linf" cut entry by entry."""
    if attack == "linf":
        return [ops.maximum(ops.minimum(delta, epsilon), -epsilon) for delta in deltas]
    return [
        d * ops.minimum(1.0, epsilon / ops.maximum(length, 1e-30)) for d, length in zip(deltas, lengths(deltas, norm))
    ]


def directions(values: list[Tensor], norm: str) -> list[Tensor]:
    """Each of `values` at length 1, however small it is; zeros, and what is not finite, give zeros."""
    largest = ops.max(ops.stack([ops.max(ops.abs(value)) for value in values]))
    # Squares of very small numbers would vanish.
    values = [value / ops.where(largest > 0, largest, 1.0) for value in values]
    return [
        ops.where(
            ops.isfinite(length) & (length > 0), value / ops.where(length > 0, length, 1.0), ops.zeros_like(value)
        )
        for value, length in zip(values, lengths(values, norm))
    ]


def noise(like: list[Tensor], state: State, salt: int, bound: float | None = None) -> list[Tensor]:
    """Normal numbers in the shapes of `like`, or uniform ones up to `bound`: a function of salt, step and part."""
    drawn = []
    for place, each in enumerate(like):
        seed = state.seed(salt + place)
        if bound is None:
            drawn.append(keras.random.normal(ops.shape(each), seed=seed))
        else:
            drawn.append(keras.random.uniform(ops.shape(each), -bound, bound, seed=seed))
    return drawn


def unshifted(result: tuple[Tensor, Aux], state: State) -> tuple[Tensor, Aux]:
    """`(loss, aux)` whose state has the shifts of `state` again, for what comes after this pass."""
    loss, aux = result
    return loss, aux._replace(state=aux.state._replace(shifts=state.shifts))
