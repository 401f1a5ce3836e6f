"""What users have in memory becomes rows, or one clear line."""

import io

import numpy as np
import pytest

from qingformer.data.tables import is_empty, rows_of
from qingformer.errors import DataError

COLUMNS = {"text": ["今天", "明天"], "label": [1, 0]}
ROWS = [{"text": "今天", "label": 1}, {"text": "明天", "label": 0}]


class Frame:
    """What matters of a table: names of columns when it is walked through, a column under its name."""

    def __init__(self, data, name="columns"):
        self.data = data
        setattr(self, name, list(data))

    def __iter__(self):
        return iter(self.data)

    def __getitem__(self, name):
        return self.data[name]

    def __len__(self):
        return len(next(iter(self.data.values())))


@pytest.mark.parametrize(
    "source",
    [
        COLUMNS,
        {key: tuple(values) for key, values in COLUMNS.items()},
        {key: np.array(values) for key, values in COLUMNS.items()},
        Frame(COLUMNS),
        Frame({key: np.array(values) for key, values in COLUMNS.items()}),
        Frame(COLUMNS, "column_names"),
        ROWS,
        (row for row in ROWS),
    ],
)
def test_rows_of_tables(source):
    assert list(rows_of(source, "data")) == ROWS


def test_one_row_and_arrays():
    assert rows_of(ROWS[0], "data") == [ROWS[0]]
    assert rows_of({"data": [{"paragraphs": []}]}, "data") == [{"data": [{"paragraphs": []}]}]
    assert rows_of({"tokens": ["今", "天"], "tags": ["O", "O"]}, "data") == [
        {"tokens": ["今", "天"], "tags": ["O", "O"]}
    ]
    assert list(rows_of(np.array(["今天", "明天"]), "data")) == ["今天", "明天"]
    assert rows_of(np.array([["今天", "a"], ["明天", "b"]]), "data") == [["今天", "a"], ["明天", "b"]]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("今天", r"^data: expected a list, found one text; write \['今天'\]"),
        (b"today", "found one text"),
        ({"今天"}, "a set has no order"),
        (io.StringIO("今天"), "is an open file; pass its path"),
        (3, "expected a path or a sequence of rows, got int"),
        (np.array(3), "expected a path or a sequence of rows"),
        ({"text": ["a"], "label": []}, "different lengths .text 1, label 0."),
        (Frame({"a": [1]}, "columns").__class__, "is not a table that can be read|got type"),
    ],
)
def test_what_is_no_table(source, message):
    with pytest.raises(DataError, match=message):
        list(rows_of(source, "data"))


def test_emptiness():
    assert all(is_empty(source) for source in ([], (), np.array([]), {}, Frame({"text": []})))
    assert not any(is_empty(source) for source in (["a"], ROWS[0], Frame(COLUMNS), (row for row in ())))
