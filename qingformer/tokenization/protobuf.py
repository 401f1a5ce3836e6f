"""The wire format of protocol buffers, as far as reading a small message needs it."""

from collections.abc import Iterator
from typing import NamedTuple

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
_FIXED = {FIXED64: 8, FIXED32: 4}


class Field(NamedTuple):
    """One field of a message: an int for varints, the raw bytes for everything else."""

    number: int
    wire_type: int
    value: int | bytes


def fields(message: bytes) -> Iterator[Field]:
    """The fields of a message in file order; ValueError, naming the place, for bytes that are no message.

    A key is (field number << 3 | wire type), a varint has seven bits a byte, lowest first. Groups (types 3 and 4) are
    out of use and taken for damage.
    """
    place = 0
    while place < len(message):
        key, place = _varint(message, place)
        number, wire_type = key >> 3, key & 7
        if number == 0 or wire_type not in (VARINT, BYTES, *_FIXED):
            raise ValueError(f"byte {place - 1} does not begin a field")
        if wire_type == VARINT:
            value, place = _varint(message, place)
            yield Field(number, wire_type, value)
            continue
        if wire_type == BYTES:
            length, place = _varint(message, place)
        else:
            length = _FIXED[wire_type]
        if place + length > len(message):
            raise ValueError(f"ends at byte {len(message)}, {place + length - len(message)} bytes early")
        yield Field(number, wire_type, message[place : place + length])
        place += length


def _varint(message: bytes, place: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if place >= len(message):
            raise ValueError(f"ends at byte {len(message)}, inside a number")
        byte = message[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
    raise ValueError(f"a number of more than 10 bytes ends at byte {place}")
