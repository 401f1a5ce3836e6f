"""Labels, vocabulary and batch widths, each against a plainer account of what it should be."""

import doctest
import importlib
import pkgutil

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import qingformer.tasks
from qingformer.data import TextExample
from qingformer.errors import ConfigError, DataError, TokenizerError
from qingformer.tasks import scratch
from qingformer.tasks.classification.class_labels import check_labels, discover_labels, label_targets, row_weights
from qingformer.tasks.classification.text_examples import Columns, Examples, read_examples
from qingformer.tasks.predictor import choose
from qingformer.tasks.seeded import reseed
from qingformer.tokenization import Tokenizer
from tests.tasks.helpers import backbone


def examples(*labels):
    return Examples("train.tsv", [TextExample("x", None, (label,), line=i) for i, label in enumerate(labels, 1)], True)


def test_labels_are_sorted_by_value_or_code_point_whatever_the_order_of_rows():
    assert discover_labels(examples("10", "9", "-1", "9")) == ["-1", "9", "10"]
    assert discover_labels(examples(*"hbcgaedf", "10")) == ["10", *"abcdefgh"]


@pytest.mark.parametrize(
    ("given_labels", "expected"),
    [
        ([1, 1.0, 0, 0.0], ["0", "1"]),
        ([np.int64(1), np.float32(1), np.bool_(True), 0, "0.0"], ["0", "1"]),
        ([True, np.bool_(False), "true"], ["False", "True"]),
        (["--1", "2"], ["--1", "2"]),
        (["9" * 5000, "1"], ["1", "9" * 5000]),
        ([2, np.uint8(10), 1.5], ["1.5", "10", "2"]),
    ],
)
def test_numbers_have_one_spelling(given_labels, expected):
    assert discover_labels(read_examples([("x", label) for label in given_labels])) == expected


def test_labels_are_known_under_other_spellings_too():
    data = read_examples([("x", True), ("x", 0), ("x", "1.0")])
    assert label_targets(data, ["0", "1"], multi_label=False).tolist() == [1, 0, 1]
    assert label_targets(read_examples([("x", 2), ("x", 1)]), ["1.0", "2.0"], multi_label=False).tolist() == [1, 0]
    assert row_weights(np.array([0, 1]), ["0", "1"], {0: 1.0, np.int64(1): np.float32(3)}).tolist() == [1, 3]
    assert check_labels([0, 1.0, np.int64(2)]) == ["0", "1", "2"]
    with pytest.raises(ConfigError, match="the label is nan"):
        check_labels(["a", float("nan")])
    with pytest.raises(ConfigError, match="must be positive numbers, got"):
        row_weights(np.array([0, 1]), ["0", "1"], {"0": "much"})


def test_joined_labels_are_noticed():
    table = {"text": ["x"] * 3, "label": ["a#b", "a", "b"]}
    with pytest.raises(DataError, match=r"data, item 1: the label 'a#b' looks like several .* separator= '#'"):
        read_examples(table, multi_label=True)
    found = read_examples(table, Columns(separator="#"), multi_label=True)
    assert [example.labels for example in found] == [("a", "b"), ("a",), ("b",)]
    whole = read_examples(table, Columns(separator=","), multi_label=True)
    assert whole[0].labels == ("a#b",)
    assert read_examples({"text": ["x"], "label": ["a，b,c"]}, multi_label=True)[0].labels == ("a", "b", "c")
    assert read_examples([("x", "c#"), ("x", "c")], multi_label=True)[0].labels == ("c#",)


def test_targets_of_one_and_of_several_labels():
    data = read_examples([("x", ["a", "c"]), ("x", "b"), ("x", [])], multi_label=True)
    assert label_targets(data, ["a", "b", "c"], multi_label=True).tolist() == [[1, 0, 1], [0, 1, 0], [0, 0, 0]]
    assert label_targets(examples("b", "a"), ["a", "b"], multi_label=False).tolist() == [1, 0]


def test_weights_by_label_and_balanced():
    targets = np.array([0, 0, 0, 1], "int32")
    assert row_weights(targets, ["a", "b"], {"b": 3.0}).tolist() == [1, 1, 1, 3]
    balanced = row_weights(targets, ["a", "b"], "balanced")
    assert balanced[:3].sum() == pytest.approx(balanced[3:].sum())
    assert row_weights(targets, ["a", "b"], None) is None
    with pytest.raises(ConfigError, match="positive"):
        row_weights(targets, ["a", "b"], {"a": 0.0})
    with pytest.raises(ConfigError, match="one label per text"):
        row_weights(np.zeros((2, 2), "float32"), ["a", "b"], "balanced")


@given(st.lists(st.text(alphabet="天地人abcAB 1,。é", max_size=12), max_size=8))
def test_every_text_is_spelt_without_unknown_tokens_by_its_own_vocabulary(texts):
    try:
        vocabulary = scratch.count_vocabulary(texts)
    except TokenizerError:
        assert not "".join(texts).strip()
        return
    assert len(set(vocabulary)) == len(vocabulary)
    assert vocabulary == scratch.count_vocabulary(reversed(texts))
    tokenizer = Tokenizer.from_vocabulary(vocabulary)
    for text in texts:
        assert "[UNK]" not in tokenizer.encode(text).tokens


def test_vocabulary_keeps_frequent_words_and_its_size():
    texts = ["hello 天", "hello 天"] * 3
    assert "hello" in scratch.count_vocabulary(texts)
    assert "hello" not in scratch.count_vocabulary(texts, min_word_count=7)
    assert len(scratch.count_vocabulary(texts, max_size=7)) == 7


def test_choice_of_labels():
    table = np.array([[0.1, 0.6, 0.3], [0.4, 0.2, 0.4]], "float32")
    one = choose(table, "abc", multi_label=False, threshold=0.9, with_all=False)
    assert [p.labels for p in one] == [("b",), ("a",)]
    several = choose(table, "abc", multi_label=True, threshold=0.3, with_all=True)
    assert [p.labels for p in several] == [("b", "c"), ("a", "c")]
    assert several[1].probabilities == pytest.approx({"a": 0.4, "b": 0.2, "c": 0.4})


def test_random_generators_follow_the_seed_and_differ_from_each_other():
    def states(seed):
        reseed(model, seed)
        return [
            tuple(keras.ops.convert_to_numpy(v.value).tolist())
            for v in model.variables
            if v.path.endswith("seed_generator_state")
        ]

    model = backbone()
    assert len(states(1)) > 1
    assert len(set(states(1))) == len(states(1))
    assert states(1) == states(1) != states(2)


SKETCHES = {"noise"}  # their examples need data that is not there
TRAINING = {"choice", "classifier", "reading", "relations", "tagger"}  # their examples train something
MODULES = [
    pytest.param(module.name, marks=[pytest.mark.slow] * (module.name in TRAINING))
    for module in pkgutil.iter_modules(qingformer.tasks.__path__)
    if module.name not in SKETCHES
]


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples_run(name):
    assert doctest.testmod(importlib.import_module(f"qingformer.tasks.{name}")).failed == 0
