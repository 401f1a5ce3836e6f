"""The parts of a TensorFlow index: checksum, varints, Snappy, sorted table."""

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qingformer.checkpoints import sorted_table
from qingformer.checkpoints.crc32c import crc32c, masked
from qingformer.checkpoints.snappy import decompress
from qingformer.checkpoints.sorted_table import MAGIC, read_table, write_table
from qingformer.checkpoints.wire import read_fields, read_varint, signed, write_varint
from qingformer.errors import CheckpointError
from tests.checkpoints.support import FIXTURES


def slow_crc32c(data: bytes) -> int:
    """One bit at a time, straight from the definition."""
    register = 0xFFFFFFFF
    for byte in data:
        register ^= byte
        for _ in range(8):
            register = (register >> 1) ^ (0x82F63B78 if register & 1 else 0)
    return register ^ 0xFFFFFFFF


def test_crc32c_published_values():
    """RFC 3720, appendix B.4, and the check value of the CRC catalogue."""
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(b"\xff" * 32) == 0x62A8AB43
    assert crc32c(bytes(range(32))) == 0x46DD794E
    assert crc32c(b"") == 0


@given(st.binary(max_size=700), st.integers(0, 700))
def test_crc32c_equals_definition_and_continues(data, cut):
    assert crc32c(data) == slow_crc32c(data)
    assert crc32c(data[cut:], crc32c(data[:cut])) == crc32c(data)


@pytest.mark.parametrize("size", [127, 128, 129, 4097, (1 << 20) - 1, 1 << 20, (4 << 20) + 3])
def test_crc32c_of_large_data_is_that_of_its_parts(size):
    data = np.random.default_rng(0).integers(0, 256, size, np.uint8)
    pieces = 0
    for begin in range(0, size, 100_001):
        pieces = crc32c(data[begin : begin + 100_001], pieces)
    assert crc32c(data) == pieces


def test_crc32c_takes_any_buffer():
    for data in (b"123456789", memoryview(b"123456789"), bytearray(b"123456789"), np.frombuffer(b"123456789", "u1")):
        assert crc32c(data) == 0xE3069283
    assert crc32c(np.arange(6, dtype="f4").reshape(2, 3)) == crc32c(np.arange(6, dtype="f4").tobytes())


def test_masked_crc_of_an_index_written_by_tensorflow():
    data = (FIXTURES / "many.ckpt.index").read_bytes()
    assert len(list(read_table(data))) == 401


@given(st.integers(0, (1 << 64) - 1))
def test_varint_round_trip(value):
    encoded = write_varint(value)
    assert read_varint(encoded + b"\x07", 0) == (value, len(encoded))


def test_varint_errors():
    with pytest.raises(CheckpointError, match="truncated"):
        read_varint(b"\x80\x80", 0)
    with pytest.raises(CheckpointError, match="more than 64 bits"):
        read_varint(b"\xff" * 10 + b"\x01", 0)
    with pytest.raises(CheckpointError, match="more than 32 bits"):
        read_varint(b"\xff\xff\xff\xff\x7f", 0, bits=32)
    assert signed((1 << 64) - 3) == -3


def test_field_errors():
    with pytest.raises(CheckpointError, match="past the end"):
        list(read_fields(b"\x0a\xff\xff\xff\xff\x0fabc"))
    with pytest.raises(CheckpointError, match="unknown kind"):
        list(read_fields(b"\x0b"))


def test_snappy_literals_and_all_references():
    # "abcd", 1-byte offset 4 length 4, 2-byte offset 1 length 5, 4-byte offset 8 length 3, long literal
    long = bytes(range(100))
    stream = b"\x0cabcd" + b"\x01\x04" + bytes([4 << 2 | 2]) + b"\x01\x00" + bytes([2 << 2 | 3]) + b"\x08\0\0\0"
    plain = b"abcdabcddddddcda"
    plain = b"abcdabcd" + b"ddddd"
    plain += plain[-8:-5]
    stream += bytes([60 << 2, 99]) + long
    assert decompress(write_varint(len(plain) + 100) + stream) == plain + long


@pytest.mark.parametrize(
    ("block", "match"),
    [
        (b"", "truncated"),
        (b"\x05", "another number"),
        (write_varint(1 << 31) + b"\x00a", "announce 2147483648 plain bytes"),
        (write_varint(1000) + b"\x00a", "announce 1000 plain bytes"),
        (b"\x04\x01\x04", "before its start"),
        (b"\x05\x00a\x01\x00", "before its start"),
        (b"\x05\x00a\x01\x02", "before its start"),
        (b"\x04\x0cab", "ends early"),
        (b"\x04\xf0", "ends early"),
        (b"\x01\x04ab", "another number"),
    ],
)
def test_snappy_errors(block, match):
    with pytest.raises(CheckpointError, match=match):
        decompress(block)


def test_snappy_block_in_an_index():
    """A table whose data block is one Snappy literal reads like the plain one."""
    contents = b"\x00\x01\x01kv" + struct.pack("<II", 0, 1)
    block = write_varint(len(contents)) + bytes([(len(contents) - 1) << 2]) + contents
    table = bytearray()

    def append(body, kind):
        handle = write_varint(len(table)) + write_varint(len(body))
        table.extend(body + bytes([kind]) + struct.pack("<I", masked(crc32c(body + bytes([kind])))))
        return handle

    handle = append(block, 1)
    empty = append(struct.pack("<II", 0, 1), 0)
    index = append(b"\x00\x01" + bytes([len(handle)]) + b"k" + handle + struct.pack("<II", 0, 1), 0)
    table += (empty + index).ljust(40, b"\0") + struct.pack("<Q", MAGIC)
    assert list(read_table(bytes(table))) == [(b"k", b"v")]
    table[len(block)] = 2
    with pytest.raises(CheckpointError, match="checksum"):
        list(read_table(bytes(table)))


@given(st.dictionaries(st.binary(max_size=40), st.binary(max_size=300), max_size=120))
def test_table_round_trip(entries):
    ordered = sorted(entries.items())
    assert list(read_table(write_table(ordered))) == ordered


def test_table_refuses_disorder_and_duplicates():
    for entries in ([(b"b", b""), (b"a", b"")], [(b"a", b""), (b"a", b"")]):
        with pytest.raises(CheckpointError, match="out of order or occurs twice"):
            list(read_table(write_table(entries)))


def test_table_refuses_overlapping_blocks():
    """An index block that names the same data block twice would let a small file cost quadratic time."""
    good = write_table([(b"a", b"1")])
    handle = b"\x00" + write_varint(5 + 8)  # the data block: 5 bytes of entry, 8 bytes of restarts
    entry = b"".join(b"\x00\x01" + bytes([len(handle)]) + key + handle for key in (b"a", b"b"))
    body = entry + struct.pack("<II", 0, 1)
    table = bytearray(good[: 5 + 8 + 5])
    index = write_varint(len(table)) + write_varint(len(body))
    table += body + b"\0" + struct.pack("<I", masked(crc32c(body + b"\0")))
    table += (b"\0\0" + index).ljust(40, b"\0") + struct.pack("<Q", MAGIC)
    with pytest.raises(CheckpointError, match="overlap"):
        list(read_table(bytes(table)))


def test_table_refuses_exploding_keys(monkeypatch):
    """Prefix compression must not make gigabytes of keys out of a small file (here: 1 MB of keys out of 30 KB)."""
    monkeypatch.setattr(sorted_table, "_BLOCK_BYTES", 1 << 30)
    monkeypatch.setattr(sorted_table, "_RESTART_INTERVAL", 1 << 30)
    data = write_table([(b"k" * 4000 + number.to_bytes(4, "big"), b"") for number in range(300)])
    assert len(data) < 30_000
    assert len(list(read_table(data))) == 300
    monkeypatch.setattr(sorted_table, "_MAXIMUM_TOTAL_KEY_BYTES", 1 << 20)
    with pytest.raises(CheckpointError, match="nonsense size"):
        list(read_table(data))
    with pytest.raises(CheckpointError, match="a key of"):
        list(read_table(write_table([(b"k" * 5000, b"")])))


@pytest.mark.parametrize("size", [0, 10, 47, 48, 60])
def test_truncated_index(size):
    data = write_table([(b"a", b"1"), (b"b", b"2")])
    with pytest.raises(CheckpointError, match="truncated"):
        list(read_table(data[:size]))


def test_big_endian_magic():
    data = write_table([(b"a", b"1")])
    with pytest.raises(CheckpointError, match="byte order"):
        list(read_table(data[:-8] + data[-8:][::-1]))
