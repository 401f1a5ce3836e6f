"""The checksums that this package writes into its safetensors files, which have none of their own.

Each is the CRC-32C of the tensor's name, type and shape, and then of its bytes.
"""

import json
from collections.abc import Sequence

import numpy as np

from qingformer.checkpoints.crc32c import crc32c
from qingformer.errors import CheckpointError

CHECKSUMS = "qingformer_checksums"
"""The key in the header's texts: a JSON object from tensor names to eight hexadecimal digits."""


def checksum(array: np.ndarray, name: str, code: str, shape: Sequence[int]) -> str:
    """Return eight hexadecimal digits over the little-endian bytes of a contiguous array, its name, type and shape.

    Example:
        >>> checksum(np.arange(3, dtype=np.float32), "w", "F32", (3,))
        'c765b35a'
    """
    # Name, type and shape are part of it: two tensors of the same bytes that changed places are noticed.
    about = crc32c(json.dumps([name, code, list(shape)]).encode())
    return f"{crc32c(array, about):08x}"


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
