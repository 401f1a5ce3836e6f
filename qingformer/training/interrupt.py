"""Ctrl-C and SIGTERM that lose nothing."""

import signal
import threading
from types import FrameType
from typing import Any

import keras

from qingformer.training.state import TrainingState
from qingformer.training.training_errors import TrainingInterrupted

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interruptible(keras.callbacks.Callback):
    """Let the first Ctrl-C (SIGINT) or SIGTERM finish the current step, write the state, and leave `fit`.

    The second one aborts. `fit` raises `TrainingInterrupted`, a `KeyboardInterrupt`; `qingformer.training.run` catches
    it and returns a result whose `interrupted` is true. A validation under way is finished first. Should stand last
    among the callbacks. Outside of the main thread, where Python delivers no signals, it does nothing.

    Args:
        state: written before leaving; None to write nothing.

    Example:
        >>> model.fit(x, y, callbacks=[state, Interruptible(state)])
    """

    def __init__(self, state: TrainingState | None = None) -> None:
        super().__init__()
        self.state = state
        self.received: int | None = None  # the signal
        self._previous: dict[int, Any] = {}

    @property
    def requested(self) -> bool:
        """Whether somebody wants the training to end."""
        return self.received is not None

    def on_train_begin(self, logs: object = None) -> None:
        if not self._previous and threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._on_signal) for number in _SIGNALS}

    def on_train_batch_begin(self, batch: int, logs: object = None) -> None:
        if self.received is not None:
            self.release()
            if self.state is not None:
                self.state.save()
            name = "Ctrl-C" if self.received == signal.SIGINT else "SIGTERM"
            raise TrainingInterrupted(f"stopped by {name}", self.received)

    def on_train_end(self, logs: object = None) -> None:
        self.release()

    def release(self) -> None:
        """Give the signals back to whoever had them before."""
        previous, self._previous = self._previous, {}
        for number, handler in previous.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.received = number
        self.release()
