"""Standard output and standard error in UTF-8, whatever the locale."""

import os
import sys
from typing import Any


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
