"""Exact match and F1 of answers: values by hand for CMRC 2018 and SQuAD, what is not answerable, the real dev set."""

import json

import pytest

from qingformer.data.reading import Question, questions_from_rows, read_reading
from qingformer.errors import DataError
from qingformer.evaluation.reading_scores import evaluate_reading, normalize_answer


def ask(*references):
    placed = tuple(enumerate(references))
    return Question("1", "文", "问?", placed, bool(references))


@pytest.mark.parametrize(
    ("text", "metric", "expected"),
    [
        ("《步步惊心》。", "cmrc", "步步惊心"),
        (" ω-Force ", "cmrc", "ωforce"),
        ("A b, 3.5%", "cmrc", "a b, 3.5%"),  # ASCII signs and space inside stay, as in the official script
        ("(甲)（乙）", "cmrc", "(甲)乙"),
        ("The  U.S. Army!", "squad", "us army"),
        ("a theatre, an end", "squad", "theatre end"),
        ("《步》。", "squad", "《步》。"),
    ],
)
def test_normalize_answer(text, metric, expected):
    assert normalize_answer(text, metric) == expected


@pytest.mark.parametrize(
    ("references", "given", "exact", "f1"),
    [
        (["光荣和ω-force"], "光荣和ω-Force。", 1, 1),
        (["光荣和ω-force"], "光荣", 0, 2 * 2 / (4 + 2)),  # 光 荣 和 ωforce
        (["1919年6月15日"], "1919年", 0, 2 * 2 / (6 + 2)),  # 1919 年 6 月 15 日
        (["北京大学"], "北京的大学", 0, 2 * 2 / (4 + 5)),  # the run 北京 or 大学, not the four characters
        (["北京大学"], "学大京北", 0, 2 * 1 / (4 + 4)),
        (["甲乙", "丙丁戊"], "丙丁", 0, 2 * 2 / (3 + 2)),
        (["甲乙丙", "甲乙"], "甲乙", 1, 1),
        (["New York, USA"], "york", 0, 2 * 1 / (4 + 1)),  # new york , usa
        (["3.5%"], "3.5", 0, 2 * 1 / (2 + 1)),
        (["Henry A. Walsh"], "Henry A. Wals", 0, 2 * 2 / (3 + 3)),
        (["U.S."], "U.S", 0, 2 * 1 / (2 + 1)),  # a last full stop is cut off
        (["23~28℃"], "23~28℃, 1,000米", 0, 2 * 1 / (1 + 4)),  # 2328℃ , 1,000 米
        (["甲"], "乙", 0, 0),
        (["甲"], "", 0, 0),
        (["甲"], "。", 0, 0),
    ],
)
def test_cmrc_by_hand(references, given, exact, f1):
    report = evaluate_reading([ask(*references)], [given])
    assert (report.exact, report.f1) == (exact, pytest.approx(f1))
    assert report.average == pytest.approx((exact + f1) / 2)


@pytest.mark.parametrize(
    ("references", "given", "exact", "f1"),
    [
        (["the Battle of Hastings"], "Battle of Hastings!", 1, 1),
        (["Denver Broncos"], "the Broncos of Denver", 0, 2 * 2 / (2 + 3)),  # a bag: the order is free
        (["no no yes"], "no no no", 0, 2 * 2 / (3 + 3)),
        (["Paris", "Paris, France"], "in Paris, France", 0, 2 * 2 / (2 + 3)),
        (["Paris"], "", 0, 0),
    ],
)
def test_squad_by_hand(references, given, exact, f1):
    report = evaluate_reading([ask(*references)], [given], metric="squad")
    assert (report.exact, report.f1) == (exact, pytest.approx(f1))


@pytest.mark.parametrize("metric", ["cmrc", "squad"])
def test_what_is_not_answerable(metric):
    report = evaluate_reading([ask(), ask(), ask("甲 乙"), ask("甲")], ["", "甲", "甲", ""], metric=metric)
    assert (report.unanswerable, report.unanswerable_exact) == (2, 0.5)
    assert (report.answerable, report.answerable_exact) == (2, 0)
    assert report.answerable_f1 == pytest.approx(1 / 3)
    assert (report.exact, report.f1) == (0.25, pytest.approx((1 + 2 / 3) / 4))
    assert report.count == 4


def test_references_that_are_not_in_the_context_count():
    row = {"context": "范廷颂生于1919年", "question": "何时?", "answers": ["1919年", "一九一九年"]}
    questions = questions_from_rows([row], "mine")
    assert len(questions[0].answers) == 1
    assert evaluate_reading(questions, ["一九一九年"]).exact == 1


def test_as_json_and_as_a_table():
    report = evaluate_reading([ask("甲"), ask("乙")], ["甲", "丙"])
    assert json.loads(json.dumps(report.to_dict()))["exact"] == 0.5
    assert report.format_table().split("\n")[1:] == ["all  0.5000  0.5000   0.5000          2"]
    assert len(evaluate_reading([ask("甲"), ask()], ["甲", ""]).format_table().split("\n")) == 4


@pytest.mark.parametrize(
    ("questions", "answers", "options", "message"),
    [
        ([ask("甲")], [], {}, "1 questions and 0 answers"),
        ([], [], {}, "no questions"),
        ([ask("甲")], [None], {}, "answer 0 is NoneType"),
        ([Question("Q7", "文", "问?", None)], [""], {}, r"question 0 \(Q7\) has no answers"),
        ([ask("甲")], ["甲"], {"metric": "bleu"}, "metric='bleu'"),
    ],
)
def test_wrong_input(questions, answers, options, message):
    with pytest.raises(DataError, match=message):
        evaluate_reading(questions, answers, **options)


@pytest.mark.shared
def test_cmrc_dev_against_itself(shared):
    questions = read_reading(shared / "data" / "clue-cmrc2018" / "dev.json.gz")
    report = evaluate_reading(questions, [question.answers[0][1] for question in questions])
    assert (report.exact, report.f1, report.count, report.unanswerable) == (1, 1, 3219, 0)
    report = evaluate_reading(questions, [question.references[-1][:-1] for question in questions])
    assert 0 < report.exact < 0.3 < report.f1 < 1
