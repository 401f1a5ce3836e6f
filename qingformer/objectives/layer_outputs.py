"""Looking at, and adding to, what a layer puts out during a forward pass, in any Keras model.

For the time of a `with` block the layer's `call` is another function; nothing of the layer is stored, copied or
rebuilt. Where the block is traced by a compiler, what it did stays in the compiled program.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import keras
from keras import ops

from qingformer.backend.keras_internals import get_keras_mask, set_keras_mask
from qingformer.errors import ConfigError
from qingformer.types import Nest, Tensor

Perturbations = Mapping[int, list[Tensor]]  # number of the layer (see `all_layers`) -> one array for each of its calls


def all_layers(model: keras.Model) -> list[keras.layers.Layer]:
    """Every layer at any depth, in an order that depends on the model alone."""
    return list(model._flatten_layers(include_self=False))


def find_layers(model: keras.Model, name: str, asking: str) -> list[int]:
    """Numbers of the layers whose name or path is `name`; `asking` begins the message if there is none.

    Raises:
        ConfigError: no such layer; lists those with variables.
    """
    layers = all_layers(model)
    found = [number for number, layer in enumerate(layers) if name in (layer.name, layer.path)]
    if not found:
        there = "; ".join(
            f"{layer.path} ({', '.join(v.name for v in layer.variables)})"
            for layer in layers
            if layer.variables and not list(layer._flatten_layers(include_self=False))
        )
        raise ConfigError(f"{asking}: the model has no layer {name!r}; its layers with variables are: {there}")
    return found


def find_layer(model: keras.Model, name: str, asking: str) -> keras.layers.Layer:
    """The one layer whose name or path is `name`.

    Raises:
        ConfigError: there is none, or there are several.
    """
    layers = all_layers(model)
    first, *others = (layers[number] for number in find_layers(model, name, asking))
    if others:
        paths = ", ".join(layer.path for layer in (first, *others))
        raise ConfigError(f"{asking}: several layers are called {name!r}: {paths}; give the path of one")
    return first


@contextmanager
def changed_outputs(
    layer: keras.layers.Layer, change: Callable[[Tensor], Tensor], only_of: Tensor | None = None
) -> Iterator[None]:
    """Within the block, `layer` puts out `change(output)`; with `only_of`, where it is applied to that very tensor.

    A call with `reverse=True` (an embedding that serves as the output layer) is not a lookup and stays as it is.

    Example:
        >>> with changed_outputs(model.get_layer("token_embedding"), lambda x: 2 * x):
        ...     model(ids)
    """
    original = layer.call

    def call(*args: object, **kwargs: object) -> Nest:
        output = original(*args, **kwargs)
        # A tied table called in reverse puts out logits, not vectors.
        if kwargs.get("reverse") or (only_of is not None and (not args or args[0] is not only_of)):
            return output
        changed = change(output)
        if changed is not output and (mask := get_keras_mask(output)) is not None:
            set_keras_mask(changed, mask)
        return changed

    # The instance may have a `call` of its own already, put there by another transform around this one.
    before = layer.__dict__.get("call")
    object.__setattr__(layer, "call", call)  # past Keras' tracking: this is no part of the layer
    try:
        yield
    finally:
        if before is None:
            object.__delattr__(layer, "call")
        else:
            object.__setattr__(layer, "call", before)


@contextmanager
def perturbed_outputs(model: keras.Model, perturbations: Perturbations | None) -> Iterator[None]:
    """Within the block, the k-th call of layer number n puts out its output plus `perturbations[n][k]` (float32).

    For one forward pass: calls are counted from the beginning of the block.

    Raises:
        ConfigError: more calls than perturbations, or shapes that do not fit.
    """
    with ExitStack() as stack:
        layers = all_layers(model) if perturbations else []
        for number, arrays in (perturbations or {}).items():
            stack.enter_context(changed_outputs(layers[number], _adder(layers[number].name, list(arrays))))
        yield


@contextmanager
def observed_shapes(model: keras.Model, layers: list[int]) -> Iterator[dict[int, list[Any]]]:
    """Within the block, every call of the model puts the shapes that the calls of `layers` gave into the dictionary.

    Raises:
        ConfigError: a layer that puts out something else than one float array.
    """
    during: dict[int, list[Any]] = {number: [] for number in layers}
    found: dict[int, list[Any]] = {}

    def finish(predictions: object) -> Any:
        found.update({number: list(shapes) for number, shapes in during.items()})
        for shapes in during.values():
            shapes.clear()
        return predictions

    with ExitStack() as stack:
        stack.enter_context(changed_outputs(model, finish))
        every = all_layers(model)
        for number in layers:
            stack.enter_context(changed_outputs(every[number], _noter(every[number].name, during[number])))
        yield found


def _noter(name: str, shapes: list[Any]) -> Callable[[Tensor], Tensor]:
    def note(output: Tensor) -> Tensor:
        if not keras.ops.is_tensor(output) or not keras.backend.is_float_dtype(output.dtype):
            raise ConfigError(f"layer {name!r} does not put out one float array, so it cannot be perturbed")
        shapes.append(ops.shape(output))
        return output

    return note


def _adder(name: str, arrays: list[Tensor]) -> Callable[[Tensor], Tensor]:
    def add(output: Tensor) -> Tensor:
        if not arrays:
            raise ConfigError(f"layer {name!r} is called more often than perturbations were made for it")
        shift = arrays.pop(0)
        if any(None not in (a, b) and a != b for a, b in zip(shift.shape, output.shape, strict=True)):
            raise ConfigError(
                f"layer {name!r} puts out {tuple(output.shape)} but was perturbed with {tuple(shift.shape)}: a "
                "transform that changes the batch must stand outside of one that perturbs each sample"
            )
        # Added in float32: a perturbation of 1e-3 would be rounded away beside vectors in bfloat16.
        return ops.cast(ops.cast(output, shift.dtype) + shift, output.dtype)

    return add
