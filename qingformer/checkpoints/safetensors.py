"""Reader of safetensors files, one or many behind an index, with bfloat16 and float8.

    8 bytes little-endian length N, N bytes JSON {name: {"dtype", "shape", "data_offsets": [begin, end]}}, data

(github.com/huggingface/safetensors, "Format".) The rules of the format are enforced: offsets in order without gaps or
overlaps, no duplicate names, sizes that fit, nothing behind the data.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

from qingformer.checkpoints.checkpoint import Checkpoint, PathLike
from qingformer.checkpoints.checksum import checksum, take_checksums
from qingformer.checkpoints.mapped_file import MappedFile, byte_count
from qingformer.checkpoints.wire import about
from qingformer.errors import CheckpointError
from qingformer.types import Config

MAXIMUM_HEADER_BYTES = 100_000_000  # the limit of the reference implementation
DTYPES: dict[str, np.dtype[Any]] = {
    "F64": np.dtype(np.float64),
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F8_E4M3": np.dtype(ml_dtypes.float8_e4m3fn),
    "F8_E5M2": np.dtype(ml_dtypes.float8_e5m2),
    "I64": np.dtype(np.int64),
    "I32": np.dtype(np.int32),
    "I16": np.dtype(np.int16),
    "I8": np.dtype(np.int8),
    "U64": np.dtype(np.uint64),
    "U32": np.dtype(np.uint32),
    "U16": np.dtype(np.uint16),
    "U8": np.dtype(np.uint8),
    "BOOL": np.dtype(np.bool_),
    "C64": np.dtype(np.complex64),
}
CODES = {dtype: code for code, dtype in DTYPES.items()}


@dataclass(frozen=True)
class SafetensorsEntry:
    """A tensor of `dtype` and `shape` that begins at byte `offset` of the file."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    offset: int
    size: int


class Safetensors(Checkpoint):
    """One safetensors file, memory-mapped; each tensor is read when it is asked for.

    Args:
        path: the file.
        verify: compare each tensor that is read with its checksum. The format has none; files that this package wrote
            carry them in the texts of their header (`checksum.CHECKSUMS`).

    Raises:
        CheckpointError: the file is missing, truncated, or breaks a rule of the format.

    Example:
        >>> import tempfile
        >>> from qingformer.checkpoints import write_safetensors
        >>> paths = write_safetensors(f"{tempfile.mkdtemp()}/model.safetensors", {"w": np.arange(3)})
        >>> Safetensors(paths[0]).read("w")
        array([0, 1, 2])
    """

    format = "safetensors"

    def __init__(self, path: PathLike, verify: bool = True) -> None:
        super().__init__(path, verify)
        self._file = MappedFile(path)
        with about(path):
            header, start = _read_header(self._file)
            self.metadata: dict[str, str] = _metadata(header)
            self.checksums = take_checksums(self.metadata)
            self._entries = {name: _entry(name, value, start) for name, value in header.items()}
            _check_layout(self._entries, start, self._file.size)

    def _records(self) -> Mapping[str, SafetensorsEntry]:
        return self._entries

    def _read(self, name: str) -> np.ndarray:
        entry = self._entries[name]
        return self._file.array(entry.offset, entry.dtype, entry.shape)

    def _check(self, name: str) -> None:
        if not self.checksums:
            return
        entry = self._entries[name]
        # the raw bytes, as they lie in the file, are little-endian on every machine
        array = self._file.array(entry.offset, entry.dtype, entry.shape)
        if checksum(array, name, CODES[entry.dtype], entry.shape) != self.checksums.get(name):
            raise CheckpointError(
                f"{self.path}: damaged: {name[:80]!r} does not have the checksum that was stored with it; save or "
                "copy the file again (verify=False reads it all the same)"
            )


def looks_like_safetensors(head: bytes, size: int) -> bool:
    """Say whether a file of `size` bytes that begins with `head` can be safetensors."""
    return len(head) > 8 and head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= size - 8


def _read_header(file: MappedFile) -> tuple[Config, int]:
    if file.size < 8:
        raise CheckpointError(f"truncated: {file.size} bytes, not a safetensors file")
    length = int.from_bytes(file.view(0, 8), "little")
    if length > min(MAXIMUM_HEADER_BYTES, file.size - 8):
        raise CheckpointError(f"truncated or not safetensors: a header of {length} bytes in a file of {file.size}")
    try:
        header = json.loads(bytes(file.view(8, length)).decode("utf-8"), object_pairs_hook=_no_duplicates)
    except (ValueError, RecursionError) as problem:
        if isinstance(problem, CheckpointError):
            raise
        raise CheckpointError(f"damaged: its header is not JSON: {str(problem)[:120]}") from None
    if not isinstance(header, dict):
        raise CheckpointError("damaged: its header is not a JSON object")
    return header, 8 + length


def _no_duplicates(pairs: list[tuple[str, Any]]) -> Config:
    result = dict(pairs)
    if len(result) < len(pairs):
        raise CheckpointError("damaged: a name occurs twice in its header")
    return result


def _metadata(header: Config) -> dict[str, str]:
    metadata = header.pop("__metadata__", None) or {}
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise CheckpointError("damaged: __metadata__ in its header is not a table of texts")
    return metadata


def _entry(name: str, value: object, start: int) -> SafetensorsEntry:
    if not isinstance(value, dict) or set(value) != {"dtype", "shape", "data_offsets"}:
        raise CheckpointError(f"damaged: {name[:80]!r} needs exactly dtype, shape and data_offsets")
    shape, offsets = value["shape"], value["data_offsets"]
    if not _all_counts(shape) or not _all_counts(offsets) or len(offsets) != 2:
        raise CheckpointError(f"damaged: shape or offsets of {name[:80]!r} are not lists of counts")
    dtype = DTYPES.get(value["dtype"]) if isinstance(value["dtype"], str) else None
    if dtype is None:
        raise CheckpointError(f"{name[:80]!r} has the unknown type {str(value['dtype'])[:40]!r}")
    size = byte_count(dtype, shape)
    if offsets[1] - offsets[0] != size:
        raise CheckpointError(f"damaged: {name[:80]!r} of shape {shape[:8]} needs {size} bytes, its offsets differ")
    return SafetensorsEntry(dtype, tuple(shape), start + offsets[0], size)


def _all_counts(values: object) -> bool:
    return isinstance(values, list) and all(type(value) is int and value >= 0 for value in values)


def _check_layout(entries: Mapping[str, SafetensorsEntry], start: int, size: int) -> None:
    end = start
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].offset, item[1].size)):
        if entry.offset != end:
            raise CheckpointError(f"damaged: a gap or an overlap in front of {name[:80]!r}")
        end += entry.size
    if end != size:
        state = "truncated" if end > size else "damaged"
        raise CheckpointError(f"{state}: its tensors need {end} bytes, the file has {size}")
