"""Shared by the tests of this folder: the committed fixtures, their expected content, and bit-for-bit comparison."""

import json
from collections.abc import Mapping
from pathlib import Path

import ml_dtypes
import numpy as np

from qingformer.checkpoints import Checkpoint

FIXTURES = Path(__file__).resolve().parent.parent / "fixtures" / "checkpoints"


def expected(name: str) -> dict[str, np.ndarray]:
    """The tensors that the program which wrote fixture `name` put into it."""
    table = json.loads((FIXTURES / f"{name}.expected.json").read_text("utf-8"))
    return {
        key: np.frombuffer(bytes.fromhex(entry["hex"]), dtype(entry["dtype"])).reshape(entry["shape"])
        for key, entry in table.items()
    }


def dtype(name: str) -> np.dtype:
    return np.dtype(getattr(ml_dtypes, name)) if hasattr(ml_dtypes, name) else np.dtype(name)


def assert_same(actual: np.ndarray, wanted: np.ndarray, name: str = "") -> None:
    """Equal in type, shape and every bit (also of NaN)."""
    actual, wanted = np.asarray(actual), np.asarray(wanted)
    assert (actual.dtype, actual.shape) == (wanted.dtype, wanted.shape), name
    assert actual.tobytes() == wanted.tobytes(), name


def assert_holds(checkpoint: Checkpoint, tensors: Mapping[str, np.ndarray]) -> None:
    """The checkpoint lists exactly these tensors and reads each bit for bit."""
    assert sorted(checkpoint.names()) == sorted(tensors)
    for name, tensor in tensors.items():
        assert checkpoint.shape(name) == tensor.shape
        assert checkpoint.dtype(name) == tensor.dtype
        assert_same(checkpoint.read(name), tensor, name)


def some_tensors() -> dict[str, np.ndarray]:
    """Small tensors of the types and shapes that matter."""
    generator = np.random.default_rng(7)
    return {
        "dense/kernel": generator.normal(size=(3, 4)).astype(np.float32),
        "dense/bias": np.zeros(4, ml_dtypes.bfloat16) + 1,
        "half": generator.normal(size=(2, 2)).astype(np.float16),
        "mask": np.array([True, False, True]),
        "step": np.array(12345678901, np.int64),
        "small": np.array([-128, 127], np.int8),
        "empty": np.zeros((0, 3), np.float32),
        "transposed": np.arange(6, dtype=np.int32).reshape(2, 3).T,
        "big_endian": np.arange(3, dtype=">f4"),
    }


def native(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The same in this machine's byte order, which is what a reader returns."""
    return {name: tensor.astype(tensor.dtype.newbyteorder("=")) for name, tensor in tensors.items()}
