"""Decompression of Snappy blocks, which some writers use inside the index of a TensorFlow checkpoint.

Format: the length of the plain text as a varint, then literals and back references
(github.com/google/snappy, format_description.txt).
"""

from qingformer.checkpoints.wire import read_varint
from qingformer.errors import CheckpointError

MAXIMUM_PLAIN_BYTES = 64 << 20  # an index block is a few hundred KB; no more than this is ever allocated


def decompress(data: bytes) -> bytes:
    """Return the plain bytes of one raw Snappy block.

    Raises:
        CheckpointError: the block is truncated, refers to what does not exist, or announces a nonsense length.
    """
    expected, position = read_varint(data, 0, bits=32)
    if expected > min(MAXIMUM_PLAIN_BYTES, 64 * max(1, len(data))):  # one reference of 2 bytes makes at most 64 bytes
        raise CheckpointError(f"damaged: {len(data)} compressed bytes announce {expected} plain bytes")
    plain = bytearray()
    while position < len(data):
        tag = data[position]
        position += 1
        if tag & 3 == 0:
            position = _literal(data, position, tag, plain)
        else:
            position = _reference(data, position, tag, plain)
        if len(plain) > expected:
            break
    if len(plain) != expected:
        raise CheckpointError(f"damaged: a compressed block announces {expected} plain bytes but holds another number")
    return bytes(plain)


def _take(data: bytes, position: int, count: int) -> bytes:
    if count > len(data) - position:
        raise CheckpointError("truncated: a compressed block ends early")
    return data[position : position + count]


def _literal(data: bytes, position: int, tag: int, plain: bytearray) -> int:
    length = (tag >> 2) + 1
    if length > 60:
        width = length - 60
        length = int.from_bytes(_take(data, position, width), "little") + 1
        position += width
    plain += _take(data, position, length)
    return position + length


def _reference(data: bytes, position: int, tag: int, plain: bytearray) -> int:
    width = (0, 1, 2, 4)[tag & 3]
    offset = int.from_bytes(_take(data, position, width), "little")
    length = (tag >> 2) + 1
    if width == 1:
        length = (tag >> 2 & 7) + 4
        offset |= (tag >> 5) << 8
    if not 0 < offset <= len(plain):
        raise CheckpointError("damaged: a compressed block refers to bytes before its start")
    pattern = plain[-offset:]
    plain += (pattern * (length // len(pattern) + 1))[:length] if offset < length else pattern[:length]
    return position + width
