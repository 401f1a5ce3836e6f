"""Who reads and who changes the weights of a model: any number of threads predict, or one trains."""

import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from qingformer.errors import ConfigError

_PATIENCE = 60.0


# One for each model, shared by all tasks over it.
class _Use:
    """The threads that use one model."""

    def __init__(self) -> None:
        self.condition = threading.Condition()
        self.trainer: int | None = None
        self.readers: dict[int, int] = {}  # thread to calls under way


_uses: "weakref.WeakKeyDictionary[Any, _Use]" = weakref.WeakKeyDictionary()
_guard = threading.Lock()


def _use_of(model: object) -> _Use:
    with _guard:
        return _uses.setdefault(model, _Use())


@contextmanager
def reading(model: object) -> Iterator[None]:
    """Read the weights; the thread that trains may do so too, between two steps.

    Raises:
        ConfigError: another thread trains this model.
    """
    use, thread = _use_of(model), threading.get_ident()
    with use.condition:
        if use.trainer not in (None, thread):
            raise ConfigError(
                "this model is being trained in another thread; use it when fit has ended, or load the best epoch "
                "so far with qf.load(directory)"
            )
        use.readers[thread] = use.readers.get(thread, 0) + 1
    try:
        yield
    finally:
        with use.condition:
            use.readers[thread] -= 1
            if not use.readers[thread]:
                del use.readers[thread]
            use.condition.notify_all()


@contextmanager
def training_of(model: object) -> Iterator[None]:
    """Train: wait until predictions of other threads are done; those that come meanwhile are refused.

    Raises:
        ConfigError: another thread trains this model, or predictions do not end.
    """
    use, thread = _use_of(model), threading.get_ident()
    with use.condition:
        if use.trainer is not None:
            raise ConfigError("this model is being trained already; wait until that fit has ended")
        use.trainer = thread
        if not use.condition.wait_for(lambda: not set(use.readers) - {thread}, timeout=_PATIENCE):
            use.trainer = None
            raise ConfigError(
                f"predictions of other threads have not ended in {_PATIENCE:.0f} seconds; fit needs them to"
            )
    try:
        yield
    except BaseException:
        if hasattr(model, "jax_state_sync"):  # within an epoch the weights are in the loop of Keras alone
            model.jax_state_sync()
        raise
    finally:
        with use.condition:
            use.trainer = None
