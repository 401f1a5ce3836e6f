"""The bundled sample: made by its script, balanced, without leaks, neither trivial nor hopeless."""

import json
import math
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from qingformer.data import read_classification

ROOT = Path(__file__).resolve().parent.parent
SAMPLES = ROOT / "samples"
PARTS = ("train", "dev", "test")


@pytest.fixture(scope="module")
def parts():
    paths = {name: SAMPLES / "intents" / f"{name}.jsonl" for name in PARTS}
    return {name: list(read_classification(path, require_labels=True)) for name, path in paths.items()}


def bare(text):
    return re.sub(r"[\W_]+", "", text)


def test_the_committed_files_are_what_the_script_writes(tmp_path):
    subprocess.run([sys.executable, ROOT / "scripts" / "make_sample.py", tmp_path], check=True)
    written = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file())
    committed = sorted(path.relative_to(SAMPLES) for path in SAMPLES.rglob("*") if path.is_file())
    assert written == committed
    for name in written:
        assert (tmp_path / name).read_bytes() == (SAMPLES / name).read_bytes(), name
    assert sum((SAMPLES / name).stat().st_size for name in committed) < 1_000_000


def test_enough_sentences_and_no_majority_worth_guessing(parts):
    assert sum(map(len, parts.values())) >= 6000
    for name, examples in parts.items():
        counts = Counter(example.label for example in examples)
        assert len(counts) >= 8
        assert max(counts.values()) / len(examples) < 0.25, name
    assert {example.label for example in parts["train"]} == {example.label for example in parts["test"]}


def test_no_sentence_occurs_twice_in_any_spelling(parts):
    everything = [bare(example.text) for examples in parts.values() for example in examples]
    repeated = [text for text, count in Counter(everything).items() if count > 1]
    assert repeated == []


def test_rows_are_plain(parts):
    for name in PARTS:
        for line in (SAMPLES / "intents" / f"{name}.jsonl").read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            assert set(row) == {"text", "label"}
            assert row["text"] == row["text"].strip()
            assert not re.search(r"[(){}|*]", row["text"])


def test_half_of_the_test_part_comes_from_templates_unseen_in_training(parts):
    """Words that only held-out templates hold must be in the test part and nowhere else."""

    def holds(name, phrase):
        return sum(phrase in example.text for example in parts[name])

    for phrase in ("挑条近路", "身体缺什么", "走起", "晒得干"):
        assert holds("test", phrase) > 0
        assert holds("train", phrase) == holds("dev", phrase) == 0


def grams(text):
    return [*text, *(text[i : i + 2] for i in range(len(text) - 1))]


def naive_bayes(train, test, features, smoothing=0.1):
    """Accuracy of multinomial Naive Bayes on counts of `features`."""
    labels = sorted({example.label for example in train})
    counts = {label: Counter() for label in labels}
    for example in train:
        counts[example.label].update(features(example.text))
    vocabulary = set().union(*counts.values())
    totals = {label: sum(counts[label].values()) + smoothing * len(vocabulary) for label in labels}
    right = 0
    for example in test:
        known = [feature for feature in features(example.text) if feature in vocabulary]
        scores = [
            sum(math.log((counts[label][feature] + smoothing) / totals[label]) for feature in known) for label in labels
        ]
        right += labels[int(np.argmax(scores))] == example.label
    return right / len(test)


@pytest.mark.parametrize("features", [list, grams], ids=["characters", "characters and pairs"])
def test_counting_characters_helps_but_is_not_enough(parts, features):
    accuracy = naive_bayes(parts["train"], parts["test"], features)
    assert 0.5 < accuracy < 0.97


def test_the_vocabulary_covers_the_sample(parts):
    tokens = (SAMPLES / "vocab.txt").read_text(encoding="utf-8").splitlines()
    assert tokens[:5] == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    assert len(tokens) == len(set(tokens))
    known = set(tokens)
    missing = {
        char
        for examples in parts.values()
        for example in examples
        for char in example.text + example.label
        if not char.isspace() and char.lower() not in known
    }
    assert missing == set()
    assert sum("\u4e00" <= token <= "\u9fff" for token in tokens) >= 3755
