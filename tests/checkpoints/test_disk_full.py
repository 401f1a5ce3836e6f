"""A disk that fills up while saving: one clear error, the old files intact, no temporary file left."""

import builtins
import errno
import os
import resource
import subprocess
import sys

import numpy as np
import pytest

from qingformer.checkpoints import open_checkpoint, write_safetensors, write_tensor_bundle
from qingformer.errors import CheckpointError

OLD = {"w": np.zeros(8, np.float32)}
NEW = {"w": np.ones(50_000, np.float32), "v": np.ones(50_000, np.float32)}


class FullDisk:
    """A file on a disk that has `room[0]` bytes left."""

    def __init__(self, file, room):
        self._file, self._room = file, room

    def write(self, data):
        self._room[0] -= len(data)
        if self._room[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return self._file.write(data)

    def __getattr__(self, name):
        return getattr(self._file, name)

    def __enter__(self):
        return self

    def __exit__(self, *problem):
        self._file.close()


def save_bundle(folder, tensors):
    write_tensor_bundle(folder / "m.ckpt", tensors)


def save_single(folder, tensors):
    write_safetensors(folder / "m.safetensors", tensors)


def save_shards(folder, tensors):
    write_safetensors(folder / "m.safetensors", tensors, max_shard_bytes=16)


def state(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("room", [0, 100, 250_000])
@pytest.mark.parametrize("save", [save_bundle, save_single, save_shards])
def test_full_disk(tmp_path, monkeypatch, save, room):
    save(tmp_path, OLD)
    before = state(tmp_path)
    true_open, left = builtins.open, [room]

    def full_open(path, mode="r", *arguments, **options):
        file = true_open(path, mode, *arguments, **options)
        return FullDisk(file, left) if mode == "wb" and ".part" in str(path) else file

    with monkeypatch.context() as patch:
        patch.setattr(builtins, "open", full_open)
        with pytest.raises(CheckpointError, match=r"cannot be written: No space left on device") as caught:
            save(tmp_path, NEW)
    assert "\n" not in str(caught.value)
    assert state(tmp_path) == before
    save(tmp_path, NEW)
    assert (open_checkpoint(tmp_path).read("v") == 1).all()


_LIMITED = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
import numpy as np
from qingformer.checkpoints import write_safetensors, write_tensor_bundle
from qingformer.errors import CheckpointError
for write, name in ((write_tensor_bundle, "m.ckpt"), (write_safetensors, "m.safetensors")):
    try:
        write(sys.argv[1] + "/" + name, {"w": np.ones(50_000, np.float32)})
    except CheckpointError as problem:
        sys.stdout.write(str(problem) + "\\n")
"""


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="needs a limit of file sizes, which Unix has")
def test_operating_system_refuses_to_write(tmp_path):
    """No stand-in: the kernel itself stops the file at 100,000 bytes."""
    save_bundle(tmp_path, OLD)
    save_single(tmp_path, OLD)
    before = state(tmp_path)
    result = subprocess.run([sys.executable, "-c", _LIMITED, str(tmp_path)], capture_output=True, text=True, check=True)
    lines = result.stdout.splitlines()
    assert len(lines) == 2
    assert all("cannot be written: File too large" in line for line in lines)
    assert state(tmp_path) == before
