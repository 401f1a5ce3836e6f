"""Accuracy, precision, recall, F1 and confusion, for one label or several per example. A ratio 0 / 0 counts as 0."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from qingformer.errors import DataError
from qingformer.evaluation.table import align
from qingformer.types import Config, Nest


@dataclass(frozen=True)
class ClassScore:
    """Precision TP / (TP + FP), recall TP / (TP + FN), their harmonic mean F1, and the number of true examples.

    >>> ClassScore.from_counts(hits=3, predicted=4, support=6)
    ClassScore(precision=0.75, recall=0.5, f1=0.6, support=6)
    """

    precision: float
    recall: float
    f1: float
    support: int

    @classmethod
    def from_counts(cls, hits: float, predicted: float, support: float) -> "ClassScore":
        """Score from the numbers of right predictions, of predictions and of true examples."""
        return cls(_ratio(hits, predicted), _ratio(hits, support), _ratio(2 * hits, predicted + support), int(support))


class _ByLabel:
    """The part of `Report` that follows from the scores of the classes."""

    accuracy: float
    macro: ClassScore
    weighted: ClassScore
    per_class: tuple[ClassScore, ...]
    labels: tuple[str, ...]

    @property
    def per_label(self) -> dict[str, ClassScore]:
        """The scores of each class by its name, or by its number if no names were given."""
        return dict(zip(_names(self.labels or None, len(self.per_class)), self.per_class))

    @property
    def headline(self) -> str:
        """The scores that matter in one line."""
        return f"accuracy {self.accuracy:.4f}  macro F1 {self.macro.f1:.4f}  weighted F1 {self.weighted.f1:.4f}"


@dataclass(frozen=True)
class ClassificationReport(_ByLabel):
    """Scores of predictions with one label per example.

    `confusion[i][j]` counts the examples of class i that were predicted as class j; `per_class` is in the order of the
    class numbers. `macro` is the plain mean over the classes that occur among labels or predictions, `weighted` the
    mean by number of true examples; `micro` counts all decisions alike and so equals the accuracy.
    """

    accuracy: float
    macro: ClassScore
    micro: ClassScore
    weighted: ClassScore
    per_class: tuple[ClassScore, ...]
    confusion: tuple[tuple[int, ...], ...]
    labels: tuple[str, ...] = ()

    def to_dict(self) -> Config:
        """All numbers as nested dictionaries and lists that JSON can hold."""
        return _as_dict(self)

    def format_table(self, labels: Sequence[str] | None = None) -> str:
        """A table of all scores as text, one row a class, with `labels` as the names of the classes."""
        return _score_table(self, labels, [("accuracy", self.accuracy)])

    def format_confusion(self, labels: Sequence[str] | None = None) -> str:
        """The confusion matrix as text: a row for each true class, a column for each predicted one."""
        names = _names(labels, len(self.confusion))
        rows = [["true \\ predicted", *names]]
        rows += [[name, *map(str, counts)] for name, counts in zip(names, self.confusion)]
        return align(rows)


@dataclass(frozen=True)
class MultiLabelReport(_ByLabel):
    """Scores of predictions with any number of labels per example.

    `accuracy` is the share of right yes-or-no decisions, `subset_accuracy` that of examples with every label right,
    `confusion[i]` is ((true negatives, false positives), (false negatives, true positives)) of label i; the means are
    those of `ClassificationReport`, with `macro` over all labels.
    """

    accuracy: float
    subset_accuracy: float
    macro: ClassScore
    micro: ClassScore
    weighted: ClassScore
    per_class: tuple[ClassScore, ...]
    confusion: tuple[tuple[tuple[int, int], tuple[int, int]], ...]
    labels: tuple[str, ...] = ()

    def to_dict(self) -> Config:
        """All numbers as nested dictionaries and lists that JSON can hold."""
        return _as_dict(self)

    def format_table(self, labels: Sequence[str] | None = None) -> str:
        """A table of all scores as text, one row a label, with `labels` as their names."""
        return _score_table(self, labels, [("accuracy", self.accuracy), ("subset accuracy", self.subset_accuracy)])


def _as_dict(report: ClassificationReport | MultiLabelReport) -> Config:
    named = {name: asdict(score) for name, score in report.per_label.items()}
    return {key: value for key, value in asdict(report).items() if key != "labels"} | {"per_label": named}


def evaluate_classification(
    labels: Nest, predictions: object, num_classes: int, names: Sequence[str] = ()
) -> ClassificationReport:
    """Compare predicted with true class numbers, both (n,) integers in [0, num_classes); `names` are the classes'.

    Raises `DataError` for no examples, unequal lengths, or numbers out of range.

    >>> report = evaluate_classification([0, 0, 1, 1], [0, 1, 1, 1], num_classes=2)
    >>> report.accuracy, report.confusion
    (0.75, ((1, 1), (0, 2)))
    """
    true, predicted = np.asarray(labels), np.asarray(predictions)
    _check(true, predicted, 1)
    for name, numbers in (("labels", true), ("predictions", predicted)):
        if numbers.dtype.kind not in "iu" or numbers.min() < 0 or numbers.max() >= num_classes:
            raise DataError(
                f"{name}: expected class numbers from 0 to {num_classes - 1}, found "
                f"{numbers.min()} to {numbers.max()} of type {numbers.dtype}"
            )
    cells = np.bincount(true.astype(np.int64) * num_classes + predicted, minlength=num_classes**2)
    confusion = cells.reshape(num_classes, num_classes)
    hits, guesses, support = np.diag(confusion), confusion.sum(0), confusion.sum(1)
    scores = _scores(hits, guesses, support)
    occurring = [score for score, count in zip(scores, guesses + support) if count]
    return ClassificationReport(
        accuracy=float(hits.sum() / len(true)),
        macro=_mean(occurring, np.ones(len(occurring)), len(true)),
        micro=ClassScore.from_counts(hits.sum(), guesses.sum(), support.sum()),
        weighted=_mean(scores, support, len(true)),
        per_class=scores,
        confusion=tuple(tuple(int(count) for count in row) for row in confusion),
        labels=tuple(names),
    )


def evaluate_multi_label(labels: Nest, predictions: object, names: Sequence[str] = ()) -> MultiLabelReport:
    """Compare predicted with true label sets, both (n, num_labels) arrays of 0 and 1; `names` are the labels'.

    Raises `DataError` for no examples, unequal shapes, or other numbers.

    >>> evaluate_multi_label([[1, 0], [1, 1]], [[1, 0], [1, 0]]).subset_accuracy
    0.5
    """
    true, predicted = np.asarray(labels), np.asarray(predictions)
    _check(true, predicted, 2)
    for name, numbers in (("labels", true), ("predictions", predicted)):
        if not np.isin(numbers, (0, 1)).all():
            raise DataError(f"{name}: expected 0 or 1 everywhere; compare probabilities with a threshold first")
    true, predicted = true.astype(bool), predicted.astype(bool)
    hits, guesses, support = (true & predicted).sum(0), predicted.sum(0), true.sum(0)
    scores = _scores(hits, guesses, support)
    return MultiLabelReport(
        accuracy=float((true == predicted).mean()),
        subset_accuracy=float((true == predicted).all(1).mean()),
        macro=_mean(scores, np.ones(len(scores)), support.sum()),
        micro=ClassScore.from_counts(hits.sum(), guesses.sum(), support.sum()),
        weighted=_mean(scores, support, support.sum()),
        per_class=scores,
        confusion=tuple(
            ((int(len(true) - g - s + h), int(g - h)), (int(s - h), int(h))) for h, g, s in zip(hits, guesses, support)
        ),
        labels=tuple(names),
    )


def _check(true: np.ndarray, predicted: np.ndarray, rank: int) -> None:
    if true.shape != predicted.shape or true.ndim != rank:
        raise DataError(
            f"labels of shape {true.shape} and predictions of shape {predicted.shape}: both must have "
            f"{rank} dimension{'s' if rank > 1 else ''} and one row for each example"
        )
    if not true.size:
        raise DataError("no examples to evaluate")


# 0 / 0 counts as 0, as in scikit-learn: a label that was neither predicted nor there.
def _ratio(part: float, whole: float) -> float:
    return float(part / whole) if whole else 0.0


def _scores(hits: np.ndarray, guesses: np.ndarray, support: np.ndarray) -> tuple[ClassScore, ...]:
    return tuple(ClassScore.from_counts(*counts) for counts in zip(hits, guesses, support))


def _mean(scores: Sequence[ClassScore], weights: np.ndarray, support: int) -> ClassScore:
    table = np.array([(score.precision, score.recall, score.f1) for score in scores])
    total = weights.sum()
    precision, recall, f1 = (weights @ table / total).tolist() if total else (0.0, 0.0, 0.0)
    return ClassScore(precision, recall, f1, int(support))


def _names(labels: Sequence[str] | None, count: int) -> list[str]:
    if labels is not None and len(labels) != count:
        raise DataError(f"{len(labels)} label names for {count} classes; there must be one for each")
    return [str(name) for name in (range(count) if labels is None else labels)]


def _score_table(
    report: ClassificationReport | MultiLabelReport, labels: Sequence[str] | None, totals: list[tuple[str, float]]
) -> str:
    named = list(zip(_names(labels, len(report.per_class)), report.per_class))
    named += [("macro mean", report.macro), ("micro mean", report.micro), ("weighted mean", report.weighted)]
    rows = [["", "precision", "recall", "F1", "examples"]]
    for name, score in named:
        rows.append([name, f"{score.precision:.4f}", f"{score.recall:.4f}", f"{score.f1:.4f}", str(score.support)])
    rows += [[name, "", "", f"{value:.4f}", ""] for name, value in totals]
    return align(rows)
