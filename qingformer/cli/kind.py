"""What the verbs ask a kind of task: its options, how its data is read, and how scores and predictions look."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from qingformer.cli.output import json_line, with_fields, write_lines
from qingformer.errors import ConfigError

if TYPE_CHECKING:
    from rich.console import Console

Options = Mapping[str, Any]


class Kind(ABC):
    """One kind of task. `options` are those of the verbs that it has and not every kind; see `OFF` for their values."""

    name: ClassVar[str]  # of --task
    task: ClassVar[Any]  # the class
    options: ClassVar[frozenset[str]]
    formats: ClassVar[tuple[str, ...]] = ("jsonl",)
    coloured: ClassVar[bool] = False
    max_length: ClassVar[int] = 128
    unit: ClassVar[str] = "texts"
    echoed: ClassVar[tuple[str, ...]] = ("text",)  # what `row` repeats from the row it read

    def check(self, options: Options) -> None:  # noqa: B027 - most options of a kind go together
        """Refuse options that do not go together."""

    def is_saved(self, settings: Mapping[str, Any]) -> bool:
        """Whether the settings in the `task.json` of a model of this class are of this kind."""
        return True

    def saved(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """What the settings in a model's `task.json` say about reading data for it."""
        return {}

    @abstractmethod
    def read(self, path: str, options: Options, labelled: bool = True) -> Any:
        """The examples of a file, checked: what the task takes in place of a path."""

    @abstractmethod
    def settings(self, options: Options) -> dict[str, Any]:
        """Arguments of the class."""

    def fitting(self, options: Options) -> dict[str, Any]:
        """Arguments of `fit` beyond those of every task."""
        return {}

    def evaluating(self, options: Options) -> dict[str, Any]:
        """Arguments of `evaluate` beyond those of every task."""
        return {}

    def predicting(self, options: Options) -> dict[str, Any]:
        """Arguments of `predict` beyond those of every task."""
        return {}

    def names(self, task: Any) -> dict[str, Any]:
        """What the task knows by name, for reports."""
        return {}

    def headline(self, report: Any) -> str:
        """The scores that matter in one line."""
        return str(report.headline)

    def print_report(self, out: "Console", report: Any, task: Any, title: str) -> None:
        """A score as text."""
        out.print(title, markup=False, style="bold")
        out.print(self.headline(report), markup=False)
        out.print(report.format_table(), markup=False)

    def as_json(self, report: Any, task: Any, data: str) -> dict[str, Any]:
        """Everything about a score that a program may want to read."""
        return {"data": data, **self.names(task), **report.to_dict()}

    @abstractmethod
    def row(self, task: Any, example: Any, prediction: Any) -> dict[str, Any]:
        """A prediction as a JSON object."""

    def write(self, form: str, task: Any, examples: Any, predictions: Iterable[Any], output: Path | None) -> list[str]:
        """Write predictions in one of `formats`; returns sentences about what this form cannot say."""
        rows = (
            with_fields(
                self.row(task, example, found) | ({"line": example.line} if example.line else {}),
                example.fields or {},
                self.echoed,
            )
            for example, found in zip(examples, predictions)
        )
        write_lines(map(json_line, rows), output)
        return []

    def show(self, out: "Console", task: Any, prediction: Any) -> None:
        """Print a prediction for a reader at a terminal."""
        out.print(str(prediction), markup=False)


# The values of options that were not given; of those that do not stand here it is None.
OFF: dict[str, Any] = {
    "multi_label": False,
    "skip_empty": False,
    "skip_unlabelled": False,
    "strict": False,
    "all_probabilities": False,
}
_FLAGS = {"all_probabilities": "--all"}


def given(options: Options) -> list[str]:
    """The names of the options that were given."""
    return [name for name, value in options.items() if value != OFF.get(name)]


def flag(name: str) -> str:
    """An option as it is written."""
    return _FLAGS.get(name, "--" + name.replace("_", "-"))


def refuse_others(kind: Kind, options: Options, kinds: Iterable[Kind], whose: str) -> None:
    """Refuse options that other kinds have and this one has not.

    Raises:
        ConfigError: names the option, and the tasks that have it.
    """
    owners = {name: [other.name for other in kinds if name in other.options] for name in options}
    for name in given(options):
        if name not in kind.options and owners[name]:
            raise ConfigError(f"{flag(name)} does not go with {whose}, only with {', '.join(owners[name])}")
    kind.check(options)
