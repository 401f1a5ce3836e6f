"""CRC-32C (Castagnoli), the checksum inside TensorFlow checkpoints: Google's C library, or else NumPy.

The library uses the processor's own instruction, about 5 GB/s, and lets other threads run. Where it has no compiled
form NumPy does the same at 0.2 GB/s. A cyclic redundancy check is linear over GF(2), so a message can be cut into lanes
that are summed side by side and joined afterwards: `crc(a + b) = shift(crc(a), len(b)) ^ crc(b)`, where `shift` appends
zero bytes and is itself a linear map of the 32 bits. All lanes advance two bytes per NumPy call.
"""

from functools import lru_cache
from typing import Any

import numpy as np


def _native() -> Any:
    """Google's library in its compiled form, None where there is none."""
    try:
        import google_crc32c
    except ImportError:
        return None
    return google_crc32c if google_crc32c.implementation == "c" else None


NATIVE = _native()

_POLYNOMIAL = 0x82F63B78  # reflected form of 0x1EDC6F41 (RFC 3720, appendix B.4)
_CHUNK = 4 << 20  # bytes summed in one go: bounds the working memory
_MASK_DELTA = 0xA282EAD8


def crc32c(data: bytes | memoryview | np.ndarray, start: int = 0) -> int:
    """Return the CRC-32C of `data`, continuing from `start`, the CRC-32C of what came before.

    Example:
        >>> hex(crc32c(b"123456789"))
        '0xe3069283'
    """
    view = np.frombuffer(data, np.uint8) if not isinstance(data, np.ndarray) else data.reshape(-1).view(np.uint8)
    if NATIVE is not None:
        return int(NATIVE.extend(start, view))
    return numpy_crc32c(view, start)


def numpy_crc32c(view: np.ndarray, start: int = 0) -> int:
    """The same with NumPy alone, of (N,) uint8."""
    register = start ^ 0xFFFFFFFF
    for begin in range(0, view.size, _CHUNK):
        chunk = view[begin : begin + _CHUNK]
        register = _shift(register, chunk.size) ^ _raw(chunk)
    return register ^ 0xFFFFFFFF


def masked(crc: int) -> int:
    """Return the rotated and offset form in which TensorFlow stores a checksum next to the bytes it covers."""
    return (((crc >> 15) | (crc << 17)) + _MASK_DELTA) & 0xFFFFFFFF


def _raw(data: np.ndarray) -> int:
    """The shift register after `data` when it starts at zero; zero bytes in front therefore change nothing."""
    width = 1024 if data.size >= 1 << 20 else 64 if data.size > 128 else 2
    lanes = 1 << max(0, (-(-data.size // width) - 1).bit_length())
    padded = np.zeros(lanes * width, np.uint8)
    padded[padded.size - data.size :] = data
    columns = np.ascontiguousarray(padded.view("<u2").reshape(lanes, width // 2).T)
    table = _table16()
    registers, fresh = np.zeros(lanes, "<u4"), np.empty(lanes, np.uint32)
    low_halves = registers.view("<u2")[0::2]
    for column in columns:
        np.take(table, low_halves ^ column, out=fresh, mode="clip")
        np.right_shift(registers, 16, out=registers)
        np.bitwise_xor(registers, fresh, out=registers)
    while registers.size > 1:
        registers = _apply(_shift_tables(width), registers[0::2]) ^ registers[1::2]
        width *= 2
    return int(registers[0])


@lru_cache(maxsize=1)
def _table16() -> np.ndarray:
    """The register after two bytes, by their value: (65536,) uint32."""
    table: np.ndarray = np.arange(1 << 16, dtype=np.uint32)
    for _ in range(16):
        table = (table >> 1) ^ (np.uint32(_POLYNOMIAL) * (table & 1))
    return table


def _apply(tables: np.ndarray, registers: np.ndarray) -> np.ndarray:
    """Apply a linear map, given as four tables of 256 entries (one a byte), to a vector of registers."""
    result = tables[0][registers & 0xFF] ^ tables[1][(registers >> 8) & 0xFF]
    return result ^ tables[2][(registers >> 16) & 0xFF] ^ tables[3][registers >> 24]


@lru_cache(maxsize=64)
def _shift_tables(count: int) -> np.ndarray:
    """The map "append `count` zero bytes", `count` a power of two: (4, 256) uint32."""
    values = np.arange(256, dtype=np.uint32)
    starts = np.stack([values << np.uint32(8 * byte) for byte in range(4)])
    if count == 1:
        return _table8()[starts & 0xFF] ^ (starts >> 8)
    half = _shift_tables(count // 2)
    return np.stack([_apply(half, _apply(half, start)) for start in starts])


@lru_cache(maxsize=1)
def _table8() -> np.ndarray:
    table: np.ndarray = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = (table >> 1) ^ (np.uint32(_POLYNOMIAL) * (table & 1))
    return table


def _shift(register: int, count: int) -> int:
    """Append `count` zero bytes to the message behind `register`."""
    state = np.asarray([register], np.uint32)
    power = 1
    while power <= count:
        if count & power:
            state = _apply(_shift_tables(power), state)
        power *= 2
    return int(state[0])
