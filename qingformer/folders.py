"""Folders that several saves, and the user, share: what is written is replaced whole, everything else stays."""

import errno
import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from qingformer.errors import CheckpointError, QingFormerError
from qingformer.json_files import read_json, readable_json
from qingformer.leftovers import release, remove_leftovers, temporary_item, wait_for

STAGE = "qingformer"  # a save in work is a hidden folder of this name
COMPLETE = ".qingformer-complete"  # and of this one when all is written and only has to be put in place
REMOVALS = ".removals.json"


def _nothing(folder: Path) -> Iterable[str]:
    return ()


@contextmanager
def updated_directory(
    path: str | os.PathLike[str],
    superseded: Callable[[Path], Iterable[str]] = _nothing,
    error: type[QingFormerError] = CheckpointError,
) -> Iterator[Path]:
    """Yield an empty folder to fill; on success its files take their places in `path`, where all other files stay.

    Until everything is written `path` is as it was. Then the whole is renamed to `.qingformer-complete` inside `path`,
    and from there file by file to its place. A kill in between loses nothing: whoever reads or saves next finishes it
    (`finish_update`).

    Args:
        superseded: called with `path` before anything changes, if it exists; the names of files in it that would
            contradict the new ones and go. It may refuse by an error of its own.
        error: what is raised for whatever the operating system refuses.
    """
    target = Path(os.path.realpath(path))
    try:
        if target.exists() and not target.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, "is a file, expected a folder; choose another path")
        finish_update(target)
        inside = target.is_dir()
        beside = target if inside else target.parent
        beside.mkdir(parents=True, exist_ok=True)
        remove_leftovers(target.parent, target.name)
        remove_leftovers(target, STAGE)
        with temporary_item(beside, STAGE if inside else target.name, directory=True) as stage:
            yield stage
            _put_in_place(stage, target, superseded)
    except OSError as problem:
        raise error(f"{path}: cannot be written: {problem.strerror or problem}") from problem


def finish_update(path: str | os.PathLike[str]) -> None:
    """Put in place what a process that is no more had written completely; nothing to do is the usual case.

    Raises:
        CheckpointError: the folder cannot be written, or a living process is at it and does not end.
    """
    complete = Path(path) / COMPLETE
    if not complete.is_dir():
        if not os.path.lexists(path):
            remove_leftovers(Path(path).parent, Path(path).name)  # puts back what was to be replaced as a whole
        return
    with suppress(FileNotFoundError):  # another process has just finished it
        try:
            descriptor = wait_for(complete)
            try:
                _move_all(complete, Path(path))
            finally:
                release(descriptor)
        except FileNotFoundError:
            raise
        except OSError as problem:
            raise CheckpointError(
                f"{path}: a save was interrupted and cannot be finished ({problem.strerror or problem}); "
                "make the folder writable and try again, or save once more"
            ) from problem


def model_of_run(path: Path) -> Path:
    """The folder inside `path` that holds its model, else `path`.

    In the output folder of a training that is the best epoch's; in one of sentence-transformers it is the first module
    that `modules.json` names.
    """
    if (path / "config.json").exists():
        return path
    best = path / "best"
    return best if (best / "task.json").is_file() else _first_module(path)


def _first_module(path: Path) -> Path:
    listed = readable_json(path / "modules.json")
    first = listed[0] if isinstance(listed, list) and listed else None
    name = first.get("path") if isinstance(first, dict) else None
    if not isinstance(name, str) or name in ("", "..") or Path(name).name != name:  # nothing outside the folder
        return path
    return path / name if (path / name / "config.json").is_file() else path


def _put_in_place(stage: Path, target: Path, superseded: Callable[[Path], Iterable[str]]) -> None:
    if not target.exists():
        with suppress(OSError):  # somebody was faster and made the folder
            os.rename(stage, target)
            return
    new = _files(stage)
    _check_free(new, target)
    removals = sorted(set(superseded(target)) - set(new))
    (stage / REMOVALS).write_text(json.dumps(removals), encoding="utf-8")
    complete = target / COMPLETE
    for _ in range(500):
        finish_update(target)
        try:
            os.rename(stage, complete)
            break
        except OSError as problem:
            if problem.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            time.sleep(0.02)
    else:
        raise TimeoutError("other processes save into this folder without end")
    _move_all(complete, target)


def _check_free(names: list[str], target: Path) -> None:
    """Refuse before anything is moved what could not be moved."""
    for name in names:
        _within(target, name)
        if (target / name).is_dir():
            raise IsADirectoryError(errno.EISDIR, f"{name} is a folder there; move it away")
        for parent in Path(name).parents:
            if (target / parent).exists() and not (target / parent).is_dir():
                raise NotADirectoryError(errno.ENOTDIR, f"{parent} is a file there; move it away")


def _files(folder: Path) -> list[str]:
    """The files in a folder and below, as names relative to it."""
    found = [Path(base, name) for base, _, names in os.walk(folder) for name in names]
    return sorted(str(path.relative_to(folder)) for path in found)


def _move_all(complete: Path, target: Path) -> None:
    """Every step may be the last one before a kill, and all of them may be done again."""
    listed = complete / REMOVALS
    names = read_json(listed, CheckpointError) if listed.exists() else []
    for name in names if isinstance(names, list) else ():
        place = _within(target, str(name))
        place.unlink(missing_ok=True)
        if place.parent != target:
            with suppress(OSError):  # only empty folders go
                place.parent.rmdir()
    for name in _files(complete):
        if name != REMOVALS:
            place = _within(target, name)
            place.parent.mkdir(parents=True, exist_ok=True)
            os.replace(complete / name, place)
    listed.unlink(missing_ok=True)
    shutil.rmtree(complete, ignore_errors=True)


def _within(target: Path, name: str) -> Path:
    """The path of a file in the folder; a folder from elsewhere must not make us touch anything outside of it."""
    parent = Path(os.path.realpath(target / Path(name).parent))
    if not parent.is_relative_to(os.path.realpath(target)):
        raise PermissionError(errno.EPERM, f"{name[:80]} lies outside of the folder")
    return parent / Path(name).name
