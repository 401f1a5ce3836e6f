"""Temporary files and folders that their process holds locked, so that the next one can tell what a dead one left."""

import contextlib
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows: nothing is locked there, and nothing is taken for a left-over
    fcntl = None  # type: ignore[assignment]

PART, OLD = ".part", ".old"


def hold(path: str | os.PathLike[str]) -> int | None:
    """Lock a file or a folder that is there until `release` or the end of the process.

    Returns the descriptor that holds it; None where the file system has no locks, and the item counts as held.
    Errors: `BlockingIOError` if a living process holds it, `FileNotFoundError` if it is gone.
    """
    if fcntl is None:
        return None
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Whoever clears up may have removed the item between opening and locking.
        if not os.path.samestat(os.fstat(descriptor), os.stat(path)):
            raise FileNotFoundError(str(path))
    except (BlockingIOError, FileNotFoundError):
        os.close(descriptor)
        raise
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def release(descriptor: int | None) -> None:
    """Let go of what `hold` gave."""
    if descriptor is not None:
        os.close(descriptor)


def wait_for(path: str | os.PathLike[str], seconds: float = 10.0) -> int | None:
    """As `hold`, but wait for another process to let go. Errors: `TimeoutError`."""
    end = time.monotonic() + seconds
    while True:
        try:
            return hold(path)
        except BlockingIOError:
            if time.monotonic() > end:
                raise TimeoutError(f"another process has been writing it for {seconds:.0f} seconds") from None
            time.sleep(0.02)


@contextlib.contextmanager
def temporary_item(folder: Path, name: str, *, directory: bool, suffix: str = PART) -> Iterator[Path]:
    """Yield a new, locked, empty file or folder `.name.xxxxxxxx.part` in `folder`; it is gone afterwards."""
    prefix = f".{name}."
    while True:
        if directory:
            path = Path(tempfile.mkdtemp(prefix=prefix, suffix=suffix, dir=folder))
        else:
            opened, text = tempfile.mkstemp(prefix=prefix, suffix=suffix, dir=folder)
            os.close(opened)
            path = Path(text)
        try:
            descriptor = hold(path)
            break
        except (BlockingIOError, FileNotFoundError):  # taken for a left-over before it was locked
            continue
    path.chmod((0o777 if directory else 0o666) & ~_umask())
    try:
        yield path
    finally:
        if directory:
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
        release(descriptor)


def remove_leftovers(folder: str | os.PathLike[str], name: str | None = None) -> list[Path]:
    """Remove the `.part` and `.old` items in `folder` that no living process holds; returns what was removed.

    Only those of the file or folder `name`, if one is given. A replaced folder whose successor never came is put back.
    """
    shape = re.compile(rf"\.(?P<name>{'.+' if name is None else re.escape(name)})\.[a-z0-9_]{{8}}\.(part|old)")
    removed = []
    if fcntl is None or not os.path.isdir(folder):
        return []
    for entry in sorted(os.listdir(folder)):
        found, path = shape.fullmatch(entry), Path(folder) / entry
        if found is None:
            continue
        with contextlib.suppress(OSError):
            descriptor = hold(path)
            if descriptor is None:
                continue
            try:
                _put_back(path, found["name"])
                shutil.rmtree(path) if path.is_dir() else path.unlink()
                removed.append(path)
            finally:
                release(descriptor)
    return removed


def _put_back(path: Path, name: str) -> None:
    kept, target = path / name, path.parent / name
    if path.name.endswith(OLD) and kept.exists() and not os.path.lexists(target):
        os.replace(kept, target)


def _umask() -> int:
    """The process's file mode mask: temporary files are private, what replaces them should be as any saved file."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
