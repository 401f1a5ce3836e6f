"""The sorted key-value table in which TensorFlow keeps the index of a checkpoint (LevelDB's table format).

table  = data blocks, metaindex block, index block, footer of 48 bytes
block  = contents, 1 byte compression (0 none, 1 Snappy), 4 bytes masked CRC-32C of contents and that byte
footer = handle of the metaindex, handle of the index, zeros up to 40 bytes, 8 bytes magic number
handle = varint offset, varint size
"""

import struct
from collections.abc import Iterable, Iterator

from qingformer.checkpoints.crc32c import crc32c, masked
from qingformer.checkpoints.snappy import decompress
from qingformer.checkpoints.wire import read_varint, write_varint
from qingformer.errors import CheckpointError

MAGIC = 0xDB4775248B80FB57
FOOTER_BYTES = 48
_TRAILER_BYTES = 5
_MAXIMUM_KEY_BYTES = 4096
_MAXIMUM_TOTAL_KEY_BYTES = 64 << 20  # prefix compression could otherwise make gigabytes of keys from a small file
_RESTART_INTERVAL = 16
_BLOCK_BYTES = 4096


def has_magic(tail: bytes) -> bool:
    """Say whether a file that ends with `tail` is such a table."""
    return len(tail) >= FOOTER_BYTES and tail[-8:] == struct.pack("<Q", MAGIC)


def read_table(data: bytes | memoryview) -> Iterator[tuple[bytes, bytes]]:
    """Yield (key, value) in order, checking every checksum, bound and the order of the keys.

    Raises:
        CheckpointError: the table is truncated, damaged or of another byte order (the message has no file name).
    """
    index_offset, index_size = _index_handle(data)
    previous, end, total = None, 0, 0
    for _, handle in _entries(_block(data, index_offset, index_size)):
        offset, position = read_varint(handle, 0)
        size, _ = read_varint(handle, position)
        if offset < end:
            raise CheckpointError("damaged: blocks of the index overlap")
        end = offset + size + _TRAILER_BYTES
        for key, value in _entries(_block(data, offset, size)):
            if previous is not None and key <= previous:
                raise CheckpointError(f"damaged: key {key[:80]!r} is out of order or occurs twice")
            previous = key
            total += len(key)
            if total > _MAXIMUM_TOTAL_KEY_BYTES:
                raise CheckpointError("damaged: the keys of the index are of nonsense size")
            yield key, value


def _index_handle(data: bytes | memoryview) -> tuple[int, int]:
    if len(data) < FOOTER_BYTES:
        raise CheckpointError(f"truncated: {len(data)} bytes, an index has at least {FOOTER_BYTES}")
    footer = bytes(data[-FOOTER_BYTES:])
    if not has_magic(footer):
        if footer[-8:] == struct.pack(">Q", MAGIC):
            raise CheckpointError("wrong byte order: written on a big-endian machine; re-save it on a little-endian")
        raise CheckpointError("truncated or not a TensorFlow checkpoint index: the magic number at its end is missing")
    position = 0
    for _ in range(3):
        offset, position = read_varint(footer[:40], position)
    size, position = read_varint(footer[:40], position)
    return offset, size


def _block(data: bytes | memoryview, offset: int, size: int) -> bytes:
    if offset + size + _TRAILER_BYTES > len(data) - FOOTER_BYTES:
        raise CheckpointError(f"truncated: a block of {size} bytes at {offset} ends behind the end")
    contents = bytes(data[offset : offset + size])
    kind = data[offset + size]
    stored = int.from_bytes(data[offset + size + 1 : offset + size + _TRAILER_BYTES], "little")
    if masked(crc32c(contents + bytes([kind]))) != stored:
        raise CheckpointError(f"damaged: the checksum of the index block at byte {offset} does not match")
    if kind > 1:
        raise CheckpointError(f"the index block at byte {offset} is compressed in an unknown way ({kind})")
    return decompress(contents) if kind else contents


def _entries(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    restarts = int.from_bytes(block[-4:], "little")
    end = len(block) - 4 * (restarts + 1)
    if len(block) < 4 or end < 0:
        raise CheckpointError("damaged: an index block has no room for its own table of restarts")
    key, position = b"", 0
    while position < end:
        shared, position = read_varint(block, position, bits=32)
        fresh, position = read_varint(block, position, bits=32)
        size, position = read_varint(block, position, bits=32)
        if shared > len(key) or fresh + size > end - position:
            raise CheckpointError("damaged: an entry runs past the end of its index block")
        if shared + fresh > _MAXIMUM_KEY_BYTES:
            raise CheckpointError(f"damaged: a key of {shared + fresh} bytes (at most {_MAXIMUM_KEY_BYTES})")
        key = key[:shared] + block[position : position + fresh]
        position += fresh
        yield key, block[position : position + size]
        position += size


def write_table(entries: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return the bytes of a table with `entries`, whose keys must already be in increasing order."""
    table, index, group, size = bytearray(), [], [], 0
    for key, value in entries:
        group.append((key, value))
        size += len(key) + len(value) + 8
        if size >= _BLOCK_BYTES:
            index.append((key, _append(table, group, _RESTART_INTERVAL)))
            group, size = [], 0
    if group:
        index.append((group[-1][0], _append(table, group, _RESTART_INTERVAL)))
    footer = _append(table, [], _RESTART_INTERVAL) + _append(table, index, 1)
    return bytes(table) + footer.ljust(FOOTER_BYTES - 8, b"\0") + struct.pack("<Q", MAGIC)


def _append(table: bytearray, entries: list[tuple[bytes, bytes]], interval: int) -> bytes:
    """Add one block to `table` and return its handle."""
    contents, restarts, previous = bytearray(), [], b""
    for number, (key, value) in enumerate(entries):
        shared = 0
        if number % interval == 0:
            restarts.append(len(contents))
        else:
            limit = min(len(key), len(previous))
            while shared < limit and key[shared] == previous[shared]:
                shared += 1
        contents += write_varint(shared) + write_varint(len(key) - shared) + write_varint(len(value))
        contents += key[shared:] + value
        previous = key
    restarts = restarts or [0]
    contents += struct.pack(f"<{len(restarts) + 1}I", *restarts, len(restarts))
    handle = write_varint(len(table)) + write_varint(len(contents))
    table += contents + b"\0"
    table += masked(crc32c(bytes(contents) + b"\0")).to_bytes(4, "little")
    return handle
