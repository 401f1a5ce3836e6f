"""Folders inside a run that are replaced as a whole, whenever the process is killed and whoever reads meanwhile."""

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from qingformer.errors import CheckpointError, QingFormerError

PREVIOUS = "previous"
RUN_FILES = ("best", "curve.jsonl", "curve.png", "report.json")
_ATTEMPTS = 20
T = TypeVar("T")


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """Yield an empty folder that becomes `target`, which must not be there yet; on any error it is removed."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{target.name.lstrip('.')}.", suffix=".part", dir=target.parent))
    temporary.chmod(target.parent.stat().st_mode & 0o777)
    try:
        yield temporary
        os.rename(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def discard(path: Path) -> None:
    """Remove a file or a folder; a kill in between leaves a hidden name, never a part of it under its own."""
    if path.is_dir() and not path.is_symlink():
        grave = Path(tempfile.mkdtemp(prefix=f".{path.name.lstrip('.')}.", suffix=".old", dir=path.parent))
        os.rename(path, grave / path.name)
        shutil.rmtree(grave, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def clear_leftovers(folder: Path, names: tuple[str, ...]) -> None:
    """Remove what a process that is no more left half-written of these names; the caller holds the run's lock."""
    for name in names:
        for suffix in (".part", ".old"):
            for path in folder.glob(f".{name}*{suffix}"):
                shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


def holds_run(folder: Path) -> bool:
    """Whether a training has written to this folder."""
    state = folder / "state"
    return any((folder / name).exists() for name in RUN_FILES) or (state.is_dir() and any(state.glob("epoch-*")))


def clear_run(folder: Path) -> None:
    """Remove what a training writes, and nothing else; the caller holds the lock. What comes first is what decides."""
    for name in ("state", *RUN_FILES[1:], "best"):
        if (folder / name).exists():
            discard(folder / name)
    KeptFolder(folder / "best").recover(None)
    if (folder / "best").exists():  # it was the previous one that was left
        discard(folder / "best")
    clear_leftovers(folder, ("state.", "best."))


class KeptFolder:
    """The folder of the best epoch: written beside, and put in its place once the run's state knows of it.

    `.best.epoch-00003` waits for its turn; while it takes the place of `best`, the old one is `.best.previous`. At any
    moment one of `best` and `.best.previous` is whole, and `whole_folder` finds it.
    """

    def __init__(self, target: Path) -> None:
        self.target = target

    def _beside(self, what: str) -> Path:
        return self.target.parent / f".{self.target.name}.{what}"

    def _waiting(self, epoch: int) -> Path:
        return self._beside(f"epoch-{epoch:05d}")

    def write(self, epoch: int, fill: Callable[[Path], object]) -> None:
        """Write the folder of an epoch beside the one in use."""
        waiting = self._waiting(epoch)
        if waiting.exists():
            discard(waiting)
        with new_folder(waiting) as folder:
            fill(folder)

    def publish(self, epoch: int) -> None:
        """Put the folder of `epoch` in its place, if it still waits for that."""
        waiting, previous = self._waiting(epoch), self._beside(PREVIOUS)
        if not waiting.is_dir():
            return
        if self.target.exists():
            if previous.exists():
                discard(previous)
            os.rename(self.target, previous)
        os.rename(waiting, self.target)
        self._drop_previous()

    def recover(self, epoch: int | None) -> None:
        """After a kill: finish what was begun for `epoch`, the best that the state knows of, and drop all else."""
        clear_leftovers(self.target.parent, (f"{self.target.name}.",))
        if epoch is not None:
            self.publish(epoch)
        previous = self._beside(PREVIOUS)
        if previous.exists() and not self.target.exists():
            os.rename(previous, self.target)
        self._drop_previous()
        for path in self.target.parent.glob(f".{self.target.name}.epoch-*"):
            discard(path)

    def _drop_previous(self) -> None:
        previous = self._beside(PREVIOUS)
        if previous.exists():
            discard(previous)


def replace_folder(target: Path, fill: Callable[[Path], object]) -> None:
    """Write a folder beside `target` and put it in its place."""
    kept = KeptFolder(target)
    kept.write(0, fill)
    kept.publish(0)


def whole_folder(path: str | os.PathLike[str]) -> Path:
    """`path`, or in its place what it was before a replacement that a kill has cut short."""
    path = Path(path)
    previous = path.parent / f".{path.name}.{PREVIOUS}"
    return previous if not path.exists() and previous.is_dir() else path


def read_whole(find: Callable[[], Path], read: Callable[[Path], T]) -> T:
    """`read(find())`, again where the folder was replaced meanwhile: files of two epochs never make one model.

    Raises:
        CheckpointError: it is replaced faster than it can be read.
    """
    path = None
    for attempt in range(_ATTEMPTS):
        try:
            path = find()
        except QingFormerError:
            if attempt > 1:  # a folder may change its name in the very moment when it is looked for
                raise
            time.sleep(0.01)
            continue
        before = _identity(path)
        try:
            found = read(path)
        except (QingFormerError, OSError):
            if _identity(path) == before:
                raise
            continue
        if _identity(path) == before:
            return found
    raise CheckpointError(f"{path}: replaced again and again while it is read; wait until its training has ended")


def _identity(path: Path) -> tuple[int, int, int] | None:
    with suppress(OSError):
        status = path.stat()
        return status.st_dev, status.st_ino, status.st_mtime_ns
    return None
