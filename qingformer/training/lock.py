"""One process at a time in the folder of a run, with a lock that ends with its process."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from qingformer.training.training_errors import RunInUseError

LOCK_FILE = ".run.lock"
_WINDOWS_BYTE = 1 << 30  # far behind the text: a locked byte cannot be read by others there


@dataclass
class _Held:
    """A folder that this process holds: by which thread, how many times over, and through which descriptor."""

    thread: int
    times: int
    descriptor: int


_held: dict[tuple[int, int], _Held] = {}
_guard = threading.RLock()


@contextmanager
def locked(directory: str | os.PathLike[str]) -> Iterator[Path]:
    """Hold the folder of a run, which is made if it is not there and removed again if nothing was written to it.

    The lock is one of the operating system on `.run.lock`, so that of a dead process counts for nothing; the number of
    the process in the file is for the message only. The same thread may hold a folder several times over.

    Raises:
        RunInUseError: another process, or another thread of this one, is at work in this folder.
        OSError: the folder cannot be written.
    """
    folder = Path(directory)
    made = _make(folder)
    try:
        key = _acquire(folder)
        try:
            yield folder
        finally:
            _release(folder, key)
    finally:
        for each in made:
            with suppress(OSError):  # not empty: the run has begun
                each.rmdir()


def _make(folder: Path) -> list[Path]:
    """Make the folder; returns those that were not there, innermost first."""
    missing = []
    for each in (folder, *folder.parents):
        if each.exists():
            break
        missing.append(each)
    folder.mkdir(parents=True, exist_ok=True)
    return missing


def _acquire(folder: Path) -> tuple[int, int]:
    with _guard:
        status = folder.stat()
        key, thread = (status.st_dev, status.st_ino), threading.get_ident()
        mine = _held.get(key)
        if mine is not None and mine.thread != thread:
            raise RunInUseError(f"{folder}: in use by another thread of this process; choose another folder")
        if mine is not None:
            mine.times += 1
        else:
            _held[key] = _Held(thread, 1, _open(folder / LOCK_FILE))
        return key


def _open(path: Path) -> int:
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except FileNotFoundError:  # another process has just removed the empty folder
            continue
        try:
            _lock(descriptor)
            # Whoever held it before removes the file when it ends: then this is a lock on nothing.
            if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                os.ftruncate(descriptor, 0)
                os.write(descriptor, f"{os.getpid()}\n".encode())
                return descriptor
        except FileNotFoundError:
            pass
        except BlockingIOError:
            text = os.read(descriptor, 32).decode(errors="replace").strip()
            os.close(descriptor)
            who = f"process {text}" if text.isdigit() else "another process"
            raise RunInUseError(
                f"{path.parent}: in use by {who}; wait until it has ended, or choose another folder"
            ) from None
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _release(folder: Path, key: tuple[int, int]) -> None:
    with _guard:
        mine = _held.get(key)
        if mine is None:  # a forked child, to which the lock does not belong
            return
        mine.times -= 1
        if mine.times == 0:
            del _held[key]
            with suppress(OSError):  # Windows removes no open file
                (folder / LOCK_FILE).unlink()
            os.close(mine.descriptor)
            if os.name == "nt":
                with suppress(OSError):
                    (folder / LOCK_FILE).unlink()


def _forget() -> None:
    """In a forked child: the lock is the parent's alone, and ends with it."""
    for mine in _held.values():
        with suppress(OSError):
            os.close(mine.descriptor)
    _held.clear()


if os.name == "nt":
    import msvcrt

    def _lock(descriptor: int) -> None:
        os.lseek(descriptor, _WINDOWS_BYTE, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        except OSError:
            raise BlockingIOError from None
        finally:
            os.lseek(descriptor, 0, os.SEEK_SET)
else:
    import errno
    import fcntl

    _NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL}

    def _lock(descriptor: int) -> None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as problem:  # a file system without locks is used without
            if problem.errno not in _NO_LOCKS:
                raise

    os.register_at_fork(after_in_child=_forget)
