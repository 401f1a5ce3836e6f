"""Reader of PyTorch weight files (`torch.save`), zipped (1.6 and later) and old, without PyTorch and without pickle."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from qingformer.checkpoints.checkpoint import Checkpoint, PathLike
from qingformer.checkpoints.mapped_file import MappedFile, byte_count, frozen_copy
from qingformer.checkpoints.torch_legacy import LEGACY_HEADS, read_legacy
from qingformer.checkpoints.torch_types import TensorView
from qingformer.checkpoints.torch_zip import ZIP_HEAD, read_zip
from qingformer.checkpoints.wire import about
from qingformer.errors import CheckpointError

_WRAPPERS = ("state_dict", "model_state_dict", "model", "module")
_MAXIMUM_DEPTH = 32
_MAXIMUM_NAME = 4096


class TorchFile(Checkpoint):
    """A file of `torch.save` that holds a state_dict; tensors are views into the mapped file.

    A dictionary that wraps the state_dict under "state_dict", "model_state_dict", "model" or "module" is unwrapped;
    other nested containers give names joined by dots ("optimizer.state.0.exp_avg").

    Args:
        path: the file.
        verify: check the CRC-32 that zipped files hold (old files have none).

    Raises:
        CheckpointError: truncated, damaged, or in need of anything but tensors; nothing in the file is ever executed.

    Example:
        >>> TorchFile("pytorch_model.bin").names()
        Traceback (most recent call last):
        qingformer.errors.CheckpointError: pytorch_model.bin: no such file
    """

    format = "torch"

    def __init__(self, path: PathLike, verify: bool = True) -> None:
        super().__init__(path, verify)
        self._file = MappedFile(path)
        with about(path):
            read = read_zip if bytes(self._file.data[:4]) == ZIP_HEAD else read_legacy
            content, self._storages = read(self._file)
            self._views = _named(_unwrapped(content))
            for name, view in self._views.items():
                with about(f"tensor {name[:80]}"):
                    self._check_bounds(view)

    def _check_bounds(self, view: TensorView) -> None:
        record = self._storages.get(view.storage.key)
        if record is None:
            raise CheckpointError(f"damaged: the file has no storage {view.storage.key[:40]!r}")
        storage = view.storage
        if (storage.start + storage.count) * storage.dtype.itemsize > record.size:
            raise CheckpointError(f"truncated: storage {storage.key[:40]!r} has only {record.size} bytes")

    def _records(self) -> Mapping[str, TensorView]:
        return self._views

    def names(self, *, everything: bool = False) -> list[str]:
        """Return the names of all tensors in the order of the file."""
        return list(self._views)

    def _check(self, name: str) -> None:
        with about(f"tensor {name}"):
            self._storages[self._views[name].storage.key].verify(self._file)

    def _read(self, name: str) -> np.ndarray:
        view = self._views[name]
        storage, record = view.storage, self._storages[view.storage.key]
        with about(f"tensor {name}"):
            if not byte_count(view.dtype, view.shape):
                return np.empty(view.shape, view.dtype)
            # only the part of the storage that this tensor spans: many tensors may share a large one
            span = 1 + sum((size - 1) * stride for size, stride in zip(view.shape, view.strides))
            start = record.offset + storage.start * storage.dtype.itemsize + view.offset * view.dtype.itemsize
            flat = self._file.array(start, view.dtype, (span,))
        steps = tuple(stride * view.dtype.itemsize for stride in view.strides)
        strided = np.lib.stride_tricks.as_strided(flat, view.shape, steps, writeable=False)
        return strided if strided.flags.c_contiguous else frozen_copy(strided)


def looks_like_torch(head: bytes) -> bool:
    """Say whether a file that begins with `head` was written by `torch.save`, or is a pickle that must be refused."""
    return head.startswith((ZIP_HEAD, *LEGACY_HEADS))


def _unwrapped(content: object) -> dict[Any, Any]:
    if isinstance(content, TensorView):
        return {"tensor": content}
    if not isinstance(content, dict):
        raise CheckpointError(f"holds a {type(content).__name__}, not a state_dict of named tensors")
    for wrapper in _WRAPPERS:
        inner = content.get(wrapper)
        if isinstance(inner, dict) and inner and all(isinstance(value, TensorView) for value in inner.values()):
            return inner
    return content


def _named(content: dict[Any, Any]) -> dict[str, TensorView]:
    """Return every tensor by its dotted path; each container is entered once, so shared and cyclic ones end."""
    views: dict[str, TensorView] = {}
    entered = {id(content)}
    waiting: list[tuple[str, Any, int]] = [("", content, 0)]
    while waiting:
        prefix, container, depth = waiting.pop()
        pairs = container.items() if isinstance(container, dict) else enumerate(container)
        nested = []
        for key, value in pairs:
            name = f"{prefix}{key}"
            if len(name) > _MAXIMUM_NAME:
                raise CheckpointError(f"damaged: a tensor's name of {len(name)} characters")
            if isinstance(value, TensorView):
                if name in views:
                    raise CheckpointError(f"damaged: two tensors are named {name[:80]!r}")
                views[name] = value
            elif isinstance(value, (dict, list, tuple)) and id(value) not in entered and value:
                if depth >= _MAXIMUM_DEPTH:
                    raise CheckpointError(f"damaged: containers nested deeper than {_MAXIMUM_DEPTH}")
                entered.add(id(value))
                nested.append((f"{name}.", value, depth + 1))
        waiting.extend(reversed(nested))
    if not views:
        raise CheckpointError("holds no tensors")
    return views
