"""Tensors of byte strings inside a TensorFlow checkpoint.

    lengths as varints, 4 bytes masked CRC-32C of the lengths, the strings one behind the other

The checksum of the lengths covers them as little-endian numbers of 4 bytes (8 where one needs it), not as varints.
"""

import math
from collections.abc import Sequence

import numpy as np

from qingformer.checkpoints.crc32c import crc32c, masked
from qingformer.checkpoints.wire import read_varint
from qingformer.errors import CheckpointError


def read_text(raw: memoryview, shape: Sequence[int]) -> np.ndarray:
    """Return the strings as an object array of `bytes` with `shape`."""
    lengths, position = _lengths(raw, shape)
    strings = np.empty(len(lengths), dtype=object)
    position += 4
    for number, length in enumerate(lengths):
        strings[number] = bytes(raw[position : position + length])
        position += length
    return strings.reshape(tuple(shape))


def text_checksum(raw: memoryview, shape: Sequence[int]) -> int:
    """Return the masked checksum that the entry of this tensor must state."""
    lengths, position = _lengths(raw, shape)
    plain = b"".join(length.to_bytes(4 if length < 1 << 32 else 8, "little") for length in lengths)
    sum_of_lengths = crc32c(plain)
    if masked(sum_of_lengths) != int.from_bytes(raw[position : position + 4], "little"):
        raise CheckpointError("damaged: the lengths of its strings do not match their checksum")
    return masked(crc32c(raw[position:], sum_of_lengths))


def _lengths(raw: memoryview, shape: Sequence[int]) -> tuple[list[int], int]:
    if math.prod(shape) > len(raw):
        raise CheckpointError("truncated: it has fewer bytes than strings")
    lengths, position = [], 0
    for _ in range(math.prod(shape)):
        length, position = read_varint(raw, position)
        lengths.append(length)
    if position + 4 + sum(lengths) != len(raw):
        raise CheckpointError("damaged: the lengths of its strings do not add up to its size")
    return lengths, position
