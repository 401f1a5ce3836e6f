"""A checksum of arrays that is read at the speed of memory, for the safetensors files that this package writes.

The words of an array are laid out in rows of 1021; 64 rows are added modulo the word's range, and a CRC-32 runs over
the sums, one after another, and over what is left at the end. One changed word always changes a sum; longer damage and
exchanged blocks stay unseen with probability 2^-32 (1021 is prime: no sector of a disk has that length).
"""

import json
import zlib
from collections.abc import Sequence

import numpy as np

from qingformer.errors import CheckpointError

CHECKSUMS = "qingformer_checksums"
"""The key in the header's texts: a JSON object from tensor names to eight hexadecimal digits."""
_COLUMNS, _ROWS = 1021, 64


def checksum(array: np.ndarray, name: str, code: str, shape: Sequence[int]) -> str:
    """Return eight hexadecimal digits over the little-endian bytes of a contiguous array, its name, type and shape.

    Example:
        >>> checksum(np.arange(3, dtype=np.float32), "w", "F32", (3,))
        '7323a039'
    """
    crc = zlib.crc32(json.dumps([name, code, list(shape)]).encode())
    words = array.reshape(-1).view(f"<u{min(array.dtype.itemsize, 8)}")
    step = _COLUMNS * _ROWS
    whole = words.size // step * step
    for begin in range(0, whole, step):
        block = words[begin : begin + step].reshape(_ROWS, _COLUMNS)
        crc = zlib.crc32(np.add.reduce(block, axis=0, dtype=block.dtype).data, crc)
    return f"{zlib.crc32(words[whole:].data, crc):08x}"


def take_checksums(metadata: dict[str, str]) -> dict[str, str]:
    """Remove the checksums from the texts of a header and return them; none where it has none.

    Raises:
        CheckpointError: they are damaged.
    """
    text = metadata.pop(CHECKSUMS, None)
    if text is None:
        return {}
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise CheckpointError("damaged: the checksums in its header cannot be read")
    return found
