"""Text classification."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from qingformer.cli.kind import Kind, Options
from qingformer.cli.score_report import print_report
from qingformer.cli.settings import parse_class_weights
from qingformer.tasks import Columns, TextClassifier
from qingformer.tasks.classification.text_examples import read_examples

if TYPE_CHECKING:
    from rich.console import Console


class ClassificationKind(Kind):
    """One label, or several, for a text or a pair of texts."""

    name = "classification"
    task = TextClassifier
    echoed = ("text", "pair")
    options = frozenset(
        "text_column pair_column label_column format columns quoting skip_empty label_separator no_label "
        "skip_unlabelled multi_label labels loss class_weights "
        "threshold all_probabilities".split()
    )

    def saved(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        return {"multi_label": bool(settings.get("multi_label"))}

    def read(self, path: str, options: Options, labelled: bool = True) -> Any:
        columns = Columns(
            options["text_column"], options["pair_column"], options.get("label_column"), options["columns"],
            options["format"], encoding=options["encoding"], quoting=options["quoting"],
            skip_empty=options["skip_empty"], separator=options.get("label_separator"),
            no_label=() if options.get("no_label") is None else options["no_label"],
            skip_unlabelled=options.get("skip_unlabelled", False),
        )  # fmt: skip
        return read_examples(path, columns, multi_label=options["multi_label"], labelled=labelled)

    def settings(self, options: Options) -> dict[str, Any]:
        labels = options.get("labels")
        return {"multi_label": options["multi_label"], **({} if labels is None else {"labels": labels})}

    def fitting(self, options: Options) -> dict[str, Any]:
        return {"loss": options["loss"], "class_weights": parse_class_weights(options["class_weights"])}

    def evaluating(self, options: Options) -> dict[str, Any]:
        return _threshold(options)

    def predicting(self, options: Options) -> dict[str, Any]:
        return {"return_probabilities": options["all_probabilities"], **_threshold(options)}

    def names(self, task: Any) -> dict[str, Any]:
        return {"labels": task.labels}

    def print_report(self, out: "Console", report: Any, task: Any, title: str) -> None:
        print_report(out, report, task.labels, title)

    def row(self, task: Any, example: Any, prediction: Any) -> dict[str, Any]:
        row: dict[str, Any] = {"text": example.text}
        if example.pair is not None:
            row["pair"] = example.pair
        if task.multi_label:
            row["labels"] = list(prediction.labels)
        else:
            row["label"] = prediction.label
        row["probability"] = round(prediction.probability, 6)
        if prediction.probabilities is not None:
            row["probabilities"] = {label: round(value, 6) for label, value in prediction.probabilities.items()}
        return row


def _threshold(options: Options) -> dict[str, float]:
    return {} if options.get("threshold") is None else {"threshold": options["threshold"]}
