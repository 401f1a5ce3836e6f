"""Our scores against scikit-learn's, and against numbers worked out by hand."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qingformer.errors import DataError
from qingformer.evaluation import evaluate_classification, evaluate_multi_label
from qingformer.evaluation.table import display_width

sklearn_metrics = pytest.importorskip("sklearn.metrics")

CLOSE = 1e-12


def peer_scores(true, predicted, average, **options):
    options |= {"average": average, "zero_division": 0}
    scores = sklearn_metrics.precision_recall_fscore_support(true, predicted, **options)
    return np.array(scores[:3], dtype=float)


def ours(score):
    return np.array([score.precision, score.recall, score.f1])


@st.composite
def single_label(draw):
    count = draw(st.integers(1, 40))
    classes = draw(st.integers(1, 6))
    numbers = st.lists(st.integers(0, classes - 1), min_size=count, max_size=count)
    return draw(numbers), draw(numbers), classes + draw(st.integers(0, 2))


@pytest.mark.filterwarnings("ignore:A single label was found")
@settings(max_examples=200, deadline=None)
@given(single_label())
def test_single_label_equals_scikit_learn(case):
    true, predicted, classes = case
    report = evaluate_classification(true, predicted, classes)
    assert report.accuracy == pytest.approx(sklearn_metrics.accuracy_score(true, predicted), abs=CLOSE)
    for average in ("macro", "micro", "weighted"):
        peer = peer_scores(true, predicted, average)
        assert np.allclose(ours(getattr(report, average)), peer, atol=CLOSE, rtol=0), average
    everything = list(range(classes))
    peer = peer_scores(true, predicted, None, labels=everything)
    assert np.allclose(np.array([ours(score) for score in report.per_class]).T, peer, atol=CLOSE, rtol=0)
    assert [score.support for score in report.per_class] == np.bincount(true, minlength=classes).tolist()
    peer = sklearn_metrics.confusion_matrix(true, predicted, labels=everything)
    assert np.array_equal(report.confusion, peer)


@st.composite
def multi_label(draw):
    count, classes = draw(st.integers(1, 20)), draw(st.integers(2, 5))
    rows = st.lists(st.lists(st.integers(0, 1), min_size=classes, max_size=classes), min_size=count, max_size=count)
    return draw(rows), draw(rows)


@settings(max_examples=200, deadline=None)
@given(multi_label())
def test_multi_label_equals_scikit_learn(case):
    true, predicted = (np.array(values) for values in case)
    report = evaluate_multi_label(true, predicted)
    assert report.subset_accuracy == pytest.approx(sklearn_metrics.accuracy_score(true, predicted), abs=CLOSE)
    assert report.accuracy == pytest.approx(1 - sklearn_metrics.hamming_loss(true, predicted), abs=CLOSE)
    for average in ("macro", "micro", "weighted"):
        peer = peer_scores(true, predicted, average)
        assert np.allclose(ours(getattr(report, average)), peer, atol=CLOSE, rtol=0), average
    peer = peer_scores(true, predicted, None)
    assert np.allclose(np.array([ours(score) for score in report.per_class]).T, peer, atol=CLOSE, rtol=0)
    assert np.array_equal(report.confusion, sklearn_metrics.multilabel_confusion_matrix(true, predicted))


def test_numbers_worked_out_by_hand():
    report = evaluate_classification([0, 0, 0, 1, 1, 3], [0, 0, 1, 1, 3, 0], 4)
    assert report.confusion == ((2, 1, 0, 0), (0, 1, 0, 1), (0, 0, 0, 0), (1, 0, 0, 0))
    assert report.accuracy == 0.5
    assert report.per_class[0].f1 == pytest.approx(2 / 3)
    assert report.per_class[2].f1 == 0
    assert report.macro.f1 == pytest.approx((2 / 3 + 1 / 2 + 0) / 3)
    assert report.weighted.f1 == pytest.approx((3 * 2 / 3 + 2 / 2 + 0) / 6)


def test_report_goes_through_json():
    report = evaluate_classification([0, 1], [0, 0], 2)
    again = json.loads(json.dumps(report.to_dict()))
    assert again["per_class"][0] == {"precision": 0.5, "recall": 1.0, "f1": pytest.approx(2 / 3), "support": 1}
    assert again["confusion"] == [[1, 0], [1, 0]]
    assert json.loads(json.dumps(evaluate_multi_label([[1, 0]], [[1, 1]]).to_dict()))["subset_accuracy"] == 0


def test_tables_are_straight_with_chinese_names():
    report = evaluate_classification([0, 1, 2, 2], [0, 0, 2, 2], 3)
    names = ["天气", "music", "路线导航"]
    lines = report.format_table(names).splitlines()
    assert len(lines) == 1 + 3 + 3 + 1
    assert display_width("路线导航 ok") == 11
    assert {display_width(line) for line in lines[:-1]} == {display_width(lines[0])}
    assert lines[3].split() == ["路线导航", "1.0000", "1.0000", "1.0000", "2"]
    assert lines[-1].split() == ["accuracy", "0.7500"]
    confusion = report.format_confusion(names).splitlines()
    assert confusion[3].split() == ["路线导航", "0", "0", "2"]
    assert len({display_width(line) for line in confusion}) == 1
    assert "subset accuracy" in evaluate_multi_label([[1, 0]], [[1, 1]]).format_table(["甲", "乙"])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: evaluate_classification([], [], 2), "no examples"),
        (lambda: evaluate_classification([0], [0, 1], 2), r"shape \(1,\) and predictions of shape \(2,\)"),
        (lambda: evaluate_classification([2], [0], 2), "labels: expected class numbers from 0 to 1, found 2 to 2"),
        (lambda: evaluate_classification([0], [0.5], 2), "predictions: expected class numbers"),
        (lambda: evaluate_multi_label([[0, 1]], [[0.2, 1]]), "compare probabilities with a threshold"),
        (lambda: evaluate_multi_label([0, 1], [0, 1]), "2 dimensions"),
        (lambda: evaluate_classification([0], [0], 2).format_table(["one"]), "1 label names for 2 classes"),
    ],
)
def test_wrong_input(call, message):
    with pytest.raises(DataError, match=message):
        call()
