"""The old, unzipped form of PyTorch files (before 1.6, or `_use_new_zipfile_serialization=False`).

Five pickles one behind the other (magic number, protocol, machine, content, list of storage keys), then for each key
8 bytes number of elements and the elements.
"""

import io
from typing import Any

from qingformer.checkpoints.mapped_file import MappedFile
from qingformer.checkpoints.torch_pickle import read_pickle
from qingformer.checkpoints.torch_types import Storage, StorageType
from qingformer.checkpoints.torch_zip import ZipRecord
from qingformer.errors import CheckpointError

LEGACY_HEADS = tuple(b"\x80" + bytes([protocol]) for protocol in range(2, 6))
_MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001


def read_legacy(file: MappedFile) -> tuple[Any, dict[str, ZipRecord]]:
    """Return the unpickled content, with descriptions instead of tensors, and the storages by key."""
    stream = io.BytesIO(file.data) if isinstance(file.data, bytes) else file.data
    stream.seek(0)
    bases: dict[str, Storage] = {}

    def storage(identity: tuple[Any, ...]) -> Storage:
        return _storage(identity, bases)

    if read_pickle(stream, storage) != _MAGIC_NUMBER:
        raise CheckpointError("is a pickle but not a file of torch.save; it was not loaded")
    if read_pickle(stream, storage) != _PROTOCOL:
        raise CheckpointError("is of an unknown version of the old PyTorch format")
    machine = read_pickle(stream, storage)
    if not isinstance(machine, dict) or machine.get("little_endian") is not True:
        raise CheckpointError("wrong byte order: written on a big-endian machine; re-save it on a little-endian one")
    content = read_pickle(stream, storage)
    keys = read_pickle(stream, storage)
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys) or len(set(keys)) != len(keys):
        raise CheckpointError("damaged: its list of storages is not a list of different keys")
    return content, _locate(file, stream.tell(), keys, bases)


def _locate(file: MappedFile, position: int, keys: list[str], bases: dict[str, Storage]) -> dict[str, ZipRecord]:
    records = {}
    for key in keys:
        if key not in bases:
            raise CheckpointError(f"damaged: storage {key[:40]!r} belongs to no tensor")
        count = int.from_bytes(file.view(position, 8), "little")
        if count != bases[key].count:
            raise CheckpointError(f"damaged: storage {key[:40]!r} has {count} elements, its tensors expect others")
        size = count * bases[key].dtype.itemsize
        file.view(position + 8, size)
        records[key] = ZipRecord(position + 8, size)
        position += 8 + size
    return records


def _storage(identity: tuple[Any, ...], bases: dict[str, Storage]) -> Storage:
    """Read ("storage", type, key, device, number of elements, None or (key of the view, offset, elements))."""
    if len(identity) not in (5, 6) or identity[0] != "storage":
        raise CheckpointError("damaged: a storage that is not described by six values")
    kind, key, count = identity[1], identity[2], identity[4]
    if not isinstance(kind, StorageType) or not isinstance(key, str) or type(count) is not int or count < 0:
        raise CheckpointError("damaged: a storage of unknown type or size")
    base = bases.setdefault(key, Storage(key, kind.dtype, count))
    if base != Storage(key, kind.dtype, count):
        raise CheckpointError(f"damaged: storage {key[:40]!r} is described in two ways")
    view = identity[5] if len(identity) == 6 else None
    if view is None:
        return base
    if not isinstance(view, tuple) or len(view) != 3 or not all(type(v) is int and v >= 0 for v in view[1:]):
        raise CheckpointError(f"damaged: a view of storage {key[:40]!r} is impossible")
    if view[1] + view[2] > count:
        raise CheckpointError(f"damaged: a view reaches beyond storage {key[:40]!r}")
    return Storage(key, kind.dtype, view[2], view[1])
