"""Folders that are whole or absent, whenever the process is killed and whoever reads meanwhile."""

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from qingformer.errors import CheckpointError, QingFormerError

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


def move_others(source: Path, target: Path, ours: Collection[str]) -> None:
    """Move to `target` all files and folders in `source`, at any depth, but those of the names `ours`.

    What `target` has already stays. Each step may be the last one before a kill, and all may be done again.
    """
    for path in sorted(source.rglob("*")):
        name = path.relative_to(source).as_posix()
        if name in ours or not os.path.lexists(path) or os.path.lexists(target / name):
            continue
        with suppress(NotADirectoryError, FileExistsError):  # a new file has the name of its folder
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            os.rename(path, target / name)


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
