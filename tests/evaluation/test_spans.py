"""Scores of spans by hand and by counting one by one."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qingformer.data.spans import Span
from qingformer.errors import DataError
from qingformer.evaluation.classification import ClassScore
from qingformer.evaluation.span_scores import evaluate_spans
from qingformer.evaluation.table import display_width

GOLD = [[(0, 2, "PER"), (4, 6, "LOC"), (7, 8, "LOC")], [(0, 1, "PER")], []]
PREDICTED = [[(0, 2, "PER"), (4, 6, "ORG"), (7, 8, "LOC")], [], [(0, 1, "PER")]]


def test_numbers_worked_out_by_hand():
    report = evaluate_spans(GOLD, PREDICTED)
    assert report.micro == ClassScore(2 / 4, 2 / 4, 2 / 4, 4)
    assert (report.precision, report.recall, report.f1) == (0.5, 0.5, 0.5)
    assert report.per_label == {
        "LOC": ClassScore(1.0, 1 / 2, 2 / 3, 2),
        "ORG": ClassScore(0.0, 0.0, 0.0, 0),
        "PER": ClassScore(1 / 2, 1 / 2, 1 / 2, 2),
    }
    assert report.macro.precision == pytest.approx((1 + 0 + 1 / 2) / 3)
    assert report.macro.f1 == pytest.approx((2 / 3 + 0 + 1 / 2) / 3)
    assert report.weighted.f1 == pytest.approx((2 * 2 / 3 + 2 * 1 / 2) / 4)
    assert report.weighted.support == report.macro.support == 4


def test_precision_is_not_recall():
    report = evaluate_spans([[(0, 1, "x"), (1, 2, "x"), (2, 3, "x"), (3, 4, "x")]], [[(0, 1, "x")]])
    assert (report.precision, report.recall, report.f1) == (1.0, 0.25, 0.4)


triples = st.tuples(st.integers(0, 2), st.integers(1, 3), st.sampled_from("xyz"))
texts = st.lists(st.tuples(st.lists(triples, max_size=6), st.lists(triples, max_size=6)), min_size=1, max_size=5)


@settings(max_examples=100, deadline=None)
@given(texts)
def test_against_counting(pairs):
    report = evaluate_spans([gold for gold, _ in pairs], [guess for _, guess in pairs])
    names = sorted({span[2] for pair in pairs for spans in pair for span in spans})
    assert list(report.per_label) == names
    counts = {}
    for name in names:
        gold = {(text, *span) for text, (spans, _) in enumerate(pairs) for span in spans if span[2] == name}
        guess = {(text, *span) for text, (_, spans) in enumerate(pairs) for span in spans if span[2] == name}
        counts[name] = (len(gold & guess), len(guess), len(gold))
        assert report.per_label[name] == ClassScore.from_counts(*counts[name])
    totals = [sum(count[index] for count in counts.values()) for index in range(3)]
    assert report.micro == ClassScore.from_counts(*totals)
    f1 = [score.f1 for score in report.per_label.values()]
    assert report.macro.f1 == pytest.approx(sum(f1) / len(f1) if f1 else 0)


def test_repeated_spans_count_once_and_kinds_of_tuples_are_equal():
    report = evaluate_spans([[Span(0, 1, "x"), (0, 1, "x")]], [iter([[0, 1, "x"], Span(0, 1, "x")])])
    assert report.micro == ClassScore(1.0, 1.0, 1.0, 1)


def test_given_labels_come_first_and_do_not_change_the_means():
    report = evaluate_spans(GOLD, PREDICTED, ["PER", "GPE"])
    assert list(report.per_label) == ["PER", "GPE", "LOC", "ORG"]
    assert report.per_label["GPE"] == ClassScore(0.0, 0.0, 0.0, 0)
    plain = evaluate_spans(GOLD, PREDICTED)
    assert report.macro == plain.macro
    assert report.weighted.f1 == pytest.approx(plain.weighted.f1)


def test_no_spans_at_all_score_zero():
    report = evaluate_spans([[], []], [[], []])
    assert report.micro == report.macro == report.weighted == ClassScore(0.0, 0.0, 0.0, 0)
    assert len(report.format_table().splitlines()) == 4


def test_report_goes_through_json_and_into_a_straight_table():
    report = evaluate_spans([[(0, 1, "地名")]], [[(0, 1, "地名"), (1, 2, "x")]])
    assert json.loads(json.dumps(report.to_dict()))["per_label"]["地名"]["f1"] == 1
    lines = report.format_table().splitlines()
    assert len({display_width(line) for line in lines}) == 1
    assert lines[0].split() == ["precision", "recall", "F1", "spans"]
    assert lines[2].split() == ["地名", "1.0000", "1.0000", "1.0000", "1"]
    assert lines[4].split() == ["micro", "mean", "0.5000", "1.0000", "0.6667", "1"]


@pytest.mark.parametrize(
    ("gold", "predicted", "message"), [([[]], [[], []], "of 1 texts and predicted spans of 2"), ([], [], "no texts")]
)
def test_wrong_input(gold, predicted, message):
    with pytest.raises(DataError, match=message):
        evaluate_spans(gold, predicted)
