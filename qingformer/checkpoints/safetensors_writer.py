"""Writer of safetensors files, in one piece or in shards behind an index."""

import json
import re
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from qingformer.checkpoints.checkpoint import PathLike
from qingformer.checkpoints.checksum import CHECKSUMS, checksum
from qingformer.checkpoints.safetensors import CODES
from qingformer.checkpoints.tensor_bundle_writer import little_endian, little_endian_bytes
from qingformer.errors import CheckpointError
from qingformer.files import atomic_file
from qingformer.types import Config

PYTORCH_METADATA = {"format": "pt"}
"""What `transformers` looks for before it loads a safetensors file."""
_ALIGNMENT = 8


def write_safetensors(
    path: PathLike,
    tensors: Mapping[str, np.ndarray],
    metadata: Mapping[str, str] | None = None,
    max_shard_bytes: int | None = None,
) -> list[Path]:
    """Write `tensors` to `path`, or to `stem-00001-of-0000N.safetensors` and `path`.index.json if they are too large.

    An earlier save of the same name in the other form is removed once the new one is complete. The header gets a
    checksum of each tensor beside the `metadata`, which `open_checkpoint(path, verify=True)` compares.

    Args:
        path: a name ending in ".safetensors".
        tensors: arrays by name, of any shape; float types incl. bfloat16 and float8, integers, bool, complex64.
        metadata: texts stored in the header, by default `{"format": "pt"}`, which `transformers` asks for.
        max_shard_bytes: the most bytes of tensors in one file (a larger tensor gets a file of its own); None: one file.

    Returns:
        The files written; with shards the index comes last.

    Raises:
        CheckpointError: a type that the format lacks, a reserved name, or a full disk; older files are then untouched.

    Example:
        >>> import tempfile
        >>> tensors = {"dense.weight": np.zeros((3, 2), np.float32), "dense.bias": np.zeros(3, np.float32)}
        >>> paths = write_safetensors(f"{tempfile.mkdtemp()}/model.safetensors", tensors, max_shard_bytes=24)
        >>> [path.name for path in paths][1:]
        ['model-00002-of-00002.safetensors', 'model.safetensors.index.json']
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise CheckpointError(f"{path}: a safetensors file needs a name that ends in .safetensors")
    # In C order, here for every writer: the bytes of a transposed view are those of the array it was made from.
    arrays = {name: np.asarray(tensor, order="C") for name, tensor in tensors.items()}
    for name, array in arrays.items():
        _check(name, array)
    header = dict(PYTORCH_METADATA if metadata is None else metadata)
    groups = _split(arrays, max_shard_bytes)
    index_path = path.with_name(f"{path.name}.index.json")
    try:
        if len(groups) == 1:
            with atomic_file(path) as temporary:
                _write_file(temporary, groups[0], header)
            written = [path]
        else:
            written = _write_shards(path, index_path, groups, header)
        _remove_superseded(path, index_path, written)
    except OSError as problem:
        raise CheckpointError(f"{path}: cannot be written: {problem.strerror or problem}") from problem
    return written


def _check(name: str, array: np.ndarray) -> None:
    if not name or name == "__metadata__":
        raise CheckpointError(f"{name!r} cannot be the name of a tensor in a safetensors file")
    if array.dtype.newbyteorder("=") not in CODES:
        raise CheckpointError(f"{name}: type {array.dtype} cannot be stored in a safetensors file")


def _split(arrays: Mapping[str, np.ndarray], limit: int | None) -> list[dict[str, np.ndarray]]:
    groups: list[dict[str, np.ndarray]] = [{}]
    filled = 0
    for name, array in arrays.items():
        if limit is not None and groups[-1] and filled + array.nbytes > limit:
            groups.append({})
            filled = 0
        groups[-1][name] = array
        filled += array.nbytes
    return groups


def _write_shards(
    path: Path, index_path: Path, groups: list[dict[str, np.ndarray]], metadata: dict[str, str]
) -> list[Path]:
    stem, count = path.name.removesuffix(".safetensors"), len(groups)
    paths = [path.with_name(f"{stem}-{number:05d}-of-{count:05d}.safetensors") for number in range(1, count + 1)]
    total = sum(array.nbytes for group in groups for array in group.values())
    names = {name: shard.name for shard, group in zip(paths, groups, strict=True) for name in group}
    index = {"metadata": {"total_size": total}, "weight_map": names}
    with ExitStack() as stack:  # left in reverse: the index, entered first, takes its place last
        new_index = stack.enter_context(atomic_file(index_path))
        new_index.write_text(json.dumps(index, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        for shard, group in zip(paths, groups, strict=True):
            _write_file(stack.enter_context(atomic_file(shard)), group, metadata)
    return [*paths, index_path]


def _remove_superseded(path: Path, index_path: Path, written: list[Path]) -> None:
    """Remove what an earlier save under the same name left: it would be read in place of the new files."""
    shard = re.compile(re.escape(path.name.removesuffix(".safetensors")) + r"-\d{5}-of-\d{5}\.safetensors")
    for old in (path, index_path, *path.parent.iterdir()):
        if old not in written and (old in (path, index_path) or shard.fullmatch(old.name)):
            old.unlink(missing_ok=True)


def _write_file(path: Path, arrays: Mapping[str, np.ndarray], metadata: dict[str, str]) -> None:
    # wider types first, so that every tensor starts at a multiple of its item size
    ordered = sorted(arrays.items(), key=lambda item: (-item[1].dtype.itemsize, item[0]))
    header: Config = {"__metadata__": {}}
    checksums, offset = {}, 0
    for name, array in ordered:
        assert array.flags.c_contiguous, name
        code = CODES[array.dtype.newbyteorder("=")]
        checksums[name] = checksum(little_endian(array), name, code, array.shape)
        header[name] = {"dtype": code, "shape": list(array.shape), "data_offsets": [offset, offset + array.nbytes]}
        offset += array.nbytes
    header["__metadata__"] = {**metadata, CHECKSUMS: json.dumps(checksums, separators=(",", ":"), ensure_ascii=False)}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode("utf-8")
    text += b" " * (-len(text) % _ALIGNMENT)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for _, array in ordered:
            file.write(little_endian_bytes(array).data)
