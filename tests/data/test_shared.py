"""Real data files, read with the options a user would guess."""

import pytest

from qingformer.data import read_classification

pytestmark = pytest.mark.shared

CASES = [
    ("clue-tnews/train.json.gz", {}, 10000, 15, False),
    ("clue-tnews/dev.json.gz", {"label_column": "label_desc"}, 10000, 15, False),
    ("clue-afqmc/train.tsv.gz", {"columns": ["text", "pair", "label"]}, 34334, 2, True),
    ("clue-afqmc/dev.tsv.gz", {"text_column": 0, "pair_column": 1, "label_column": 2}, 4316, 2, True),
    ("clue-afqmc/test.tsv.gz", {"columns": ["text", "pair"]}, 3861, 0, True),
    ("clue-iflytek/train.json.gz", {}, 5753, 119, False),
    ("clue-iflytek/test.json.gz", {}, 2600, 0, False),
    ("chnsenticorp/train.tsv.gz", {}, 9600, 2, False),
    ("smp2020-ewect-usual/train.tsv.gz", {}, 27766, 6, False),
    ("bdci-car-2018/train.csv.gz", {"label_column": "subject", "group_column": "content_id"}, 10654, 10, False),
    ("dataclue-cic/train.json.gz", {}, 10000, 118, False),
    ("online-shopping-10-cats/all.csv.xz", {"skip_empty": True}, 62773, 2, False),
    ("online-shopping-10-cats/all.csv.xz", {"skip_empty": True, "label_column": "cat"}, 62773, 10, False),
    ("book-review/test.tsv.gz", {}, 8000, 2, False),
    ("sentiment/sentiment.test.data.gz", {"format": "tsv", "columns": ["text", "label"]}, 2111, 2, False),
    ("qbqtc/test_public.json.gz", {}, 5000, 3, True),
    ("atec/dev_ccks.tsv.gz", {}, 10000, 2, True),
    ("bq/dev.csv.gz", {}, 10000, 2, True),
    ("csl-category/dev.tsv.gz", {"text_column": 1, "label_column": 2}, 1000, 13, False),
]


@pytest.mark.parametrize(("name", "options", "rows", "labels", "pairs"), CASES)
def test_reads_with_guessable_options(shared, name, options, rows, labels, pairs):
    examples = list(read_classification(shared / "data" / name, **options))
    assert len(examples) == rows
    assert len({label for example in examples for label in example.labels or ()}) == labels
    assert all((example.pair is not None) == pairs for example in examples)


def test_several_subjects_of_one_review(shared):
    path = shared / "data" / "bdci-car-2018" / "train.csv.gz"
    examples = read_classification(path, label_column="subject", group_column="content_id")
    assert sum(len(example.labels or ()) > 1 for example in examples) == 1472
