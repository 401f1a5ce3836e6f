"""Ctrl-C at the moments where Python itself would lose it, die of it, or say something else than one line."""

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(os.name != "posix", reason="sends signals")

CASES = {
    "while working": ("ctrl_c()\n    time.sleep(30)", 130, "stopped\n"),
    "a polite kill": ("os.kill(os.getpid(), signal.SIGTERM)\n    time.sleep(30)", 143, "stopped\n"),
    "inside a callback of the garbage collector, which drops it": (
        "gc.callbacks.append(once)\n    gc.collect()\n    time.sleep(30)",
        130,
        "stopped\n",
    ),
    "inside exec of a string, which marks Python to die of it": ('exec("ctrl_c(); time.sleep(30)")', 130, "stopped\n"),
    "inside an import, which may crash of it": ("import interrupted_import", 130, "stopped\n"),
    "when the work is done": ("atexit.register(ctrl_c)", 0, ""),
    "twice, the second time while leaving": (
        "atexit.register(ctrl_c)\n    ctrl_c()\n    time.sleep(30)",
        130,
        "stopped\n",
    ),
    "not at all, but another exception is dropped": ("Dropped()", 0, "Exception ignored in: <function Dropped"),
}
PROGRAM = """
import atexit, gc, os, signal, time
from qingformer.cli import main as entry


def ctrl_c():
    os.kill(os.getpid(), signal.SIGINT)


def once(phase, info):
    gc.callbacks.clear()
    ctrl_c()
    time.sleep(0.01)


class Dropped:
    def __del__(self):
        raise ValueError("dropped")


def work(arguments):
    WORK


entry.__globals__["_invoke"] = lambda arguments: work(arguments) or 0
entry()
"""

IMPORTED = """
import os, signal

try:
    os.kill(os.getpid(), signal.SIGINT)
except KeyboardInterrupt:
    raise RuntimeError("a native library would have crashed")
"""


@pytest.mark.parametrize("moment", CASES)
def test_ctrl_c(moment, tmp_path):
    work, code, error = CASES[moment]
    (tmp_path / "stopped_program.py").write_text(PROGRAM.replace("WORK", work))
    (tmp_path / "interrupted_import.py").write_text(IMPORTED)
    command = [sys.executable, "-m", "stopped_program"]  # as `python -m qingformer`
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == code, done.stderr
    assert done.stderr.startswith(error) if error.startswith("Exception") else done.stderr == error
