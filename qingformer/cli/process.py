"""The program as a process: its streams, and Ctrl-C and SIGTERM at any moment, with one line and one exit code each."""

import _thread
import atexit
import contextlib
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, NoReturn

from qingformer.environment import check_backend

EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143
# Long enough for the callback that dropped the interrupt to be over, too short to be noticed.
_RETRY_SECONDS = 0.02
# Not every platform has both.
_SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM") if hasattr(signal, name)]


class Stopped(KeyboardInterrupt):
    """One of the signals arrived; `signal` is its number."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.signal = number


class _Program:
    """Whether `leave_with` is in charge, which signal has arrived, and whether its line has been said."""

    in_charge = False
    received: int | None = None
    said = False


def exit_code(stop: BaseException) -> int:
    """130 after Ctrl-C, 143 after SIGTERM."""
    return EXIT_TERMINATED if getattr(stop, "signal", None) == signal.SIGTERM else EXIT_INTERRUPTED


def last_word() -> None:
    """Called before the one line about a stop is printed: from here on further signals change nothing."""
    if _Program.in_charge:
        _ignore()
        _Program.said = True


def leave_with(work: Callable[[], int]) -> NoReturn:
    """End the program with the exit code that `work()` returns; within it SIGINT and SIGTERM raise KeyboardInterrupt.

    Five habits of Python are set aside. An exception that passes through the import of a native library may crash it:
    nothing has been begun by then, so the program leaves at once. An exception inside a callback of the garbage
    collector (JAX has one) or a finalizer is dropped: an interrupt dropped there is raised again a moment later. A
    second signal while the first is being dealt with would end in a traceback: it makes the program leave at once. One
    that arrives while Python closes kills it: the work is done by then, so it is ignored. And once an interrupt has
    passed through `exec` of a string, as dataclasses do, Python dies of SIGINT whatever exit code is asked for: here
    130 stays 130.
    """
    closing: list[int] = []
    atexit.register(_close, closing)  # the first one registered is the last one called
    sys.unraisablehook = _raise_again
    _Program.in_charge = True
    for number in _SIGNALS:
        signal.signal(number, _interrupt)
    try:
        try:
            code = work()
        finally:
            _ignore()
    except KeyboardInterrupt as stop:  # it came when `work` was over but for its return
        code = exit_code(stop)
        if not _Program.said:
            os.write(2, b"stopped\n")
    if code in (EXIT_INTERRUPTED, EXIT_TERMINATED):
        closing.append(code)
    sys.exit(code)


def _ignore() -> None:
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _interrupt(number: int, frame: FrameType | None) -> None:
    again, _Program.received = _Program.received is not None, number
    while frame is not None and not again:
        again = frame.f_code.co_filename == "<frozen importlib._bootstrap>"
        frame = frame.f_back
    if again:
        _leave_at_once(number)
    raise Stopped(number)


def _leave_at_once(number: int) -> NoReturn:
    _flush()
    if not _Program.said:
        os.write(2, b"stopped\n")
    os._exit(EXIT_TERMINATED if number == signal.SIGTERM else EXIT_INTERRUPTED)


def _raise_again(dropped: "sys.UnraisableHookArgs") -> None:
    if issubclass(dropped.exc_type, KeyboardInterrupt):
        number = _Program.received or signal.SIGINT
        _Program.received = None  # it counts as not yet arrived
        timer = threading.Timer(_RETRY_SECONDS, _thread.interrupt_main, (number,))
        timer.daemon = True
        timer.start()
    else:
        sys.__unraisablehook__(dropped)


def _close(closing: list[int]) -> None:
    if closing:
        _flush()
        os._exit(closing[0])


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, RuntimeError):  # closed, its reader is gone, or it is at work
            stream.flush()


def use_utf8() -> None:
    """Write UTF-8 to files and pipes; to a terminal what it can show. What cannot be written becomes an escape.

    In a C locale, or with PYTHONIOENCODING=gbk, Python would raise in the middle of the output.
    A stream that the shell has closed (>&-) is one to nowhere.
    """
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "r" if name == "stdin" else "w", encoding="utf-8"))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        change: Any = getattr(stream, "reconfigure", None)
        if change is None:  # put in place by a test or a notebook
            continue
        if stream.isatty():
            change(errors="backslashreplace")
        else:
            change(encoding="utf-8", errors="backslashreplace")


def import_keras_quietly() -> None:
    """Import Keras on TensorFlow with standard error set aside; what was written there is shown if the import fails.

    TensorFlow's native code writes there before any of its log settings take effect. On other backends nothing happens.
    Errors: `ConfigError` for a backend that is none.
    """
    check_backend()
    if os.environ.get("KERAS_BACKEND") != "tensorflow" or "tensorflow" in sys.modules:
        return
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as aside:
        os.dup2(aside.fileno(), 2)
        failed = False
        try:
            import keras  # noqa: F401
        except Exception:  # not Ctrl-C, after which the greeting is as out of place as ever
            failed = True
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            if failed:
                aside.seek(0)
                os.write(2, aside.read())
