"""Checkpoints in several files behind a JSON index (`model.safetensors.index.json`, `pytorch_model.bin.index.json`)."""

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from qingformer.checkpoints.checkpoint import Checkpoint, PathLike, TensorRecord
from qingformer.errors import CheckpointError
from qingformer.json_files import read_json


class ShardedCheckpoint(Checkpoint):
    """The tensors of several files; a file is opened when the first of its tensors is asked for.

    Args:
        path: the index, a JSON object with "weight_map": {tensor name: file name beside the index}.
        opener: opens one shard.

    Raises:
        CheckpointError: the index is damaged, names a file outside its folder, or a file lacks what the index promises.
    """

    def __init__(self, path: PathLike, opener: Callable[[Path], Checkpoint], verify: bool = True) -> None:
        super().__init__(path, verify)
        self._opener = opener
        self._files = _weight_map(self.path)
        self._shards: dict[str, Checkpoint] = {}
        self.format = self._shard(next(iter(self._files.values()))).format  # type: ignore[misc]

    def _records(self) -> Mapping[str, TensorRecord]:
        return _LazyRecords(self)

    def _shard(self, file: str) -> Checkpoint:
        if file not in self._shards:
            # os.path: a name longer than the system allows is one that is not there, no error of its own.
            if not os.path.exists(self.path.parent / file):
                raise CheckpointError(f"{self.path}: names {file}, which is not beside it; copy all files of the model")
            self._shards[file] = self._opener(self.path.parent / file)
        return self._shards[file]

    def _read(self, name: str) -> np.ndarray:
        return self._shard(self._files[name]).read(name)

    def _check(self, name: str) -> None:
        self._shard(self._files[name]).check(name)

    def close(self) -> None:
        """Let go of all shards."""
        for shard in self._shards.values():
            shard.close()
        self._shards.clear()


class _LazyRecords(Mapping[str, TensorRecord]):
    """Records by name without opening the file of a name that is only listed or tested for."""

    def __init__(self, owner: ShardedCheckpoint) -> None:
        self._owner = owner

    def __getitem__(self, name: str) -> TensorRecord:
        return self._owner._shard(self._owner._files[name])._record(name)

    def __contains__(self, name: object) -> bool:
        return name in self._owner._files

    def __iter__(self) -> Iterator[str]:
        return iter(self._owner._files)

    def __len__(self) -> int:
        return len(self._owner._files)


def _weight_map(path: Path) -> dict[str, str]:
    index: Any = read_json(path, CheckpointError)
    names = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(names, dict) or not names:
        raise CheckpointError(f'{path}: needs a "weight_map" from tensor names to files')
    for name, file in names.items():
        if not isinstance(file, str) or file in ("", ".", "..") or PurePosixPath(file).name != file or "\\" in file:
            raise CheckpointError(f"{path}: {name[:80]!r} lies in {file!r}, which is not a file name beside the index")
    return names
