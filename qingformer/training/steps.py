"""Callbacks that see every step without slowing it down."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import keras

from qingformer.training.training_errors import TrainingStateError

Logs = dict[str, float]


class OrderedSteps(keras.callbacks.Callback):
    """Base of callbacks that read the logs of every step: override `on_step`.

    On JAX a callback with `on_train_batch_end` makes Keras wait for the result of each step before the next one is
    started, unless it declares itself safe for calls from other threads, in any order. This one is: it puts the steps
    back in order, and `on_step` is called for one step at a time. It must not touch `self.model`.

    `step` counts the steps of the whole training, `batch` those of this epoch; both survive a resume.
    """

    async_safe = True

    def __init__(self) -> None:
        super().__init__()
        self.step = self.batch = self.epoch = 0
        self._first = self._next = 0
        self._resumed: int | None = None
        self._arrived: dict[int, Logs] = {}
        self._condition = threading.Condition()

    def on_step(self, logs: Logs) -> None:
        """Called after every step, in order; `self.step`, `self.batch` and `self.epoch` are up to date."""

    def start_from(self, step: int, batch: int) -> None:
        """Count on from a restored state; to be called before the first epoch."""
        self.step, self._resumed = step, batch

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        self.epoch, self.batch = epoch, self._resumed or 0
        self._resumed, self._first, self._next, self._arrived = None, self.batch, 0, {}

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        size = self._model.steps_per_execution
        with self._condition:
            self._arrived[batch // size] = dict(logs or {})
            try:
                while self._next in self._arrived:
                    arrived = self._arrived.pop(self._next)
                    self._next += 1
                    done = self._first + self._next * size
                    self.step, self.batch = self.step + done - self.batch, done
                    self.on_step(arrived)
            finally:
                self._condition.notify_all()

    def wait_for(self, batch: int) -> None:
        """Return when `on_step` has been called for the first `batch` steps of this epoch.

        Raises:
            TrainingStateError: they do not come, because an earlier one failed.
        """
        with self._condition:
            if not self._condition.wait_for(lambda: self.batch >= batch, timeout=600):
                raise TrainingStateError(f"the logs of step {batch} of epoch {self.epoch + 1} never came")


@dataclass(frozen=True)
class ProgressEvent:
    """Where training stands.

    `epoch` and `batch` count what is done or under way, from 1 and 0; `step` of `steps` is for the whole training (None
    where the length of an epoch is not known). `rate` is in steps per second, `elapsed` and `remaining` in seconds.
    `logs` are Keras' running means. `kind` is "begin", "step", "epoch" or "end".
    """

    kind: str
    epoch: int
    epochs: int
    batch: int
    batches: int | None
    step: int
    steps: int | None
    elapsed: float
    rate: float | None = None
    remaining: float | None = None
    logs: Logs = field(default_factory=dict)


class Progress(OrderedSteps):
    """Tells a listener where training stands, at most every `interval` seconds; draws nothing itself.

    The listener may be called from another thread than the one that trains (never from two at once).

    Example:
        >>> events = []
        >>> callback = Progress(events.append, epochs=3, batches=100)
    """

    def __init__(
        self,
        listener: Callable[[ProgressEvent], None],
        epochs: int,
        batches: int | None = None,
        interval: float = 0.1,
    ) -> None:
        super().__init__()
        self.listener, self.epochs, self.batches, self.interval = listener, epochs, batches, interval
        self._began = self._told = 0.0
        self._steps_before = 0

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self._began = time.monotonic()
        self._steps_before = -1

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        super().on_epoch_begin(epoch, logs)
        if self._steps_before < 0:
            self._steps_before = self.step
            self._tell("begin", {})

    def on_step(self, logs: Logs) -> None:
        if time.monotonic() - self._told >= self.interval:
            self._tell("step", logs)

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        self._tell("epoch", logs or {})

    def on_train_end(self, logs: Logs | None = None) -> None:
        self._tell("end", logs or {})

    def _tell(self, kind: str, logs: Logs) -> None:
        self._told = time.monotonic()
        elapsed = self._told - self._began
        steps = None if self.batches is None else self.batches * self.epochs
        done = self.step - max(self._steps_before, 0)
        rate = done / elapsed if done and elapsed > 0 else None
        remaining = max(steps - self.step, 0) / rate if rate and steps is not None else None
        position = (self.epoch + 1, self.epochs, self.batch, self.batches, self.step, steps)
        self.listener(ProgressEvent(kind, *position, elapsed, rate, remaining, dict(logs)))
