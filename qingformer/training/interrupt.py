"""Ctrl-C that loses nothing."""

import signal
import threading
from types import FrameType
from typing import Any

import keras

from qingformer.training.errors import TrainingInterrupted
from qingformer.training.state import TrainingState


class Interruptible(keras.callbacks.Callback):
    """Let the first Ctrl-C (SIGINT) finish the current step, write the state, and leave `fit`; the second one aborts.

    `fit` then raises `TrainingInterrupted`, a `KeyboardInterrupt`; `qingformer.training.run` catches it and returns a
    result whose `interrupted` is true. A validation under way is finished first. Should stand last among the callbacks.
    Outside of the main thread, where Python delivers no signals, it does nothing.

    Args:
        state: written before leaving; None to write nothing.

    Example:
        >>> model.fit(x, y, callbacks=[state, Interruptible(state)])
    """

    def __init__(self, state: TrainingState | None = None) -> None:
        super().__init__()
        self.state = state
        self.requested = False
        self._previous: Any = None
        self._installed = False

    def on_train_begin(self, logs: Any = None) -> None:
        if not self._installed and threading.current_thread() is threading.main_thread():
            self._previous = signal.signal(signal.SIGINT, self._on_signal)
            self._installed = True

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        if self.requested:
            self.release()
            if self.state is not None:
                self.state.save()
            raise TrainingInterrupted("stopped by Ctrl-C")

    def on_train_end(self, logs: Any = None) -> None:
        self.release()

    def release(self) -> None:
        """Give Ctrl-C back to whoever had it before."""
        if self._installed:
            signal.signal(signal.SIGINT, self._previous if self._previous is not None else signal.SIG_DFL)
            self._installed = False

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
        self.release()
