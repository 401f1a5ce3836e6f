"""Heads that were fine-tuned elsewhere: a task takes one with its labels where it can use it, and warns otherwise."""

import inspect
import warnings
from collections.abc import Mapping
from typing import Any, ClassVar

import keras
import numpy as np

from qingformer.errors import ConfigError, DataError, HeadWarning
from qingformer.models import Backbone
from qingformer.models.fine_tuned import StoredHead
from qingformer.tasks.head_labels import Unusable, brief, listed
from qingformer.tasks.storage import head_variables, read_into
from qingformer.tokenization import Tokenizer
from qingformer.types import Config, Values

# Not minus infinity: the head goes on training, and needs a gradient there.
NEVER = -1e4  # the score of a tag that the stored head does not have


class TakesHeads:
    """How a task uses the heads in files, and what it remembers about its own."""

    model: Any
    identity: ClassVar[tuple[str, ...]]
    before_head: Config | None = None  # the settings that the stored head decided, as they were before it
    left_out: str = ""  # why a head in the files was not taken
    _start: list[np.ndarray] | None = None

    @classmethod
    def settings_for_head(cls, head: StoredHead, given: Values, backbone: Backbone) -> Config:
        """The settings with which this task has the outputs of `head`. Raises `Unusable` where it cannot."""
        raise Unusable(f"{cls.__name__} has no such head")

    def head_layers(self) -> tuple[str, ...]:
        """The names of the layers that a stored head fills, the output last."""
        return ()

    def outputs_in(self, head: StoredHead) -> list[int] | None:
        """For each of our outputs its place in the stored head, -1 where it has none; None: the same order."""
        return None

    def output_names(self) -> list[str]:
        """The names of the outputs in their order, where they have some."""
        return []

    def head_fits(self, examples: object) -> bool:
        """Whether a head that was taken can go on learning from the data."""
        try:
            self.check_examples(examples)  # type: ignore[attr-defined]
        except DataError:
            return False
        return True

    def remember_start(self) -> None:
        """Keep the random values of the layers on top, by which `check_trained` knows that nobody has trained them."""
        if self.model is not None:
            self._start = [np.array(keras.ops.convert_to_numpy(v.value)) for v in head_variables(self).values()]

    def check_trained(self) -> None:
        """Refuse to answer from layers that nobody has trained.

        Raises:
            ConfigError: they are as they started.
        """
        if self._start is None:
            return
        now = [keras.ops.convert_to_numpy(v.value) for v in head_variables(self).values()]
        # By the numbers, as training may have gone past this class: through Keras' own fit, or weights that were
        # loaded.
        if all(np.array_equal(was, value) for was, value in zip(self._start, now)):
            why = self.left_out or f"the layers of this {type(self).__name__} on top of the encoder are random"
            raise ConfigError(f"{why}; call fit before predict")
        self._start = None


def make(cls: Any, backbone: Backbone, tokenizer: Tokenizer, given: Mapping[str, Any], source: str) -> Any:
    """A task over `backbone` with the settings `given`, and with the head in its files where that can be used."""
    report = backbone.loading_report
    head = None if report is None else report.head
    reason, settings = "", dict(given)
    if head is not None:
        try:
            settings |= _settings(cls, head, given, backbone)
        except Unusable as problem:
            reason = brief(problem, 250)
    task = cls(backbone, tokenizer, **settings)
    if report is None or head is None or reason:
        if reason:
            task.left_out = f"{source}: {head.described if head else ''} was left out: {reason}"
            warnings.warn(f"{task.left_out}; call fit before predict", HeadWarning, stacklevel=4)
        task.remember_start()
        return task
    if head.own is not None:
        read_into(head.own, head_variables(task))
    else:
        fill(task, head)
    report.head_taken, report.left_over = True, [name for name in report.left_over if name not in head.names]
    parameters = inspect.signature(cls.__init__).parameters
    decided = (*cls.identity, "constrained")
    free = [key for key in decided if key in settings and given.get(key) is None]
    task.before_head = {key: parameters[key].default for key in free}
    return task


def _settings(cls: Any, head: StoredHead, given: Mapping[str, Any], backbone: Backbone) -> dict[str, Any]:
    """The settings of a task with this head: those that the head decides, and others that were saved with it."""
    if head.problem:
        raise Unusable(head.problem)
    if head.own is not None:
        return _own_settings(cls, head, given)
    decided: dict[str, Any] = cls.settings_for_head(head, given, backbone)
    saved = _saved_settings(cls, head) if head.settings.get("task") == cls.task_name else {}
    return saved | {key: value for key, value in given.items() if value is not None} | decided


def _own_settings(cls: Any, head: StoredHead, given: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a saved task of the same class, with those `given` in place of what names no outputs."""
    if head.settings.get("task") != cls.task_name:
        raise Unusable(f"it belongs to a {head.settings.get('task')}, not to a {cls.task_name}")
    saved = _saved_settings(cls, head)
    for key in cls.identity:
        if given.get(key) is not None and listed(given[key]) != saved.get(key):
            raise Unusable(f"its {key} is {brief(saved.get(key))}, but {brief(given[key])} is asked for")
    return saved | {key: value for key, value in given.items() if value is not None}


def _saved_settings(cls: Any, head: StoredHead) -> Config:
    """The settings that were saved with a head, as far as the class has them with the same type."""
    kinds = cls.settings_types
    return {key: value for key, value in head.settings.items() if key in kinds and type(value) is kinds[key]}


def fill(task: Any, head: StoredHead) -> None:
    """Give the layers on top of the encoder the stored numbers, output by output under its name."""
    layers = head.read()
    places = task.outputs_in(head)
    for name, (kernel, bias) in zip(task.head_layers(), layers, strict=True):
        layer = task.model.get_layer(name)
        if name == task.head_layers()[-1] and places is not None:
            there = np.array([place >= 0 for place in places])
            kernel = np.where(there, kernel[:, places], 0.0)
            bias = np.where(there, bias[places], NEVER)
        for variable, value in ((layer.kernel, kernel), (layer.bias, bias)):
            if tuple(variable.shape) != value.shape:
                raise ConfigError(
                    f"{head.weights}: {head.names[0]} has a matrix of shape {value.shape}, but {name} of the task "
                    f"needs {tuple(variable.shape)}; the files belong to different models"
                )
            variable.assign(value)


def drop_unfit_head(task: Any, examples: Any) -> None:
    """Drop the head that was taken if the data has other labels than it; a new one starts with those of the data."""
    before, task.before_head = task.before_head, None
    if before and not task.head_fits(examples):
        labels = getattr(task, "labels", None)
        shown = f" of the labels {brief(labels)}" if labels else ""
        vars(task).update(before)
        task.discard_network()
        warnings.warn(
            f"{examples.name}: the stored head{shown} is replaced by a new one for other labels",
            HeadWarning,
            stacklevel=4,
        )
