"""Low-rank adapters of a model: which layers get them, what stays trainable, merging."""

import re
import zlib
from collections.abc import Sequence

import keras

from qingformer.adapters.adapted_layers import (
    adapted_layers,
    check_dense_alone,
    dense_layers,
    keyed_variables,
    train_only,
)
from qingformer.adapters.low_rank_layer import LowRank
from qingformer.checkpoints.stored_heads import HEAD_PATHS
from qingformer.errors import ConfigError

ALL_LINEAR = "all-linear"
# Queries and values as in the paper; the joint projection of a gated attention unit, which has no others.
DEFAULT_TARGETS = (r"attention/(query|value|input)$",)


def enable_lora(
    model: keras.Model,
    rank: int,
    targets: str | Sequence[str],
    alpha: float | None,
    symmetric: bool,
    also_train: Sequence[str],
    seed: int,
) -> list[str]:
    """See `PretrainedModel.enable_lora`."""
    chosen = choose(model, targets)
    check(model, chosen, rank, alpha)
    open_keys = keys_matching(model, also_train)
    for path, layer in chosen.items():
        add_adapter(layer, rank, alpha, symmetric, zlib.crc32(f"{seed} {path}".encode()) % 2**30)
    freeze_rest(model, open_keys)
    return list(chosen)


def choose(model: keras.Model, targets: str | Sequence[str]) -> dict[str, LowRank]:
    """The dense layers by path that `targets` mean.

    Raises:
        ConfigError: a pattern that matches none of them.
    """
    layers = dense_layers(model)
    if targets == ALL_LINEAR:
        return {path: layer for path, layer in layers.items() if not re.match(HEAD_PATHS[0], f"{path}/")}
    patterns = (targets,) if isinstance(targets, str) else tuple(targets)
    idle = [pattern for pattern in patterns if not any(re.search(pattern, path) for path in layers)]
    if idle or not patterns:
        names = sorted({re.sub(r"\d+", "N", path) for path in layers})
        tables = [name for name in embedding_names(model) if any(re.search(pattern, name) for pattern in idle)]
        if tables:
            raise ConfigError(
                f"enable_lora: {tables[0]} is a table, which the output may be tied to, and takes no adapter; "
                f"also_train=[{tables[0]!r}] trains it whole"
            )
        raise ConfigError(
            f"enable_lora: no dense layer matches {', '.join(map(repr, idle)) or 'an empty list'}; dense layers are "
            f"{', '.join(names)} (or say {ALL_LINEAR!r})"
        )
    return {path: layer for path, layer in layers.items() if any(re.search(pattern, path) for pattern in patterns)}


def embedding_names(model: keras.Model) -> list[str]:
    """The paths of the embedding tables."""
    layers = model._flatten_layers(include_self=False)
    return [layer.path or layer.name for layer in layers if isinstance(layer, keras.layers.Embedding)]


def check(model: keras.Model, chosen: dict[str, LowRank], rank: int, alpha: float | None) -> None:
    """Refuse a rank or scale that cannot be, and a model that has adapters."""
    if adapted_layers(model):
        raise ConfigError(
            "enable_lora: the model has adapters already; load_adapters gives them other values, and another rank "
            "needs a fresh model"
        )
    if alpha is not None and not 0 < alpha < float("inf"):
        raise ConfigError(f"enable_lora: alpha is {alpha}; it must be a positive number (the update has scale alpha/r)")
    for path, layer in chosen.items():
        smaller = min(int(layer.kernel.shape[0]), layer.units)
        if not 1 <= rank <= smaller:
            raise ConfigError(f"enable_lora: rank is {rank}; {path} takes 1 to {smaller}")


def keys_matching(model: keras.Model, patterns: Sequence[str]) -> set[str]:
    """The keys of the variables whose layer's path matches a pattern."""
    keys = {key for key in keyed_variables(model) if not key.endswith("seed_generator_state")}
    for pattern in patterns:
        if not any(re.search(pattern, key.rpartition("/")[0]) for key in keys):
            raise ConfigError(f"enable_lora: also_train={pattern!r} matches no layer with weights")
    return {key for key in keys if any(re.search(pattern, key.rpartition("/")[0]) for pattern in patterns)}


def add_adapter(layer: LowRank, rank: int, alpha: float | None, symmetric: bool, seed: int) -> None:
    """Enable the adapter of one layer, with starting values that are a function of `seed`."""
    layer.trainable = True
    a = keras.initializers.VarianceScaling(1 / 3, "fan_in", "uniform", seed=seed)
    b = keras.initializers.VarianceScaling(1 / 3, "fan_out", "uniform", seed=seed + 1) if symmetric else "zeros"
    layer.enable_lora(rank, alpha, a_initializer=a, b_initializer=b, symmetric=symmetric)


def freeze_rest(model: keras.Model, open_keys: set[str]) -> None:
    """Leave the factors trainable, and the variables with these keys."""
    factors = {f"{path}/{name}" for path in adapted_layers(model) for name in ("lora_kernel_a", "lora_kernel_b")}
    train_only(model, factors | open_keys)


def merge(model: keras.Model) -> None:
    """See `PretrainedModel.merge_lora`."""
    for layer in _adapted(model, "merge_lora").values():
        layer.merge_lora()


def unmerge(model: keras.Model) -> None:
    """See `PretrainedModel.unmerge_lora`."""
    for layer in _adapted(model, "unmerge_lora").values():
        layer.unmerge_lora()


def _adapted(model: keras.Model, method: str) -> dict[str, LowRank]:
    check_dense_alone(model, method)
    layers = adapted_layers(model)
    if not layers:
        raise ConfigError(f"{method}: the model has no adapters; call enable_lora or load_adapters first")
    return layers
