"""The adapters of a model as plain arrays: taken from it, checked against another model, put into that."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np

from qingformer.adapters.adapted_layers import adapted_layers, check_dense_alone, dense_layers, keyed_variables
from qingformer.adapters.enabling import add_adapter, freeze_rest
from qingformer.adapters.low_rank_layer import ADAPTER, LowRank
from qingformer.checkpoints.loading_report import shorten
from qingformer.errors import CheckpointError, ConfigError
from qingformer.types import Config, Values

# Of a configuration, what may differ between the model that was trained and the one that reads: it changes no kernel.
FREE = (
    "application",
    "pooler",
    "vocab_size",
    "pad_token_id",
    "max_position_embeddings",
    "hierarchical_position",
    "hidden_dropout_prob",
    "attention_probs_dropout_prob",
    "initializer_range",
)
PROBES, TOLERANCE = 4, 0.2


@dataclass(frozen=True)
# (d, r) and (r, units), as the layers hold them: x A B.
class Adapter:
    """One layer's: A (in, r), B (r, out), alpha, the product that was taken off the kernel, a print of the kernel."""

    a: np.ndarray
    b: np.ndarray
    alpha: float
    start: tuple[np.ndarray, np.ndarray] | None = None
    probe: list[float] | None = None


@dataclass(frozen=True)
class Adapters:
    """All of a model: adapters by path, other trained variables by key, and the configuration that they belong to."""

    source: str
    layers: Mapping[str, Adapter]
    trained: Mapping[str, np.ndarray] = field(default_factory=dict)
    base: Values | None = None


def probe(kernel: np.ndarray) -> list[float]:
    """A few numbers by which a matrix is known: about normal for unrelated ones, nearly the same after rounding.

    u^T W v sqrt(in out) / |W| for unit vectors u, v of cosines.
    """
    length = float(np.linalg.norm(kernel)) or 1.0
    found = []
    for number in range(PROBES):
        u, v = (np.cos((number + 1.0 + side) * np.arange(size)) for side, size in enumerate(kernel.shape))
        unit = np.linalg.norm(u) * np.linalg.norm(v)
        found.append(float(u @ kernel @ v / unit * np.sqrt(kernel.size) / length))
    return found


def comparable(config: Any) -> Config:
    """The values of a configuration that must agree."""
    return {key: value for key, value in config.to_dict().items() if key not in FREE}


def gather(model: keras.Model, backbone: Any) -> Adapters:
    """What training changed in `model`, which holds the layers of `backbone` and maybe others.

    Raises:
        ConfigError: there are no adapters.
    """
    check_dense_alone(model, "save_adapters")
    layers = adapted_layers(model)
    if not layers:
        raise ConfigError("save_adapters: the model has no adapters; call enable_lora first")
    taken = {}
    for path, layer in layers.items():
        start = _start(layer) if layer.lora_symmetric else None
        taken[path] = Adapter(*layer.factors(), float(layer.lora_alpha), start, probe(layer.base_kernel()))
    variables = other_trained(model)
    trained = {key: np.asarray(keras.ops.convert_to_numpy(v.value)) for key, v in variables.items()}
    return Adapters("", taken, trained, comparable(backbone.config))


def other_trained(model: keras.Model) -> dict[str, keras.Variable]:
    """The trainable variables that are no factors, by key."""
    return {
        key: variable
        for key, variable in keyed_variables(model).items()
        if variable.trainable and variable.name not in ADAPTER
    }


def put(model: keras.Model, backbone: Any, stored: Adapters, strict: bool) -> list[str]:
    """Give `model` the adapters and other weights of `stored`; nothing is changed unless all of it fits.

    Raises:
        CheckpointError: what does not fit, by name.
    """
    if stored.base is not None:
        _check_base(stored, comparable(backbone.config))
    layers, variables = dense_layers(model), keyed_variables(model)
    _check_names(stored, layers, variables)
    _check_shapes(stored, layers, variables)
    if strict:
        _check_kernels(stored, layers)
    if not adapted_layers(model):
        _check_heads(stored, model, backbone)
        for path, adapter in stored.layers.items():
            add_adapter(layers[path], adapter.a.shape[1], adapter.alpha, False, 0)
        freeze_rest(backbone, set(stored.trained) & set(keyed_variables(backbone)))
    else:
        _check_same(stored, model)
    for path, adapter in stored.layers.items():
        _fill(layers[path], adapter)
    for key, value in stored.trained.items():
        variables[key].assign(value)
    return list(stored.layers)


def _fill(layer: LowRank, adapter: Adapter) -> None:
    layer.set_factors(adapter.a, adapter.b)
    if adapter.start is not None:
        layer.set_start(*adapter.start)
    elif layer.lora_symmetric:
        layer.set_start(*(np.zeros_like(factor) for factor in _start(layer)))


def _start(layer: LowRank) -> tuple[np.ndarray, np.ndarray]:
    a, b = (keras.ops.convert_to_numpy(v.value) for v in (layer.lora_start_a, layer.lora_start_b))
    return np.asarray(a), np.asarray(b)


def _check_base(stored: Adapters, here: Values) -> None:
    there = stored.base or {}
    wrong = [key for key in here if key in there and there[key] != _as_json(here[key])]
    if wrong:
        key = "family" if "family" in wrong else wrong[0]
        raise CheckpointError(
            f"{stored.source}: the adapters were trained on a model with {key}={there[key]!r}, but this one has "
            f"{here[key]!r}; load them into the model that they belong to"
        )


def _as_json(value: object) -> Any:
    return [_as_json(part) for part in value] if isinstance(value, list | tuple) else value


def _check_names(stored: Adapters, layers: Mapping[str, LowRank], variables: Values) -> None:
    absent = [path for path in stored.layers if path not in layers]
    absent += [key for key in stored.trained if key not in variables]
    if absent:
        raise CheckpointError(
            f"{stored.source}: the file has weights for {shorten(absent)}, which this model lacks; "
            "load them with the class of the model that was trained"
        )


def _check_shapes(stored: Adapters, layers: Mapping[str, LowRank], variables: Values) -> None:
    for path, adapter in stored.layers.items():
        kernel = tuple(layers[path].base_kernel().shape)
        found = (adapter.a.shape[0], adapter.b.shape[1])
        if found != kernel or adapter.a.shape[1] != adapter.b.shape[0]:
            raise CheckpointError(
                f"{stored.source}: the factors of {path} are {adapter.a.shape} and {adapter.b.shape}, but its kernel "
                f"is {kernel}; the adapters belong to another model"
            )
        if adapter.start is not None and layers[path].quantization_mode is not None:
            raise CheckpointError(f"{stored.source}: a symmetric start cannot be taken off the quantized kernel {path}")
    for key, value in stored.trained.items():
        if value.shape != tuple(variables[key].shape):
            raise CheckpointError(
                f"{stored.source}: {key} has shape {value.shape}, but this model needs {tuple(variables[key].shape)}"
            )


def _check_kernels(stored: Adapters, layers: Mapping[str, LowRank]) -> None:
    gaps: list[float] = []
    for path, adapter in stored.layers.items():
        if adapter.probe is not None:
            gaps += np.subtract(adapter.probe, probe(layers[path].base_kernel())).tolist()
    distance = float(np.sqrt(np.mean(np.square(gaps)))) if gaps else 0.0
    if not distance <= TOLERANCE:
        raise CheckpointError(
            f"{stored.source}: the adapters were trained on other base weights (distance {distance:.2f}, at most "
            f"{TOLERANCE} expected); load the base that they belong to, or pass strict=False"
        )


def _check_heads(stored: Adapters, model: keras.Model, backbone: object) -> None:
    body = set(keyed_variables(backbone))
    missing = [key for key in other_trained(model) if key not in body and key not in stored.trained]
    if missing:
        raise CheckpointError(f"{stored.source}: {shorten(missing)} of this model is missing in the file")


def _check_same(stored: Adapters, model: keras.Model) -> None:
    here = adapted_layers(model)
    different = sorted(set(here) ^ set(stored.layers))
    missing = [key for key in other_trained(model) if key not in stored.trained]
    if different or missing:
        raise CheckpointError(
            f"{stored.source}: the model and the file differ at {shorten(different + missing)}; "
            "load into a fresh model, which takes the file's targets"
        )
    for path, layer in here.items():
        adapter = stored.layers[path]
        there, ours = (adapter.a.shape[1], adapter.alpha), (layer.lora_rank, float(layer.lora_alpha))
        if there != ours:
            raise CheckpointError(
                f"{stored.source}: {path} has rank {there[0]} and alpha {there[1]:g} in the file, but rank {ours[0]} "
                f"and alpha {ours[1]:g} in this model; load into a fresh model"
            )
