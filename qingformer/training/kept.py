"""The folder of the best epoch: replaced as a whole, but for the files that others have put into it."""

import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from qingformer.training.folder import clear_leftovers, discard, move_others, new_folder

PREVIOUS = "previous"
WRITTEN = ".written.json"  # in a kept folder: the names of what was written with it; all else is somebody else's


def written(folder: Path) -> set[str]:
    """The names of what was written with a kept folder; none in those of earlier versions, which did not note them."""
    with suppress(OSError, ValueError, TypeError):
        names = json.loads((folder / WRITTEN).read_bytes())
        return {WRITTEN, *(name for name in names if isinstance(name, str))}
    return set()


class KeptFolder:
    """The folder of the best epoch: written beside, and put in its place once the run's state knows of it.

    `.best.epoch-00003` waits for its turn; while it takes the place of `best`, the old one is `.best.previous`. At any
    moment one of `best` and `.best.previous` is whole, and `whole_folder` finds it. Files that others have put into
    `best` move to the new one before the old one is removed.
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
            names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))
            (folder / WRITTEN).write_text(json.dumps(names), encoding="utf-8")

    def publish(self, epoch: int) -> None:
        """Put the folder of `epoch` in its place, if it still waits for that."""
        waiting, previous = self._waiting(epoch), self._beside(PREVIOUS)
        if not waiting.is_dir():
            return
        if self.target.exists():
            self._drop_previous()
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

    def missing(self) -> list[Path]:
        """What is gone of the folder in use: the folder itself, or files that were written with it."""
        if not self.target.is_dir():
            return [self.target]
        return [self.target / name for name in sorted(written(self.target)) if not (self.target / name).exists()]

    def clear(self) -> None:
        """Remove what was kept; the folder stays if others have put files into it."""
        self.recover(None)
        if written(self.target):
            replace_folder(self.target, lambda folder: None)
            if os.listdir(self.target) != [WRITTEN]:
                return
        if self.target.exists():
            discard(self.target)

    def _drop_previous(self) -> None:
        previous = self._beside(PREVIOUS)
        if previous.exists():
            move_others(previous, self.target, written(previous))
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
