"""Where the tests find real data, vocabularies and weights; they are not part of the project and may be absent."""

import os
import signal
from pathlib import Path

import pytest

os.environ.setdefault("KERAS_BACKEND", "jax")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts background jobs so, and programs inherit it: the tests of Ctrl-C would wait for nothing.
    signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("QINGFORMER_SHARED", ROOT.parent / "shared"))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with real data, or a skip that says where it was looked for."""
    if not (SHARED / "data").is_dir():
        pytest.skip(f"no data folder at {SHARED} (set QINGFORMER_SHARED to where it is)")
    return SHARED
