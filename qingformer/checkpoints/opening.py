"""Open any checkpoint by what is in it, not by how it is called."""

from pathlib import Path

from qingformer.checkpoints.checkpoint import Checkpoint, PathLike
from qingformer.checkpoints.safetensors import Safetensors, looks_like_safetensors
from qingformer.checkpoints.sharded import ShardedCheckpoint
from qingformer.checkpoints.sorted_table import FOOTER_BYTES, has_magic
from qingformer.checkpoints.sources import locate
from qingformer.checkpoints.tensor_bundle import TensorBundle, bundle_prefix
from qingformer.checkpoints.torch_file import TorchFile, looks_like_torch
from qingformer.errors import CheckpointError
from qingformer.files import check_not_pointer

_HDF5 = b"\x89HDF\r\n\x1a\n"
_V1_ADVICE = (
    "is a TensorFlow V1 checkpoint, which is not supported; load it in TensorFlow and save it with "
    "tf.compat.v1.train.Saver(write_version=tf.compat.v1.train.SaverDef.V2)"
)


def open_checkpoint(path: PathLike, verify: bool = True) -> Checkpoint:
    """Open a TensorFlow, safetensors or PyTorch checkpoint; tensors are read when asked for.

    Args:
        path: prefix or file of a TensorFlow checkpoint, a `.safetensors` or PyTorch file, an index of shards
            (`*.index.json`), or a directory that holds one of these.
        verify: compare every tensor that is read with its stored checksum (TensorFlow and zipped PyTorch files have
            them).

    Raises:
        CheckpointError: nothing there, another format, truncated or damaged.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> from qingformer.checkpoints import write_tensor_bundle
        >>> prefix = write_tensor_bundle(f"{tempfile.mkdtemp()}/bert_model.ckpt", {"pooler/bias": np.ones(2)})
        >>> with open_checkpoint(prefix) as checkpoint:
        ...     checkpoint.format, checkpoint.names(), checkpoint.shape("pooler/bias"), checkpoint.read("pooler/bias")
        ('tensorflow', ['pooler/bias'], (2,), array([1., 1.]))
    """
    path = Path(path)
    if path.is_dir():
        return open_checkpoint(locate(path, need=("weights",)).require("weights"), verify)
    prefix = bundle_prefix(path)
    if Path(f"{prefix}.index").is_file():
        return TensorBundle(prefix, verify)
    if prefix != path:
        raise CheckpointError(f"{prefix}.index: no such file; a TensorFlow checkpoint needs it beside {path.name}")
    if path.name.endswith(".index.json"):
        return ShardedCheckpoint(path, lambda shard: _open_file(shard, verify), verify)
    return _open_file(path, verify)


def _open_file(path: Path, verify: bool) -> Checkpoint:
    try:
        with open(path, "rb") as file:
            head = file.read(4096)
            size = file.seek(0, 2)
            file.seek(max(0, size - FOOTER_BYTES))
            tail = file.read()
    except OSError as problem:
        beside = sorted(entry.name for entry in path.parent.glob("*"))[:20] if path.parent.is_dir() else []
        there = f"; beside it: {', '.join(beside)}" if beside else ""
        raise CheckpointError(f"{path}: {problem.strerror or problem}{there}") from None
    if not size:
        raise CheckpointError(f"{path}: empty file")
    if looks_like_safetensors(head, size):  # first: its length field can look like the start of a pickle
        return Safetensors(path, verify)
    if looks_like_torch(head):
        return TorchFile(path, verify)
    if has_magic(tail):
        raise CheckpointError(f"{path}: {_V1_ADVICE}")
    if head.startswith(_HDF5):
        raise CheckpointError(f"{path}: is an HDF5 file; build the model and call model.load_weights on it")
    check_not_pointer(head, path, CheckpointError)
    if path.suffix == ".safetensors":
        return Safetensors(path, verify)
    raise CheckpointError(f"{path}: neither a TensorFlow, a safetensors nor a PyTorch checkpoint")
