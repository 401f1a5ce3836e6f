"""The records inside the index of a TensorFlow V2 checkpoint: one header, and one entry a tensor.

Field numbers are those of TensorFlow's `tensor_bundle.proto`, `tensor_shape.proto` and `types.proto`.
"""

from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

from qingformer.checkpoints.wire import FIXED32, read_fields, signed, write_field
from qingformer.errors import CheckpointError

# Numbers of `DataType` in tensorflow/core/framework/types.proto; those without a counterpart in NumPy are left out.
STRING = 7
# kTensorBundleVersion of the reader that this is; files ask for the version that they need at least.
FORMAT_VERSION = 1
DTYPES: dict[int, np.dtype[Any]] = {
    1: np.dtype(np.float32),
    2: np.dtype(np.float64),
    3: np.dtype(np.int32),
    4: np.dtype(np.uint8),
    5: np.dtype(np.int16),
    6: np.dtype(np.int8),
    STRING: np.dtype(object),
    8: np.dtype(np.complex64),
    9: np.dtype(np.int64),
    10: np.dtype(np.bool_),
    14: np.dtype(ml_dtypes.bfloat16),
    17: np.dtype(np.uint16),
    18: np.dtype(np.complex128),
    19: np.dtype(np.float16),
    22: np.dtype(np.uint32),
    23: np.dtype(np.uint64),
    24: np.dtype(ml_dtypes.float8_e5m2),
    25: np.dtype(ml_dtypes.float8_e4m3fn),
}
CODES = {dtype: code for code, dtype in DTYPES.items() if code != STRING}


@dataclass(frozen=True)
class BundleEntry:
    """Where a tensor lies: `size` bytes at `offset` of data file `shard`, and the masked CRC-32C of those bytes."""

    code: int
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    checksum: int

    @property
    def dtype(self) -> np.dtype[Any]:
        """The NumPy type; `object` for text."""
        if self.code not in DTYPES:
            raise CheckpointError(f"TensorFlow data type {self.code} has no counterpart here")
        return DTYPES[self.code]

    @property
    def is_text(self) -> bool:
        """Whether the elements are byte strings."""
        return self.code == STRING


def decode_header(message: bytes) -> int:
    """Return the number of data files that the header announces."""
    shards, endianness, minimum_reader = 1, 0, 0
    for number, value in read_fields(message):
        # BundleHeaderProto: 1 num_shards, 2 endianness (0 little), 3 version { 1 producer, 2 min_consumer }.
        if number == 1 and isinstance(value, int):
            shards = value
        elif number == 2 and isinstance(value, int):
            endianness = value
        elif number == 3 and isinstance(value, bytes):
            minimum_reader = next((v for n, v in read_fields(value) if n == 2 and isinstance(v, int)), 0)
    if endianness:
        raise CheckpointError("wrong byte order: written on a big-endian machine; re-save it on a little-endian one")
    if minimum_reader > FORMAT_VERSION:
        raise CheckpointError(f"needs a reader of bundle version {minimum_reader}, this is {FORMAT_VERSION}")
    if not 0 < shards <= 99_999:
        raise CheckpointError(f"damaged: {shards} data files announced")
    return shards


def encode_header() -> bytes:
    """Return the header of a bundle with one little-endian data file."""
    return write_field(1, 1) + write_field(3, write_field(1, FORMAT_VERSION))


def decode_entry(message: bytes) -> BundleEntry:
    """Read the entry of one tensor.

    Raises:
        CheckpointError: damaged, or one part of a partitioned variable.
    """
    # BundleEntryProto: 1 dtype, 2 shape, 3 shard_id, 4 offset, 5 size, 6 crc32c, 7 slices; what is absent is zero.
    numbers = {1: 0, 3: 0, 4: 0, 5: 0, 6: 0}
    shape: tuple[int, ...] = ()
    for number, value in read_fields(message):
        if number in numbers and isinstance(value, int):
            numbers[number] = value
        elif number == 2 and isinstance(value, bytes):
            shape = _decode_shape(value)
        elif number == 7:
            raise CheckpointError(
                "is a partitioned variable, which is not supported; "
                "re-save the checkpoint in TensorFlow with the variable in one piece (partitioner=None)"
            )
        elif number in (*numbers, 2):
            raise CheckpointError(f"damaged: field {number} of its entry is of the wrong kind")
    return BundleEntry(numbers[1], shape, numbers[3], signed(numbers[4]), signed(numbers[5]), numbers[6])


def _decode_shape(message: bytes) -> tuple[int, ...]:
    sizes = []
    for number, value in read_fields(message):
        if number == 2 and isinstance(value, bytes):
            sizes.append(next((signed(v) for n, v in read_fields(value) if n == 1 and isinstance(v, int)), 0))
        elif number == 3 and value:
            raise CheckpointError("damaged: a stored tensor has no known rank")
    return tuple(sizes)


def encode_entry(entry: BundleEntry) -> bytes:
    """Return the message of one tensor; zeros are left out as protocol buffers do."""
    shape = b"".join(write_field(2, write_field(1, size) if size else b"") for size in entry.shape)
    message = write_field(1, entry.code) + write_field(2, shape)
    # proto3 leaves zeros out.
    for number, value in ((3, entry.shard), (4, entry.offset), (5, entry.size)):
        if value:
            message += write_field(number, value)
    return message + write_field(6, entry.checksum, FIXED32)
