"""What a training writes into its folder, and how that is removed without anything else."""

from contextlib import suppress
from pathlib import Path

from qingformer.training.folder import clear_leftovers, discard, move_others
from qingformer.training.kept import WRITTEN, KeptFolder, written

STATE_FILES = ("values.npz", "state.json")
RUN_FILES = ("best", "curve.jsonl", "curve.png", "report.json")


def holds_run(folder: Path) -> bool:
    """Whether a training has written to this folder."""
    best = (folder / "best").exists() and written(folder / "best") != {WRITTEN}
    return best or any((folder / name).exists() for name in RUN_FILES[1:]) or bool(states_in(folder / "state"))


def states_in(folder: Path) -> list[Path]:
    """The folders of states, oldest first."""
    return [path for path in sorted(folder.glob("epoch-*-batch-*")) if path.is_dir()]


def drop_state(state: Path) -> None:
    """Remove a state; what others have put into its folder goes to the one above."""
    move_others(state, state.parent, STATE_FILES)
    discard(state)


def clear_run(folder: Path) -> None:
    """Remove what a training writes, and nothing else; the caller holds the lock. What comes first is what decides."""
    for state in reversed(states_in(folder / "state")):
        drop_state(state)
    clear_leftovers(folder / "state", ("epoch-",))
    with suppress(OSError):  # files of others are in it, or it is not there
        (folder / "state").rmdir()
    for name in RUN_FILES[1:]:
        if (folder / name).exists():
            discard(folder / name)
    KeptFolder(folder / "best").clear()
    clear_leftovers(folder, ("state.", "best."))
