"""What can go wrong, or be stopped, in training."""

import signal

from qingformer.errors import QingFormerError


class TrainingStateError(QingFormerError):
    """A saved training state is damaged, or belongs to another model, optimizer or data set."""


class RunInUseError(QingFormerError):
    """Another process is at work in the folder of a run."""


class DivergenceError(QingFormerError):
    """A loss, a score or a weight is not a finite number; what was kept before is whole."""


class PlotError(QingFormerError):
    """A learning curve cannot be drawn or read."""


class TrainingInterrupted(KeyboardInterrupt):
    """Ctrl-C or SIGTERM (`signal`) arrived; the step under way was finished and the state, if there is one, written."""

    def __init__(self, message: str = "", number: int = signal.SIGINT) -> None:
        super().__init__(message)
        self.signal = number
