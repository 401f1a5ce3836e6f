"""What a PyTorch pickle may mention: storages, tensors as descriptions, and a short list of globals."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

from qingformer.checkpoints.mapped_file import MAXIMUM_DIMENSIONS, byte_count
from qingformer.errors import CheckpointError
from qingformer.types import Config

MAXIMUM_EXPANDED_BYTES = 16 << 20  # a tensor that repeats its storage (strides of 0) may grow to this, not further


@dataclass(frozen=True)
class StorageType:
    """The element type of a storage."""

    dtype: np.dtype[Any]


@dataclass(frozen=True)
class Storage:
    """`count` elements of `dtype` under the name `key`, from element `start` of that stored block on."""

    key: str
    dtype: np.dtype[Any]
    count: int
    start: int = 0


@dataclass(frozen=True)
class TensorView:
    """A strided view of a storage; strides and offset count elements. It has been checked to lie inside its storage."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: np.dtype[Any]


@dataclass(frozen=True)
class Companion:
    """What training code keeps beside the weights (scores, options): known to be there, never built."""


@dataclass(frozen=True)
class Builder:
    """One of the few functions a pickle may call."""

    build: Callable[..., Any]


def _rebuild_tensor(storage: object, offset: object, shape: object, strides: object, *rest: object) -> TensorView:
    return _tensor(storage, offset, shape, strides, None)


def _rebuild_tensor_v3(
    storage: object,
    offset: object,
    shape: object,
    strides: object,
    gradient: object,
    hooks: object,
    kind: object,
    *rest: object,
) -> TensorView:
    if not isinstance(kind, StorageType):
        raise CheckpointError("damaged: a tensor without a known element type")
    return _tensor(storage, offset, shape, strides, kind.dtype)


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, dtype: np.dtype[Any] | None) -> TensorView:
    if not isinstance(storage, Storage) or type(offset) is not int or offset < 0:
        raise CheckpointError("damaged: a tensor without a storage or with an impossible offset")
    if not _counts(shape) or not _counts(strides) or len(shape) != len(strides) or len(shape) > MAXIMUM_DIMENSIONS:
        raise CheckpointError("damaged: a tensor with impossible shape or strides")
    dtype = dtype or storage.dtype
    size = byte_count(dtype, shape)
    available = storage.count * storage.dtype.itemsize // dtype.itemsize
    last = offset + sum((size_ - 1) * stride for size_, stride in zip(shape, strides))
    if math.prod(shape) and last >= available:
        raise CheckpointError(f"damaged: a tensor of shape {list(shape)[:8]} reaches beyond its storage")
    if size > max(available * dtype.itemsize, MAXIMUM_EXPANDED_BYTES):
        raise CheckpointError(f"damaged: a tensor of shape {list(shape)[:8]} is far larger than its storage")
    return TensorView(storage, offset, tuple(shape), tuple(strides), dtype)


def _counts(values: object) -> bool:
    return isinstance(values, tuple) and all(type(value) is int and 0 <= value < 1 << 48 for value in values)


def _rebuild_parameter(data: object, *rest: object) -> TensorView:
    if not isinstance(data, TensorView):
        raise CheckpointError("damaged: a parameter without a tensor")
    return data


def _ordered_dict(items: object = ()) -> dict[Any, Any]:
    result = {}
    for pair in items if isinstance(items, (list, tuple)) else [None]:
        if not isinstance(pair, (list, tuple)) or len(pair) != 2 or not isinstance(pair[0], str):
            raise CheckpointError("damaged: an ordered dict made from something else than pairs")
        result[pair[0]] = pair[1]
    return result


def _size(values: Any = ()) -> tuple[Any, ...]:
    if not _counts(tuple(values) if isinstance(values, list) else values):
        raise CheckpointError("damaged: a size that is not a tuple of counts")
    return tuple(values)


_NAMES: dict[str, tuple[str, Any]] = {
    "Float": ("float32", np.float32),
    "Double": ("float64", np.float64),
    "Half": ("float16", np.float16),
    "BFloat16": ("bfloat16", ml_dtypes.bfloat16),
    "Long": ("int64", np.int64),
    "Int": ("int32", np.int32),
    "Short": ("int16", np.int16),
    "Char": ("int8", np.int8),
    "Byte": ("uint8", np.uint8),
    "Bool": ("bool", np.bool_),
    "ComplexFloat": ("complex64", np.complex64),
    "ComplexDouble": ("complex128", np.complex128),
}
_NEWER: Config = {
    "uint16": np.uint16,
    "uint32": np.uint32,
    "uint64": np.uint64,
    "float8_e4m3fn": ml_dtypes.float8_e4m3fn,
    "float8_e5m2": ml_dtypes.float8_e5m2,
}


def _companion(*values: object) -> Companion:
    return Companion()


# Scores that are NumPy's numbers, options of a command line, paths, devices: classes that hold no weights.
_COMPANIONS = (
    ("numpy.core.multiarray", "scalar"),
    ("numpy._core.multiarray", "scalar"),
    ("numpy", "dtype"),
    ("_codecs", "encode"),
    ("argparse", "Namespace"),
    ("pathlib", "PosixPath"),
    ("pathlib", "WindowsPath"),
    ("torch", "device"),
    ("pytorch_lightning.utilities.parsing", "AttributeDict"),
    ("lightning_fabric.utilities.data", "AttributeDict"),
    ("lightning.fabric.utilities.data", "AttributeDict"),
)


def _globals() -> dict[tuple[str, str], StorageType | Builder]:
    table: dict[tuple[str, str], StorageType | Builder] = {
        ("collections", "OrderedDict"): Builder(_ordered_dict),
        ("torch", "Size"): Builder(_size),
        ("torch._utils", "_rebuild_tensor"): Builder(_rebuild_tensor),
        ("torch._utils", "_rebuild_tensor_v2"): Builder(_rebuild_tensor),
        ("torch._utils", "_rebuild_tensor_v3"): Builder(_rebuild_tensor_v3),
        ("torch._utils", "_rebuild_parameter"): Builder(_rebuild_parameter),
        ("torch.storage", "UntypedStorage"): StorageType(np.dtype(np.uint8)),
    }
    for storage, (dtype, kind) in _NAMES.items():
        table["torch", dtype] = StorageType(np.dtype(kind))
        for module in ("torch", "torch.cuda"):
            table[module, f"{storage}Storage"] = StorageType(np.dtype(kind))
    table.update({("torch", name): StorageType(np.dtype(kind)) for name, kind in _NEWER.items()})
    table.update(dict.fromkeys(_COMPANIONS, Builder(_companion)))
    return table


GLOBALS = _globals()
"""(module, name) of everything a pickle may mention."""
