"""Ctrl-C and a polite kill stop the program at any moment, with one line and one exit code."""

import _thread
import atexit
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

EXIT_INTERRUPTED = 130
_RETRY_SECONDS = 0.02
_SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM") if hasattr(signal, name)]


def leave_with(work: Callable[[], int]) -> NoReturn:
    """End the program with the exit code that `work()` returns; within it SIGINT and SIGTERM raise KeyboardInterrupt.

    Four habits of Python are set aside. An exception that passes through the import of a native library may crash it:
    nothing has been begun by then, so the program leaves at once. An exception inside a callback of the garbage
    collector (JAX has one) or a finalizer is dropped: an interrupt dropped there is raised again a moment later. A
    signal that arrives while Python closes kills it: the work is done by then, so it is ignored. And once an interrupt
    has passed through `exec` of a string, as dataclasses do, Python dies of SIGINT whatever exit code is asked for:
    here 130 stays 130.
    """
    interrupted = threading.Event()
    atexit.register(_close, interrupted)  # the first one registered is the last one called
    sys.unraisablehook = _raise_again
    for number in _SIGNALS:
        signal.signal(number, _interrupt)
    try:
        code = work()
    finally:
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)
    if code == EXIT_INTERRUPTED:
        interrupted.set()
    sys.exit(code)


def _interrupt(number: int, frame: FrameType | None) -> None:
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            os.write(2, b"stopped\n")
            os._exit(EXIT_INTERRUPTED)
        frame = frame.f_back
    raise KeyboardInterrupt


def _raise_again(dropped: "sys.UnraisableHookArgs") -> None:
    if issubclass(dropped.exc_type, KeyboardInterrupt):
        timer = threading.Timer(_RETRY_SECONDS, _thread.interrupt_main)
        timer.daemon = True
        timer.start()
    else:
        sys.__unraisablehook__(dropped)


def _close(interrupted: threading.Event) -> None:
    if interrupted.is_set():
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):  # closed already, or its reader is gone
                stream.flush()
        os._exit(EXIT_INTERRUPTED)
