"""Triples: counts by hand, partial matches, relations, against a slow count over random sets."""

import json
import random

import pytest

from qingformer.data.relations import Triple
from qingformer.errors import DataError
from qingformer.evaluation.classification import ClassScore
from qingformer.evaluation.triples import evaluate_triples

GOLD = [
    [("Jens Hartel", "club", "Berliner AK"), ("Jens Hartel", "born", "Germany"), ("Germany", "capital", "Berlin")],
    [("步步惊心", "作者", "桐华")],
    [],
]
PREDICTED = [
    [("Jens Hartel", "club", "Berliner FC"), ("Jens Hartel", "born", "Germany"), ("Germany", "city", "Berlin")],
    [("惊心", "作者", "桐华"), ("步步惊心", "作者", "桐华"), ("步步惊心", "作者", "桐华")],
    [],
]


def test_counts_by_hand():
    report = evaluate_triples(GOLD, PREDICTED)
    assert report.exact == ClassScore.from_counts(2, 5, 4)
    assert report.partial == ClassScore.from_counts(3, 5, 4)  # "Berliner"; no part of a Chinese name counts
    assert report.entity == ClassScore.from_counts(3, 5, 4)  # Germany and Berlin
    assert report.per_relation == {
        "born": ClassScore(1.0, 1.0, 1.0, 1),
        "capital": ClassScore(0.0, 0.0, 0.0, 1),
        "club": ClassScore(0.0, 0.0, 0.0, 1),
        "作者": ClassScore.from_counts(1, 2, 1),
        "city": ClassScore(0.0, 0.0, 0.0, 0),
    }
    assert list(report.per_relation) == ["born", "capital", "club", "作者", "city"]
    assert (report.texts, report.text_accuracy) == (3, 1 / 3)


@pytest.mark.parametrize(("word", "hits"), [("first", 1), ("last", 2)])
def test_the_word_of_a_partial_match(word, hits):
    gold = [[("New York", "in", "the USA"), ("Ada King Lovelace", "born", "London"), ("a b", "r", "c")]]
    predicted = [[("York", "in", "USA"), ("Ada Lovelace", "born", "London"), ("a c", "r", "b c")]]
    report = evaluate_triples(gold, predicted, word=word)
    assert report.partial == ClassScore.from_counts(hits, 3, 3)
    assert report.exact.f1 == 0


def test_partial_merges_what_becomes_equal():
    report = evaluate_triples([[("a b", "r", "c"), ("a d", "r", "c")]], [[("a", "r", "c")]])
    assert report.partial == ClassScore(1.0, 1.0, 1.0, 1)


def test_against_a_slow_count():
    chance, names = random.Random(0), ["a b", "a c", "b", "c b"]

    def texts():
        return [
            [
                Triple(chance.choice(names), chance.choice("rst"), chance.choice(names))
                for _ in range(chance.randrange(6))
            ]
            for _ in range(200)
        ]

    gold, predicted = texts(), texts()
    report = evaluate_triples(gold, predicted)
    hits = sum(1 for one, other in zip(gold, predicted) for triple in set(other) if triple in one)
    assert report.exact == ClassScore.from_counts(
        hits, sum(map(len, map(set, predicted))), sum(map(len, map(set, gold)))
    )
    relations = report.per_relation.values()
    assert sum(score.support for score in relations) == report.exact.support
    assert sum(round(score.recall * score.support) for score in relations) == hits
    assert evaluate_triples(gold, gold).exact.f1 == evaluate_triples(gold, gold).text_accuracy == 1


def test_nothing_found_and_nothing_there():
    report = evaluate_triples([[]], [[]])
    assert (report.exact.f1, report.text_accuracy, report.per_relation) == (0.0, 1.0, {})


def test_as_json_and_as_a_table():
    report = evaluate_triples(GOLD, PREDICTED)
    assert json.loads(json.dumps(report.to_dict()))["per_relation"]["作者"]["precision"] == 0.5
    lines = report.format_table().split("\n")
    assert lines[4].split() == ["作者", "0.5000", "1.0000", "0.6667", "1"]
    assert lines[-2].split() == ["exact", "match", "0.4000", "0.5000", "0.4444", "4"]


@pytest.mark.parametrize(
    ("gold", "predicted", "options", "message"),
    [
        ([[]], [], {}, "1 texts with true triples and 0 with predicted"),
        ([], [], {}, "no texts to evaluate"),
        ([[]], [[("a", "b")]], {}, r"predicted, text 0: \('a', 'b'\) is not a triple"),
        ([[], ["abc"]], [[], []], {}, "gold, text 1: 'abc' is not a triple"),
        ([None], [[]], {}, "gold, text 0: None is not a triple"),
        ([[]], [[("a", 1, "b")]], {}, "is not a triple"),
        ([[]], [[]], {"word": "head"}, "word='head'"),
    ],
)
def test_wrong_input(gold, predicted, options, message):
    with pytest.raises(DataError, match=message):
        evaluate_triples(gold, predicted, **options)
