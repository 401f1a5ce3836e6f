"""What every checkpoint can do, whatever its file format: list names, tell shapes and types, read one tensor."""

import difflib
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Protocol, Self

import numpy as np

from qingformer.checkpoints.wire import printable
from qingformer.errors import CheckpointError

PathLike = str | os.PathLike[str]
HUB_PREFIX = "hf://"
"""How a source on the Hugging Face Hub begins."""


class TensorRecord(Protocol):
    """The shape and type under which a tensor is stored."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> np.dtype[Any]: ...


class Checkpoint(ABC):
    """A read-only set of named tensors in files; nothing but the list of names is read until a tensor is asked for.

    Attributes:
        format: "tensorflow", "safetensors" or "torch".
        path: what was opened: a file, or the prefix of a TensorFlow checkpoint.
    """

    format: ClassVar[str]

    def __init__(self, path: PathLike, verify: bool) -> None:
        self.path = Path(path)
        self._verify = verify

    @abstractmethod
    def _records(self) -> Mapping[str, TensorRecord]:
        """All tensors by name, also those that `names` leaves out."""

    @abstractmethod
    def _read(self, name: str) -> np.ndarray:
        """The tensor `name`, which exists."""

    def names(self, *, everything: bool = False) -> list[str]:
        """Return the names of the model's tensors, in a fixed order.

        Args:
            everything: also list what is no part of the model: optimizer slots, step counters, text tensors.
        """
        return sorted(self._records())

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of tensor `name`; `()` for a scalar."""
        return self._record(name).shape

    def dtype(self, name: str) -> np.dtype[Any]:
        """Return the NumPy type of tensor `name`; bfloat16 is `ml_dtypes.bfloat16`."""
        return self._record(name).dtype

    def read(self, name: str) -> np.ndarray:
        """Return tensor `name` as a read-only array: a view into the memory-mapped file where the format allows.

        Raises:
            CheckpointError: no tensor has this name, or its bytes are missing or damaged.
        """
        self._record(name)
        array = self._read(name)  # first: what cannot be read at all says more than its checksum
        if self._verify:
            self._check(name)
        return array

    def check(self, name: str) -> None:
        """Compare the bytes of tensor `name` with the checksum that the file holds, if it holds one.

        Raises:
            CheckpointError: they differ; no tensor has this name.
        """
        self._record(name)
        self._check(name)

    def _check(self, name: str) -> None:  # noqa: B027 - formats without checksums have nothing to compare
        """The same for a tensor that exists."""

    def _record(self, name: str) -> TensorRecord:
        records = self._records()
        if name in records:
            return records[name]
        close = difflib.get_close_matches(name, list(records), n=3)
        hint = f"; close names: {printable(', '.join(close))}" if close else f"; it has {len(records)} tensors"
        raise CheckpointError(f"{self.path}: no tensor named {name!r}{hint}")

    def __contains__(self, name: object) -> bool:
        return name in self._records()

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def __len__(self) -> int:
        return len(self.names())

    def close(self) -> None:  # noqa: B027 - formats that keep nothing open have nothing to do
        """Let go of the files; arrays that were read stay valid."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.format} {str(self.path)!r}, {len(self)} tensors>"
