"""Reader of TensorFlow V2 checkpoints ("bundles": `P.index`, `P.data-00000-of-00001`, ...) without TensorFlow."""

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from qingformer.checkpoints.bundle_entry import DTYPES, BundleEntry, decode_entry, decode_header
from qingformer.checkpoints.checkpoint import Checkpoint, PathLike
from qingformer.checkpoints.crc32c import crc32c, masked
from qingformer.checkpoints.mapped_file import MappedFile, byte_count
from qingformer.checkpoints.object_graph import OBJECT_GRAPH, VALUE_SUFFIX, full_names
from qingformer.checkpoints.sorted_table import read_table
from qingformer.checkpoints.text_tensor import read_text, text_checksum
from qingformer.checkpoints.wire import about
from qingformer.errors import CheckpointError

_BOOKKEEPING = re.compile(
    r"^((global|local)_step(_\d+)?|save_counter|_CHECKPOINTABLE_OBJECT_GRAPH|(.*/)?beta[12]_power(_\d+)?"
    r"|(current_)?loss_scale|(num_)?good_steps|(_?optimizer|.*/\.OPTIMIZER_SLOT)/.*)$"
)
# An optimizer calls what it keeps of a variable by the variable's name and a word of its own.
_SLOTS = (re.compile(r"/[^/]+$"), re.compile(r"_slot_(v|vr|vc|m|r|c)$"))
_PIECE = b"\0"  # keys of the pieces of partitioned variables begin with it


class TensorBundle(Checkpoint):
    """A TensorFlow V2 checkpoint, read lazily: the index at once, data files when a tensor in them is read.

    Optimizer slots and counters are left out of `names()` (list them with `everything=True`), but can be read by name.
    In an object checkpoint (TensorFlow 2's `tf.train.Checkpoint`) names are attribute paths without their constant
    ending "/.ATTRIBUTES/VARIABLE_VALUE"; the full names are understood too.

    Args:
        path: the prefix, or one of the files of the checkpoint.
        verify: check the CRC-32C of every tensor that is read; the index is always checked.

    Raises:
        CheckpointError: the index is missing, truncated, damaged or big-endian.

    Example:
        >>> import tempfile
        >>> from qingformer.checkpoints import write_tensor_bundle
        >>> tensors = {"kernel": np.zeros((2, 3)), "kernel/adam_m": np.zeros((2, 3))}
        >>> checkpoint = TensorBundle(write_tensor_bundle(f"{tempfile.mkdtemp()}/m.ckpt", tensors), verify=True)
        >>> checkpoint.names(), checkpoint.names(everything=True), checkpoint.read("kernel").shape
        (['kernel'], ['kernel', 'kernel/adam_m'], (2, 3))
    """

    format = "tensorflow"

    def __init__(self, path: PathLike, verify: bool = True) -> None:
        super().__init__(bundle_prefix(path), verify)
        self.index_path = Path(f"{self.path}.index")
        self._shards: dict[int, MappedFile] = {}
        self._entries: dict[str, BundleEntry] = {}
        self._shard_count = 0
        index = MappedFile(self.index_path)
        with about(self.index_path):
            self._read_index(index)
        self.is_object_checkpoint = OBJECT_GRAPH in self._entries
        """Whether this was written by `tf.train.Checkpoint` rather than by a TensorFlow 1 saver."""

    def _read_index(self, index: MappedFile) -> None:
        for key, value in read_table(index.view(0, index.size)):
            if key == b"":
                self._shard_count = decode_header(value)
            elif not self._shard_count:
                raise CheckpointError("damaged: the index has no header")
            elif not key.startswith(_PIECE):
                name = _text(key)
                with about(name):
                    entry = decode_entry(value)
                    _check_size(entry)
                if entry.shard >= self._shard_count:
                    raise CheckpointError(f"damaged: {name} lies in data file {entry.shard} of {self._shard_count}")
                self._entries[name.removesuffix(VALUE_SUFFIX)] = entry
        if not self._shard_count:
            raise CheckpointError("damaged: the index has no header")

    def _records(self) -> Mapping[str, BundleEntry]:
        return self._entries

    def _record(self, name: str) -> BundleEntry:
        super()._record(name.removesuffix(VALUE_SUFFIX))
        return self._entries[name.removesuffix(VALUE_SUFFIX)]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.removesuffix(VALUE_SUFFIX) in self._entries

    def names(self, *, everything: bool = False) -> list[str]:
        """Return the variable names in the order of the index; see `Checkpoint.names`."""
        if everything:
            return list(self._entries)
        return [name for name, entry in self._entries.items() if not entry.is_text and not self._is_slot(name)]

    def full_names(self) -> dict[str, str]:
        """Return for an object checkpoint the names that the variables had in the program, by attribute path."""
        if not self.is_object_checkpoint:
            return {}
        with about(f"{self.path}: {OBJECT_GRAPH}"):
            return full_names(bytes(self.read(OBJECT_GRAPH).item()))

    def _is_slot(self, name: str) -> bool:
        if _BOOKKEEPING.match(name):
            return True
        return any(slot.sub("", name) in self._entries for slot in _SLOTS if slot.search(name))

    def _read(self, name: str) -> np.ndarray:
        entry = self._record(name)
        shard = self._shard(entry.shard)
        with about(f"tensor {name}"):
            if entry.is_text:
                return read_text(shard.view(entry.offset, entry.size), entry.shape)
            return shard.array(entry.offset, entry.dtype, entry.shape)

    def _check(self, name: str) -> None:
        entry = self._record(name)
        shard = self._shard(entry.shard)
        with about(f"tensor {name}"):
            raw = shard.view(entry.offset, entry.size)
            actual = text_checksum(raw, entry.shape) if entry.is_text else masked(crc32c(raw))
            if actual != entry.checksum:
                raise CheckpointError(f"damaged: its bytes in {shard.path} do not match their checksum")

    def _shard(self, number: int) -> MappedFile:
        if number not in self._shards:
            path = Path(f"{self.path}.data-{number:05d}-of-{self._shard_count:05d}")
            if not path.exists():
                raise CheckpointError(f"{path}: no such file, but {self.index_path.name} needs it")
            self._shards[number] = MappedFile(path)
        return self._shards[number]

    def close(self) -> None:
        """Let go of the data files; arrays that were read stay valid."""
        self._shards.clear()


def bundle_prefix(path: PathLike) -> Path:
    """Return the prefix that a user means by a prefix or by any file of the checkpoint."""
    return Path(re.sub(r"\.(index|meta|data-\d{5}-of-\d{5})$", "", str(path)))


def _text(key: bytes) -> str:
    try:
        return key.decode("utf-8")
    except UnicodeDecodeError:
        raise CheckpointError(f"damaged: the name {key[:80]!r} is not UTF-8") from None


def _check_size(entry: BundleEntry) -> None:
    if entry.offset < 0 or entry.size < 0:
        raise CheckpointError("damaged: its offset or size is negative")
    if entry.code not in DTYPES:
        return  # an error when it is read, so that the rest of the checkpoint stays usable
    if entry.is_text:
        byte_count(np.dtype(np.uint8), entry.shape)
    elif byte_count(entry.dtype, entry.shape) != entry.size:
        raise CheckpointError(f"damaged: {entry.dtype} of shape {list(entry.shape)} does not have {entry.size} bytes")
