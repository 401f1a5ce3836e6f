"""A training as a process of its own that is killed, stopped, or out of disk at a chosen moment.

Children are forked from a parent that has imported everything and computed nothing: that saves seconds for each. Those
that get signals are new processes, so that the start and the end of Python itself are tested too.
"""

import atexit
import errno
import os
import resource
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CHANGES = {"open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate", "shutil.rmtree"}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Outcome:
    """How a process ended, and what it said on standard error."""

    code: int
    errors: list[str]


def keep_all_programs(cache: Path) -> None:
    """Before JAX is imported: forked children keep every compiled program there; the user's cache stays as it is."""
    os.environ |= {
        "XDG_CACHE_HOME": str(cache), "JAX_COMPILATION_CACHE_DIR": str(cache / "forked"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0", "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }  # fmt: skip


class Changes:
    """Counts the changes to files below a folder; at the one of number `at` does `action`.

    With "kill" the process dies just before the change, with "full" no file can be made from then on: the disk is full.
    """

    def __init__(self, folder: Path, at: int, action: str) -> None:
        self.folder, self.at, self.action, self.seen = os.path.realpath(folder), at, action, 0
        sys.addaudithook(self)

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event not in CHANGES or not self._ours(event, arguments):
            return
        self.seen += 1
        if self.seen == self.at and self.action == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.at and self.seen >= self.at and self.action == "full" and event in ("open", "os.mkdir"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(arguments[0]))

    def _ours(self, event: str, arguments: tuple[Any, ...]) -> bool:
        if event == "open" and not (arguments[2] or 0) & WRITING:
            return False
        path = arguments[0]
        if event in ("os.remove", "os.rmdir") and arguments[-1] not in (-1, None):  # relative to a folder's descriptor
            return True
        return isinstance(path, str | os.PathLike) and os.path.abspath(path).startswith(self.folder)


def forked(arguments: list[str], folder: Path, log: Path, *, at: int = 0, action: str = "", limit: int = 0) -> int:
    """Start a command line in a forked process and return its number; it counts its changes of files in `log`.count."""
    sys.stdout.flush()
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        code = _child(arguments, folder, log, at, action, limit)
    finally:
        os._exit(code)


def _child(arguments: list[str], folder: Path, log: Path, at: int, action: str, limit: int) -> int:
    from qingformer import backend
    from qingformer.cli import main as entry
    from qingformer.cli.process import leave_with

    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    null = os.open(os.devnull, os.O_RDWR)
    for number, descriptor in ((0, null), (1, null), (2, handle)):
        os.dup2(descriptor, number)
    if limit:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    backend.enable_compilation_cache = lambda directory=None: None  # type: ignore[assignment]
    changes = Changes(folder, at, action)
    try:
        leave_with(lambda: int(entry.__globals__["run"](arguments)))
    except SystemExit as end:
        if not limit:
            log.with_suffix(".count").write_text(str(changes.seen))
        atexit._run_exitfuncs()  # as Python would
        return int(end.code or 0)


def end_of(child: int, log: Path, seconds: float = 300.0) -> Outcome:
    """Wait for a forked process; one that does not end is killed and counts as code 99."""
    limit = time.monotonic() + seconds
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return Outcome(os.waitstatus_to_exitcode(status), lines_of(log.read_text(errors="replace")))
        if time.monotonic() > limit:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return Outcome(99, ["did not end"])
        time.sleep(0.005)


def lines_of(text: str) -> list[str]:
    """The lines of standard error but for the notes, which are no errors."""
    return [line for line in text.splitlines() if line and not line.startswith("note: ")]


def signalled(arguments: list[str], numbers: list[int], delays: list[float]) -> Outcome:
    """Run a command line in a new process and send it signals, each a while after the one before."""
    command = [sys.executable, "-m", "qingformer", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment, cwd=ROOT
    )
    while process.poll() is None and not _takes_signals(process.pid):
        time.sleep(0.01)
    for number, delay in zip(numbers, delays):
        time.sleep(delay)
        process.send_signal(number)  # does nothing where the process has ended
    _, errors = process.communicate(timeout=300)
    return Outcome(process.returncode, lines_of(errors))


def _takes_signals(process: int) -> bool:
    """Whether the program has taken charge of SIGTERM; before that Python itself is not there to answer."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return True
    caught = next(line.split()[1] for line in status.splitlines() if line.startswith("SigCgt"))
    return bool(int(caught, 16) >> (signal.SIGTERM - 1) & 1)
