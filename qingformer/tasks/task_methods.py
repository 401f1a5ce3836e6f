"""The methods that a task defines: its data, its network, its training. Everything else is in `Task`."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar

import keras

from qingformer.data import PaddedBatches
from qingformer.errors import ConfigError
from qingformer.models import Backbone
from qingformer.objectives import TrainableModel
from qingformer.tasks import fitting
from qingformer.tasks.built import TrainingSetup
from qingformer.tasks.command_line import CommandLineMethods


class TaskMethods(CommandLineMethods, ABC):
    """What tells one task from another; see `Task` for how the methods are used, and which of them are needed."""

    label_setting: ClassVar[str | None] = None  # the setting with the names of the outputs, where they have some
    monitor: ClassVar[str] = "val_f1"  # the score that picks the best epoch unless `fit` is told another
    scores: ClassVar[tuple[str, ...]] = ("f1", "precision", "recall")  # those that `score` gives

    @abstractmethod
    def read(self, source: object, name: str, labelled: bool = True, **reading: object) -> Any:
        """The examples of a path or a sequence: a sequence with a `name`, which messages begin with.

        `labelled` is False where there is nothing to learn or to compare with; `reading` are options of the reader.

        Raises:
            DataError: what cannot be read, with its file and line.
        """

    @abstractmethod
    def texts(self, examples: object) -> Iterable[str]:
        """Every text of the examples; a vocabulary is counted from them where none was given."""

    def infer_labels(self, examples: object) -> None:
        """Take from the training data what the network needs and nobody gave, such as the labels."""

    def check_examples(self, examples: object) -> None:
        """Refuse examples that the task, its labels known, cannot learn from or be scored on.

        Raises:
            DataError: names the row.
        """

    def check_held_out(self, examples: object) -> None:
        """Refuse examples that the task, its labels known, cannot be scored on: by default those of `check_examples`.

        Raises:
            DataError: names the row.
        """
        self.check_examples(examples)

    def check_same_inputs(self, train: object, held_out: object) -> None:
        """Refuse held-out data with other inputs than the training data, such as pairs of texts beside single ones.

        Raises:
            DataError: names the row.
        """

    # Before the data is there, a task with labels to be found has nothing to build.
    def can_build(self) -> bool:
        """Whether everything is known that the network depends on."""
        return self.label_setting is None or getattr(self, self.label_setting) is not None

    def label_names(self) -> list[str]:
        """The names in `label_setting`, given or found in the training data.

        Raises:
            ConfigError: there are none yet.
        """
        names: list[str] | None = None if self.label_setting is None else getattr(self, self.label_setting)
        if names is None:
            raise ConfigError(f"this {type(self).__name__} has no {self.label_setting} yet; call fit, or give them")
        return names

    @abstractmethod
    def build_network(self, backbone: Backbone) -> TrainableModel:
        """The model from the inputs of `backbone` to the outputs."""

    def activation(self) -> Callable[[Any], Any]:
        """The function from the outputs of the network to those of prediction: by default none."""
        return _identity

    @abstractmethod
    def training_batches(self, examples: object, batch_size: int, seed: int) -> PaddedBatches:
        """Batches of inputs and labels, in an order that depends on `seed` alone (see `padded_batches`)."""

    @abstractmethod
    def loss(self) -> Any:
        """The loss on the outputs, or losses by the name of the output."""

    def loss_weights(self) -> dict[str, float] | None:
        """Weights of the losses by the name of the output, where they are several."""
        return None

    def training_setup(
        self, examples: object, batch_size: int, seed: int, learning: object, unlabelled: object = None
    ) -> TrainingSetup:
        """All that training needs besides the network; `learning` is what the task's own `fit` handed on."""
        batches = self.training_batches(examples, batch_size, seed)
        return TrainingSetup(batches, self.loss(), self.loss_weights())

    def unlabelled_examples(self, learning: object, **reading: object) -> Any:
        """Further examples to learn from that have no labels; None for most tasks."""
        return None

    def score(self, examples: object) -> dict[str, float]:
        """Scores of held-out examples by the names of `scores`."""
        raise NotImplementedError(f"{type(self).__name__} does not score held-out data")

    def watched(self, monitor: str | None) -> str:
        """The name in the logs of the score that picks the best epoch. Errors: `ConfigError` for an unknown one."""
        return fitting.watched(monitor, self.monitor, self.scores)

    def validation(
        self, held_out: object, batch_size: int, monitor: str
    ) -> tuple[PaddedBatches | fitting.HeldOutScores, Sequence[keras.callbacks.Callback]]:
        """What measures held-out data after each epoch, and further callbacks: by default `score`."""
        return fitting.HeldOutScores(lambda: self.score(held_out), held_out), ()


def _identity(outputs: object) -> Any:
    return outputs
