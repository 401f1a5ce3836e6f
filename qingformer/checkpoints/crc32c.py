"""CRC-32C (Castagnoli), the checksum inside TensorFlow checkpoints, by the library `fastcrc`.

It uses the processor's own instructions, at the speed of memory, and lets other threads run meanwhile, so that
checksums can be compared while a model is built.
"""

import numpy as np
from fastcrc import crc32

# From LevelDB: a checksum of data that holds checksums would be weak, so stored ones are rotated and shifted by this.
_MASK_DELTA = 0xA282EAD8


def crc32c(data: bytes | bytearray | memoryview | np.ndarray, start: int = 0) -> int:
    """Return the CRC-32C of `data`, continuing from `start`, the CRC-32C of what came before.

    Source: RFC 3720, appendix B.4.

    Example:
        >>> hex(crc32c(b"123456789"))
        '0xe3069283'
    """
    if isinstance(data, np.ndarray):
        # The bytes in place: a copy of the embeddings alone would take a hundred megabytes.
        data = data.reshape(-1).view(np.uint8).data
    return int(crc32.iscsi(data, start))


def masked(crc: int) -> int:
    """Return the rotated and offset form in which TensorFlow stores a checksum next to the bytes it covers."""
    return (((crc >> 15) | (crc << 17)) + _MASK_DELTA) & 0xFFFFFFFF
