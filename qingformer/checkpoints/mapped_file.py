"""A memory-mapped file whose every slice is checked against its length before anything is allocated."""

import math
import mmap
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from qingformer.errors import CheckpointError

# The most that NumPy had before 2.0; no weight has more than five.
MAXIMUM_DIMENSIONS = 32


class MappedFile:
    """The bytes of one file, mapped read-only; arrays made from it are views that keep the map alive.

    Raises:
        CheckpointError: the file does not exist or cannot be read.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        try:
            with open(path, "rb") as file:
                self.size = os.fstat(file.fileno()).st_size
                self.data: mmap.mmap | bytes = (
                    # An empty file cannot be mapped.
                    mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if self.size else b""
                )
        except FileNotFoundError:
            raise CheckpointError(f"{path}: no such file") from None
        except (OSError, ValueError) as problem:
            raise CheckpointError(f"{path}: cannot be read: {problem}") from None

    def __len__(self) -> int:
        return self.size

    def view(self, offset: int, size: int) -> memoryview:
        """Return bytes [offset, offset + size) without copying."""
        if offset < 0 or size < 0 or offset + size > self.size:
            raise CheckpointError(
                f"{self.path}: truncated: bytes {offset} to {offset + size} are needed, the file has {self.size}"
            )
        return memoryview(self.data)[offset : offset + size]

    def array(self, offset: int, dtype: np.dtype[Any], shape: Sequence[int]) -> np.ndarray:
        """Return the C-ordered array stored at `offset`: a view, or a copy when the file does not align it."""
        shape = tuple(shape)
        array = np.frombuffer(self.view(offset, byte_count(dtype, shape)), dtype).reshape(shape)
        # NumPy computes on unaligned numbers through a copy each time; this makes one for good.
        return array if array.flags.aligned else frozen_copy(array)


def byte_count(dtype: np.dtype[Any], shape: Sequence[int]) -> int:
    """Return the number of bytes of an array, after checking that its shape is one that an array can have."""
    if len(shape) > MAXIMUM_DIMENSIONS:
        raise CheckpointError(f"damaged: a tensor has {len(shape)} dimensions (at most {MAXIMUM_DIMENSIONS})")
    # 2^48 bytes are more than an address space holds: such a size is damage, not a large model.
    if any(not 0 <= size < 1 << 48 for size in shape):
        raise CheckpointError(f"damaged: a tensor has the impossible shape {list(shape)[:8]}")
    count = math.prod(shape)
    # NumPy refuses shapes whose non-zero sizes overflow even when another size is zero
    if math.prod(size for size in shape if size) * dtype.itemsize >= 1 << 62:
        raise CheckpointError(f"damaged: a tensor has the impossible shape {list(shape)[:8]}")
    return count * dtype.itemsize


def frozen_copy(array: np.ndarray) -> np.ndarray:
    """Return a C-ordered read-only copy."""
    copy = array.copy(order="C")
    copy.flags.writeable = False
    return copy
