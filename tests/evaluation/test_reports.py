"""Reports of all tasks have one shape."""

import json

import pytest

from qingformer.data.reading import Question
from qingformer.evaluation import evaluate_classification, evaluate_multi_label
from qingformer.evaluation.classification import ClassScore
from qingformer.evaluation.reading_scores import evaluate_reading
from qingformer.evaluation.span_scores import evaluate_spans
from qingformer.evaluation.triples import evaluate_triples

REPORTS = {
    "classification": (evaluate_classification([0, 1, 1], [0, 1, 0], 2, ["好", "坏"]), ["好", "坏"]),
    "numbers": (evaluate_classification([0, 1, 1], [0, 1, 0], 2), ["0", "1"]),
    "several": (evaluate_multi_label([[1, 0], [1, 1]], [[1, 0], [1, 0]], ["好", "坏"]), ["好", "坏"]),
    "spans": (evaluate_spans([[(0, 2, "PER")]], [[(0, 2, "PER")]]), ["PER"]),
    "relations": (evaluate_triples([[("甲", "写", "乙")]], [[("甲", "写", "乙")]]), ["写"]),
    "reading": (evaluate_reading([Question("1", "昨天", "何时", ((0, "昨天"),))], ["昨天"]), []),
}


@pytest.mark.parametrize("name", REPORTS)
def test_every_report_has_labels_a_headline_and_numbers(name):
    report, labels = REPORTS[name]
    assert list(report.per_label) == labels
    assert all(isinstance(score, ClassScore) for score in report.per_label.values())
    assert any(character.isdigit() for character in report.headline)
    assert "\n" not in report.headline
    found = json.loads(json.dumps(report.to_dict()))
    for label, score in found.get("per_label", {}).items():
        assert score == {
            part: getattr(report.per_label[label], part) for part in ("precision", "recall", "f1", "support")
        }
    assert list(found.get("per_label", {})) == labels


def test_names_of_before_stay():
    report = REPORTS["classification"][0]
    assert report.per_class == tuple(report.per_label.values())
    assert len(report.to_dict()["per_class"]) == 2
    assert REPORTS["relations"][0].per_relation == REPORTS["relations"][0].per_label
