"""Where the tests find real data, vocabularies and weights; they are not part of the project and may be absent."""

import os
import signal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Shared machines are slow at times, and a check that everybody runs draws the same examples for everybody.
settings.register_profile("shared", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared")
os.environ.setdefault("KERAS_BACKEND", "jax")
# For what JAX alone compiles slowly and other cases of the same test cover: there it waits for the second ring.
SLOW_ON_JAX = [pytest.mark.slow] if os.environ["KERAS_BACKEND"] == "jax" else []


# Cases that are dear to compile, and whose kind other cases cover; see pytest_collection_modifyitems.
LATER_ON_JAX = Path(__file__).with_name("later_on_jax.txt")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items, config):
    """On JAX what later_on_jax.txt names waits for the second ring; a name that no longer exists is an error."""
    if os.environ["KERAS_BACKEND"] != "jax":
        return
    later = set(LATER_ON_JAX.read_text(encoding="utf-8").split("\n")) - {""}
    for item in items:
        if item.nodeid in later:
            item.add_marker(pytest.mark.slow)
    if not any("::" in argument for argument in config.args):
        files = {item.nodeid.split("::")[0] for item in items}
        gone = {name for name in later if name.split("::")[0] in files} - {item.nodeid for item in items}
        if gone:
            raise pytest.UsageError(f"{LATER_ON_JAX.name} names cases that are not there: {', '.join(sorted(gone))}")


def slow_on_jax(test):
    """A test that waits for the second ring on JAX and runs in the first of the others."""
    for mark in SLOW_ON_JAX:
        test = mark(test)
    return test


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
