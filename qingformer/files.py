"""Files that are either whole or absent: write to a temporary name in the same folder, then rename."""

import ctypes
import json
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from qingformer.leftovers import OLD, remove_leftovers, temporary_item


@contextmanager
def atomic_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it takes the place of `path`, on any error it is removed.

    Of a symbolic link the file that it names is replaced. Pipes and devices, such as /dev/stdout, are written directly.
    """
    target = Path(os.path.realpath(path))
    if _is_stream(Path(path)):
        yield Path(path)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(target.parent, target.name)
    with temporary_item(target.parent, target.name, directory=False) as temporary:
        yield temporary
        os.replace(temporary, target)


def _is_stream(path: Path) -> bool:
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


@contextmanager
def atomic_directory(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary directory beside `path`; on success it takes the place of `path`, on any error it is removed.

    An existing directory is replaced as a whole: its previous content stays untouched until the new one is complete,
    and then it is gone, whoever wrote it. For folders that may hold other files there is `folders.updated_directory`.
    """
    target = Path(os.path.realpath(path))
    target.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(target.parent, target.name)
    with temporary_item(target.parent, target.name, directory=True) as temporary:
        yield temporary
        _swap(temporary, target)


def _swap(new: Path, target: Path) -> None:
    if not target.exists():
        os.replace(new, target)
        return
    if exchange(new, target):
        return
    with temporary_item(target.parent, target.name, directory=True, suffix=OLD) as old:
        kept = old / target.name
        try:
            os.replace(target, kept)
            os.replace(new, target)
        except OSError:
            if kept.exists():
                os.replace(kept, target)
            raise


def exchange(first: Path, second: Path) -> bool:
    """Let two paths change places in one step, with no moment without either; False where the system cannot."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError):
        return False
    here, swapped = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return bool(rename(here, os.fsencode(first), here, os.fsencode(second), swapped) == 0)


def write_json(path: str | os.PathLike[str], value: object) -> None:
    """Write `value` as indented UTF-8 JSON, whole or not at all."""
    with atomic_file(path) as temporary:
        temporary.write_text(json.dumps(value, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def is_path(value: object) -> bool:
    """Whether a value can name a file or folder. The empty text cannot: as a path it would be the current folder."""
    return isinstance(value, str | os.PathLike) and str(value) != ""


def check_not_pointer(content: bytes, path: str | os.PathLike[str], error: type[Exception]) -> None:
    """Raise `error` for the few lines that Git leaves in place of a large file it did not fetch."""
    if content.startswith(b"version https://git-lfs"):
        raise error(f"{path}: is a Git LFS pointer, not the file itself; run `git lfs pull` or download it")
