"""What the environment asks for, checked before Keras is imported."""

import os
import sys

from qingformer.errors import ConfigError

BACKENDS = ("jax", "torch", "tensorflow")
_SPELLINGS = {"pytorch": "torch", "tf": "tensorflow"}


def check_backend() -> None:
    """Refuse a KERAS_BACKEND that this package does not know, which Keras answers with a traceback or another library.

    Raises:
        ConfigError: names the three there are.
    """
    wanted = os.environ.get("KERAS_BACKEND", BACKENDS[0])
    if wanted not in BACKENDS:
        meant = _SPELLINGS.get(wanted.lower(), "jax")
        raise ConfigError(
            f"KERAS_BACKEND is {wanted[:40]!r}; choose one of {', '.join(BACKENDS)}, for instance KERAS_BACKEND={meant}"
        )


def note_backend() -> None:
    """Say on standard error, once, that Keras was imported before this package and runs on a library nobody named."""
    keras = sys.modules.get("keras")
    runs_on = getattr(getattr(keras, "config", None), "backend", lambda: None)()
    if runs_on in (None, BACKENDS[0]) or "KERAS_BACKEND" in os.environ:
        return
    print(
        f"note: Keras was imported before qingformer and runs on {runs_on}; import qingformer first for JAX, or set "
        f"KERAS_BACKEND (here {runs_on}) to choose without this note",
        file=sys.stderr,
    )
