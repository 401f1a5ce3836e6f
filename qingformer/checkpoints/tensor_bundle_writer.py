"""Writer of TensorFlow V2 checkpoints without TensorFlow."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np

from qingformer.checkpoints.bundle_entry import CODES, BundleEntry, encode_entry, encode_header
from qingformer.checkpoints.checkpoint import PathLike
from qingformer.checkpoints.crc32c import crc32c, masked
from qingformer.checkpoints.sorted_table import write_table
from qingformer.errors import CheckpointError
from qingformer.files import atomic_file


def write_tensor_bundle(prefix: PathLike, tensors: Mapping[str, np.ndarray]) -> Path:
    """Write `tensors` as `prefix.index` and `prefix.data-00000-of-00001`, which `tf.train.load_checkpoint` reads.

    The data file takes its place first and the index last, so a reader never meets an index without its data. When an
    older checkpoint of the same prefix is replaced, its index is removed before its data changes.

    Args:
        prefix: path without the endings, for example "bert_model.ckpt".
        tensors: arrays by name; float32, float64, float16, bfloat16, float8, integers, bool, complex, of any shape.

    Returns:
        The prefix.

    Raises:
        CheckpointError: a name is empty, too long or reserved, a type has no TensorFlow counterpart, or the disk is
            full; what was there before is then untouched.

    Example:
        >>> import tempfile
        >>> prefix = write_tensor_bundle(f"{tempfile.mkdtemp()}/model.ckpt", {"dense/kernel": np.zeros((2, 3))})
        >>> sorted(path.name for path in prefix.parent.iterdir())
        ['model.ckpt.data-00000-of-00001', 'model.ckpt.index']
    """
    prefix = Path(prefix)
    named = sorted((_key(name), np.asarray(tensor)) for name, tensor in tensors.items())
    index = Path(f"{prefix}.index")
    try:
        with (
            atomic_file(index) as new_index,
            atomic_file(f"{prefix}.data-00000-of-00001") as new_data,
        ):
            with open(new_data, "wb") as file:
                entries = [(key, encode_entry(entry)) for key, entry in _write_data(file, named)]
                _flush(file)
            with open(new_index, "wb") as file:
                file.write(write_table([(b"", encode_header()), *entries]))
                _flush(file)
            index.unlink(missing_ok=True)
    except OSError as problem:
        raise CheckpointError(f"{prefix}: cannot be written: {problem.strerror or problem}") from problem
    return prefix


def _key(name: str) -> bytes:
    key = name.encode("utf-8")
    if not key or key[0] == 0 or len(key) > 4096:
        raise CheckpointError(f"{name[:80]!r} cannot name a tensor: use 1 to 4096 bytes, not beginning with NUL")
    return key


def _write_data(file: BinaryIO, named: list[tuple[bytes, np.ndarray]]) -> list[tuple[bytes, BundleEntry]]:
    entries, offset = [], 0
    for key, tensor in named:
        code = CODES.get(tensor.dtype.newbyteorder("="))
        if code is None:
            raise CheckpointError(f"{key.decode()}: type {tensor.dtype} cannot be stored in a TensorFlow checkpoint")
        raw = little_endian_bytes(tensor)
        file.write(raw.data)
        entries.append((key, BundleEntry(code, tensor.shape, 0, offset, raw.size, masked(crc32c(raw)))))
        offset += raw.size
    return entries


def little_endian_bytes(tensor: np.ndarray) -> np.ndarray:
    """Return the C-ordered little-endian bytes of `tensor` as a flat uint8 array, a view where possible."""
    return little_endian(np.ascontiguousarray(tensor)).reshape(-1).view(np.uint8)


def little_endian(tensor: np.ndarray) -> np.ndarray:
    """Return the values of `tensor` with little-endian bytes, itself where it has them."""
    if tensor.dtype.byteorder == ">" or (tensor.dtype.byteorder == "=" and sys.byteorder == "big"):
        return tensor.astype(tensor.dtype.newbyteorder("<"))
    return tensor


def _flush(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())
