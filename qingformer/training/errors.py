"""What can go wrong, or be stopped, in training."""

from qingformer.errors import QingFormerError


class TrainingStateError(QingFormerError):
    """A saved training state is damaged, or belongs to another model, optimizer or data set."""


class PlotError(QingFormerError):
    """A learning curve cannot be drawn or read."""


class TrainingInterrupted(KeyboardInterrupt):
    """Ctrl-C was pressed; the step under way was finished and the state, if there is one, written."""
