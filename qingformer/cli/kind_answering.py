"""Questions: answers that are parts of a text, and choices."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from qingformer.cli.kind import Kind, Options
from qingformer.data.choice import read_choice
from qingformer.data.reading import read_reading
from qingformer.errors import ConfigError
from qingformer.tasks import MultipleChoice, ReadingComprehension

if TYPE_CHECKING:
    from rich.console import Console

_METRICS = ("cmrc", "squad")
_CLASS = ("stride", "max_question_length", "max_answer_length")


class ReadingKind(Kind):
    """The part of a text that answers a question."""

    name = "reading"
    task = ReadingComprehension
    options = frozenset({*_CLASS, "metric", "n_best"})
    max_length = 384
    unit = "questions"
    echoed = ("id", "question")

    def check(self, options: Options) -> None:
        if options.get("metric") not in (None, *_METRICS):
            raise ConfigError(f"--metric is {options['metric']!r}; choose one of {', '.join(_METRICS)}")

    def read(self, path: str, options: Options, labelled: bool = True) -> Any:
        return read_reading(path, labelled=labelled, encoding=options["encoding"])

    def settings(self, options: Options) -> dict[str, Any]:
        return {name: options[name] for name in _CLASS if options[name] is not None}

    def evaluating(self, options: Options) -> dict[str, Any]:
        return {} if options.get("metric") is None else {"metric": options["metric"]}

    def predicting(self, options: Options) -> dict[str, Any]:
        return {} if options.get("n_best") is None else {"n_best": options["n_best"]}

    def row(self, task: Any, example: Any, prediction: Any) -> dict[str, Any]:
        answers = [asdict(answer) | {"probability": round(answer.probability, 6)} for answer in prediction.answers]
        return {
            "id": prediction.id,
            "question": prediction.question,
            "answer": prediction.answer,
            "answers": answers,
        }


class ChoiceKind(Kind):
    """One of several answers to a question."""

    name = "choice"
    task = MultipleChoice
    options = frozenset()
    unit = "questions"
    echoed = ("id",)

    def read(self, path: str, options: Options, labelled: bool = True) -> Any:
        return read_choice(path, labelled=labelled, encoding=options["encoding"])

    def settings(self, options: Options) -> dict[str, Any]:
        return {}

    def headline(self, report: Any) -> str:
        return f"accuracy {report.accuracy:.4f}"

    def print_report(self, out: "Console", report: Any, task: Any, title: str) -> None:
        out.print(title, markup=False, style="bold")
        out.print(self.headline(report), markup=False)
        out.print(report.format_table([f"choice {number}" for number in range(len(report.confusion))]), markup=False)

    def row(self, task: Any, example: Any, prediction: Any) -> dict[str, Any]:
        return {
            "id": prediction.id,
            "answer": prediction.number,
            "text": prediction.text,
            "probabilities": [round(value, 6) for value in prediction.probabilities],
        }
