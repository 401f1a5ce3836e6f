"""What the command line asks a task: to read a file, and to write predictions and scores.

The defaults serve a task whose reports have a `headline` and whose predictions have `to_dict()`; a task says the rest.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

from qingformer.data.json_rows import json_line, with_fields, write_lines
from qingformer.errors import ConfigError
from qingformer.types import Config, Values


class CommandLineMethods:
    """How a task takes options and shows results; see `TaskEntry` for how it declares the options."""

    label_setting: ClassVar[str | None]

    @classmethod
    def check_options(cls, values: Values) -> None:
        """Refuse options of the task that do not go together. Errors: `ConfigError` names them."""

    @classmethod
    def saved_options(cls, settings: Values) -> Config:
        """What the settings in a model's `task.json` say about reading data for it."""
        return {}

    @classmethod
    def read_file(cls, path: str, values: Values, labelled: bool = True) -> Any:
        """The examples of a file or of standard input ("-"), checked: what `fit`, `evaluate` and `predict` take."""
        raise ConfigError(f"{cls.__name__} does not read files from the command line")

    @classmethod
    def more_arguments(cls, values: Values) -> Config:
        """Arguments of the constructor that are made from options, beside those that are options."""
        return {}

    @classmethod
    def fit_arguments(cls, values: Values) -> Config:
        """Arguments of `fit` beyond those of every task."""
        return {}

    @classmethod
    def evaluate_arguments(cls, values: Values) -> Config:
        """Arguments of `evaluate` beyond those of every task."""
        return {}

    @classmethod
    def predict_arguments(cls, values: Values) -> Config:
        """Arguments of `predict` beyond those of every task."""
        return {}

    def report_sections(self, report: Any) -> list[tuple[str, str]]:
        """Headings and texts of a score; "" where there is no heading."""
        return [("", str(report.headline)), ("", str(report.format_table()))]

    def report_dict(self, report: Any, data: str) -> Config:
        """Everything about a score that a program may want to read; `data` names what was scored."""
        names = {self.label_setting: getattr(self, self.label_setting)} if self.label_setting else {}
        return {"data": data, **names, **report.to_dict()}

    def prediction_row(self, example: Any, prediction: Any) -> Config:
        """A prediction as a JSON object, with what it repeats of its example."""
        row: Config = prediction.to_dict()
        return row

    def write_predictions(
        self, form: str, examples: Any, predictions: Iterable[Any], output: Path | None, echoed: tuple[str, ...]
    ) -> list[str]:
        """Write predictions in one of the entry's formats; returns sentences about what this form cannot hold.

        `echoed` are fields of the input that `prediction_row` repeats. `output` None is standard output.
        """
        # A generator: predictions of a file of any size are written without a list of all rows.
        rows = (
            with_fields(
                self.prediction_row(example, found) | ({"line": example.line} if example.line else {}),
                example.fields or {},
                echoed,
            )
            for example, found in zip(examples, predictions)
        )
        write_lines(map(json_line, rows), output)
        return []

    def display(self, prediction: Any) -> Any:
        """A prediction for a reader at a terminal, as text or `rich.text.Text`."""
        return str(prediction)
