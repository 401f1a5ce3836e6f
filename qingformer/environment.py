"""What the environment asks for, checked before Keras is imported."""

import os

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
