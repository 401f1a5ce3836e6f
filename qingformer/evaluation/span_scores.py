"""Precision, recall and F1 of labelled spans: a predicted span counts if place and label are those of a true one."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from qingformer.errors import DataError
from qingformer.evaluation.classification import ClassScore
from qingformer.evaluation.table import align
from qingformer.types import Config

AnySpan = tuple[Any, ...]


@dataclass(frozen=True)
class SpanReport:
    """Scores of predicted spans; `support` counts true spans.

    `micro` counts the spans of all labels alike, `macro` is the plain mean over the labels that occur among true or
    predicted spans, `weighted` the mean by number of true spans.
    """

    micro: ClassScore
    macro: ClassScore
    weighted: ClassScore
    per_label: dict[str, ClassScore]

    @property
    def precision(self) -> float:
        """Share of the predicted spans that are right."""
        return self.micro.precision

    @property
    def recall(self) -> float:
        """Share of the true spans that were found."""
        return self.micro.recall

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall over all spans."""
        return self.micro.f1

    @property
    def headline(self) -> str:
        """The scores that matter in one line."""
        return f"F1 {self.f1:.4f}  precision {self.precision:.4f}  recall {self.recall:.4f}"

    def to_dict(self) -> Config:
        """All numbers as nested dictionaries that JSON can hold."""
        return asdict(self)

    def format_table(self) -> str:
        """A table of all scores as text, one row a label."""
        named = [*self.per_label.items(), ("macro mean", self.macro), ("micro mean", self.micro)]
        rows = [["", "precision", "recall", "F1", "spans"]]
        for name, score in [*named, ("weighted mean", self.weighted)]:
            rows.append([name, f"{score.precision:.4f}", f"{score.recall:.4f}", f"{score.f1:.4f}", str(score.support)])
        return align(rows)


# Counted over all texts and divided once (micro), as conlleval and seqeval do.
def evaluate_spans(
    gold: Sequence[Iterable[AnySpan]], predicted: Sequence[Iterable[AnySpan]], labels: Sequence[str] | None = None
) -> SpanReport:
    """Compare the predicted with the true spans of each text; a ratio 0 / 0 counts as 0.

    The scores are those of conlleval and of seqeval.

    Args:
        gold, predicted: for each text its spans, any tuples whose last entry is the label. Repeated ones count once.
        labels: order of `per_label`, where they stand even if they do not occur; other labels follow, sorted.

    Raises `DataError` for no texts or unequal numbers of texts.

    >>> report = evaluate_spans([[(0, 2, "PER"), (4, 6, "LOC")]], [[(0, 2, "PER"), (4, 5, "LOC")]])
    >>> report.f1, report.per_label["PER"].f1
    (0.5, 1.0)
    """
    if len(gold) != len(predicted):
        raise DataError(
            f"true spans of {len(gold)} texts and predicted spans of {len(predicted)}; give both for each text"
        )
    if not len(gold):
        raise DataError("no texts to evaluate")
    hits, guesses, support = Counter[str](), Counter[str](), Counter[str]()
    for true_spans, predicted_spans in zip(gold, predicted):
        true, guessed = {tuple(span) for span in true_spans}, {tuple(span) for span in predicted_spans}
        support.update(span[-1] for span in true)
        guesses.update(span[-1] for span in guessed)
        hits.update(span[-1] for span in true & guessed)
    occurring = sorted(support | guesses)
    scores = {
        label: ClassScore.from_counts(hits[label], guesses[label], support[label])
        for label in dict.fromkeys((*(labels or ()), *occurring))
    }
    return SpanReport(
        micro=ClassScore.from_counts(hits.total(), guesses.total(), support.total()),
        macro=_mean([scores[label] for label in occurring], [1] * len(occurring), support.total()),
        weighted=_mean(list(scores.values()), [score.support for score in scores.values()], support.total()),
        per_label=scores,
    )


def _mean(scores: Sequence[ClassScore], weights: Sequence[int], support: int) -> ClassScore:
    whole = sum(weights) or 1
    precision, recall, f1 = (
        sum(weight * getattr(score, part) for score, weight in zip(scores, weights)) / whole
        for part in ("precision", "recall", "f1")
    )
    return ClassScore(float(precision), float(recall), float(f1), support)
