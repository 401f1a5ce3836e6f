"""The zipped form of PyTorch files: stored, never compressed, records that can be mapped in place.

    NAME/data.pkl    the pickle
    NAME/data/KEY    the bytes of storage KEY
    NAME/byteorder   "little" (absent in older files, which are little-endian)

Nothing is ever extracted to disk; names only select records.
"""

import io
import struct
import zipfile
import zlib
from dataclasses import dataclass, field
from typing import Any

from qingformer.checkpoints.mapped_file import MappedFile
from qingformer.checkpoints.torch_pickle import read_pickle
from qingformer.checkpoints.torch_types import Storage, StorageType
from qingformer.errors import CheckpointError

ZIP_HEAD = b"PK\x03\x04"
_LOCAL_HEADER = struct.Struct("<4s22xHH")  # signature, ..., length of the name, length of the extra field
_MAXIMUM_PICKLE_BYTES = 256 << 20


@dataclass
class ZipRecord:
    """The bytes of one storage: `size` bytes at `offset`; `checksum` is their CRC-32, or None where none is stored."""

    offset: int
    size: int
    checksum: int | None = None
    verified: bool = field(default=False, compare=False)

    def verify(self, file: MappedFile) -> None:
        """Compare the bytes with their checksum, once."""
        if self.checksum is not None and not self.verified:
            if zlib.crc32(file.view(self.offset, self.size)) != self.checksum:
                raise CheckpointError("damaged: its bytes do not match their checksum")
            self.verified = True


def read_zip(file: MappedFile) -> tuple[Any, dict[str, ZipRecord]]:
    """Return the unpickled content, with descriptions instead of tensors, and the storages by key."""
    records = _records(file)
    pickles = [name for name in records if name.endswith("/data.pkl") and name.count("/") == 1]
    if len(pickles) != 1:
        raise CheckpointError(f"is a zip file but not one of torch.save: it has {len(pickles)} records named data.pkl")
    root = pickles[0].removesuffix("data.pkl")
    if f"{root}constants.pkl" in records:
        raise CheckpointError("is a TorchScript program, not weights; save its state_dict() with torch.save")
    order = records.get(f"{root}byteorder")
    if order is not None and bytes(file.view(order.offset, min(order.size, 16))) != b"little":
        raise CheckpointError("wrong byte order: written on a big-endian machine; re-save it on a little-endian one")
    record = records[pickles[0]]
    if record.size > _MAXIMUM_PICKLE_BYTES:
        raise CheckpointError(f"damaged: a pickle of {record.size} bytes")
    record.verify(file)
    content = read_pickle(io.BytesIO(file.view(record.offset, record.size)), _storage)
    folder = f"{root}data/"
    return content, {name.removeprefix(folder): record for name, record in records.items() if name.startswith(folder)}


def _storage(identity: tuple[Any, ...]) -> Storage:
    """Read ("storage", type, key, device, number of elements)."""
    if len(identity) != 5 or identity[0] != "storage":
        raise CheckpointError("damaged: a storage that is not described by five values")
    _, kind, key, _, count = identity
    if not isinstance(kind, StorageType) or not isinstance(key, str) or type(count) is not int or count < 0:
        raise CheckpointError("damaged: a storage of unknown type or size")
    return Storage(key, kind.dtype, count)


def _records(file: MappedFile) -> dict[str, ZipRecord]:
    try:
        with zipfile.ZipFile(io.BufferedReader(_MapReader(file))) as archive:
            entries = archive.infolist()
    except Exception as problem:  # zipfile meets damaged directories with almost any exception
        raise CheckpointError(f"truncated or damaged: its zip directory cannot be read: {str(problem)[:120]}") from None
    records: dict[str, ZipRecord] = {}
    for entry in entries:
        if entry.filename in records:
            raise CheckpointError(f"damaged: the zip record {entry.filename[:80]!r} occurs twice")
        records[entry.filename] = _record(file, entry)
    end = 0
    for record in sorted(records.values(), key=lambda record: record.offset):
        if record.offset < end:
            raise CheckpointError("damaged: zip records overlap")
        end = record.offset + record.size
    return records


def _record(file: MappedFile, entry: zipfile.ZipInfo) -> ZipRecord:
    name = entry.filename[:80]
    if entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size or entry.flag_bits & 1:
        raise CheckpointError(f"the zip record {name!r} is compressed or encrypted, which torch.save never does")
    signature, name_size, extra_size = _LOCAL_HEADER.unpack(file.view(entry.header_offset, _LOCAL_HEADER.size))
    if signature != ZIP_HEAD:
        raise CheckpointError(f"damaged: no zip record {name!r} where the directory says")
    start = entry.header_offset + _LOCAL_HEADER.size + name_size + extra_size
    file.view(start, entry.file_size)
    return ZipRecord(start, entry.file_size, entry.CRC)


class _MapReader(io.RawIOBase):
    """A seekable file over the mapped bytes."""

    def __init__(self, file: MappedFile) -> None:
        self._file, self._position = file, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._file.size}[whence]
        if base + offset < 0:
            raise ValueError("a position before the start")
        self._position = base + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: Any) -> int:
        part = self._file.data[self._position : self._position + len(buffer)]
        buffer[: len(part)] = part
        self._position += len(part)
        return len(part)
