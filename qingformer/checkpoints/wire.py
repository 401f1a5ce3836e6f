"""The byte grammar of the TensorFlow checkpoint index: variable-length integers and protocol-buffer fields.

Functions here raise CheckpointError without a file name; `about` adds it on the way out.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from qingformer.errors import CheckpointError

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


@contextmanager
def about(thing: object) -> Iterator[None]:
    """Put the name of `thing` (a file, a tensor) in front of any CheckpointError raised inside."""
    try:
        yield
    except CheckpointError as problem:
        raise CheckpointError(printable(f"{thing}: {problem}")) from None


def printable(text: str) -> str:
    """Return `text` with control characters escaped, so that a message stays one line whatever a file calls itself."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def read_varint(data: bytes | memoryview, position: int, bits: int = 64) -> tuple[int, int]:
    """Read a little-endian base-128 integer; return it and the position behind it."""
    value = 0
    for shift in range(0, bits, 7):
        if position >= len(data):
            raise CheckpointError("truncated: a number runs past the end")
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value >> bits:
                break
            return value, position
    raise CheckpointError(f"damaged: a number needs more than {bits} bits")


def write_varint(value: int) -> bytes:
    """Return the base-128 form of `value` >= 0."""
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def read_fields(message: bytes | memoryview) -> Iterator[tuple[int, int | bytes]]:
    """Yield (field number, value) of a protocol-buffer message; values are integers or bytes."""
    position = 0
    while position < len(message):
        key, position = read_varint(message, position)
        number, kind = key >> 3, key & 7
        value: int | bytes
        if kind == VARINT:
            value, position = read_varint(message, position)
            yield number, value
            continue
        if kind == BYTES:
            size, position = read_varint(message, position)
        elif kind in (FIXED32, FIXED64):
            size = 4 if kind == FIXED32 else 8
        else:
            raise CheckpointError(f"damaged: a record has a field of unknown kind {kind}")
        if size > len(message) - position:
            raise CheckpointError("truncated: a field runs past the end of its record")
        raw = bytes(message[position : position + size])
        position += size
        yield number, raw if kind == BYTES else int.from_bytes(raw, "little")


def write_field(number: int, value: int | bytes, kind: int | None = None) -> bytes:
    """Return one protocol-buffer field: bytes, a varint, or with `kind` FIXED32 / FIXED64 a fixed-width integer."""
    kind = kind if kind is not None else VARINT if isinstance(value, int) else BYTES
    key = write_varint(number << 3 | kind)
    if isinstance(value, bytes):
        return key + write_varint(len(value)) + value
    if kind == VARINT:
        return key + write_varint(value)
    return key + value.to_bytes(4 if kind == FIXED32 else 8, "little")


def signed(value: int) -> int:
    """Read a 64-bit varint as the two's complement number that protocol buffers mean by it."""
    return value - (1 << 64) if value >> 63 else value
