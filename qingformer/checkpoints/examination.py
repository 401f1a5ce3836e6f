"""Checksums and finite numbers, examined in a second thread while the model is built and the first weights are read."""

from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self

import numpy as np

from qingformer.checkpoints.checkpoint import Checkpoint
from qingformer.errors import CheckpointError

# Types of 16 bits: the bits of the exponent, all set in what is not finite.
EXPONENTS = {"float16": 0x7C00, "bfloat16": 0x7F80}
# Numbers at a time: the temporary arrays of a comparison stay in the cache of the processor.
CHUNK = 1 << 20


class Examined:
    """A checkpoint each of whose tensors is examined before it is handed out; the examination runs ahead.

    What is wrong with a tensor is raised when that tensor is read, so that one which the model does not need does not
    matter.

    Args:
        checkpoint: opened with `verify=False`, since the examination includes the checksums.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint
        # One thread beside the one that loads: reading from disk and summing both leave the interpreter's lock.
        self._pool = ThreadPoolExecutor(1, "examination")
        self._pending: dict[str, Future[None]] = {}
        for name in checkpoint.names():
            self._pending[name] = self._pool.submit(self._examine, name)

    def names(self) -> list[str]:
        """The names of the checkpoint."""
        return self._checkpoint.names()

    def read(self, name: str) -> np.ndarray:
        """The tensor.

        Raises:
            CheckpointError: its checksum differs, or it holds numbers that are not finite.
        """
        pending = self._pending.pop(name, None)
        if pending is not None:
            if pending.cancel():  # its turn has not come yet: two threads are faster than one
                self._examine(name)
            else:
                pending.result()
        return self._checkpoint.read(name)

    def _examine(self, name: str) -> None:
        array = self._checkpoint.read(name)
        self._checkpoint.check(name)
        count = count_not_finite(array)
        if count:
            raise CheckpointError(
                f"{self._checkpoint.path}: tensor {name} holds {count} numbers that are not finite (NaN or infinite); "
                "its training diverged or the file is damaged; verify=False loads it all the same"
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._pool.shutdown(cancel_futures=True)


def count_not_finite(array: np.ndarray) -> int:
    """How many numbers are NaN or infinite; zero for integers.

    Example: `count_not_finite(np.array([1.0, np.nan]))`
    """
    flat = array.reshape(-1)
    if array.dtype.kind == "f" and array.dtype.itemsize > 2:
        # One pass without a temporary array: a sum is finite only if its terms are; if it is not it may have run over.
        with np.errstate(all="ignore"):
            if np.isfinite(flat.sum()):
                return 0
    elif array.dtype.name in EXPONENTS:
        bits, exponent = flat.view(np.uint16), EXPONENTS[array.dtype.name]
        chunks = range(0, bits.size, CHUNK)
        return sum(int(np.count_nonzero((bits[i : i + CHUNK] & exponent) == exponent)) for i in chunks)
    elif not array.dtype.name.startswith("float8"):
        return 0
    chunks = range(0, flat.size, CHUNK)
    return sum(int(np.count_nonzero(~np.isfinite(flat[i : i + CHUNK].astype("float64")))) for i in chunks)
