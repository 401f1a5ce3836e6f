"""Labels that depend on the width of a batch, each against a loop that sets one value after the other."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qingformer.data import PaddedBatches
from qingformer.data.padded_labels import JointLabels, PairLabels, RowLabels, StartEndLabels, TokenLabels
from qingformer.errors import DataError

TYPES = 3
PLACES = st.tuples(st.integers(0, TYPES - 1), st.integers(0, 9), st.integers(0, 9))
SPANS = PLACES.map(lambda place: (place[0], *sorted(place[1:])))
ROWS = st.lists(st.integers(-1, 3), min_size=1, max_size=6).map(np.array)
LENGTH = st.integers(1, 12)


@given(ROWS, LENGTH)
def test_row_labels(rows, length):
    values = np.arange(10, 22).reshape(4, 3)
    labels = RowLabels(values)
    assert len(labels) == 4
    assert labels.gather(rows, length).tolist() == [[0] * 3 if row < 0 else values[row].tolist() for row in rows]
    assert values.tolist() == np.arange(10, 22).reshape(4, 3).tolist(), "the blanks are not written into the labels"


@given(st.lists(st.lists(st.integers(-1, 7), max_size=10), min_size=4, max_size=4), ROWS, LENGTH)
def test_token_labels(sequences, rows, length):
    wanted = [[(sequences[row] + [-1] * length)[k] if row >= 0 else -1 for k in range(length)] for row in rows]
    found = TokenLabels(sequences).gather(rows, length)
    assert found.dtype == np.int32
    assert found.tolist() == wanted


@given(st.lists(st.lists(PLACES, max_size=6), min_size=4, max_size=4), ROWS, LENGTH)
def test_pair_labels(examples, rows, length):
    labels = PairLabels(examples, TYPES)
    found = labels.gather(rows, length)
    assert len(labels) == 4
    assert found.dtype == np.int32
    most = max((sum(p[0] == kind for p in set(each)) for each in examples for kind in range(TYPES)), default=1)
    assert found.shape == (len(rows), TYPES, max(most, 1), 2)
    for row, each in zip(rows, found):
        for kind in range(TYPES):
            pairs = [tuple(pair) for pair in each[kind].tolist()]
            kept = [pair for pair in pairs if pair != (-1, -1)]
            assert len(kept) == len(set(kept))
            assert set(kept) == {p[1:] for p in examples[row] if p[0] == kind and max(p[1:]) < length and row >= 0}
            assert pairs == [*kept, *[(-1, -1)] * (len(pairs) - len(kept))], "what fills up stands behind"


@given(st.lists(st.lists(SPANS, max_size=6), min_size=4, max_size=4), ROWS, LENGTH)
def test_start_end_labels(examples, rows, length):
    wanted = np.zeros((len(rows), length, TYPES, 2), "float32")
    for place, row in enumerate(rows):
        for kind, first, last in examples[row] if row >= 0 else ():
            if last < length:
                wanted[place, first, kind, 0] = wanted[place, last, kind, 1] = 1
    found = StartEndLabels(examples, TYPES).gather(rows, length)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, wanted)


def test_places_that_cannot_be_are_refused():
    for make in (PairLabels, StartEndLabels):
        for place in [(3, 0, 0), (-1, 0, 0), (0, -1, 2), (0, 0, -1)]:
            with pytest.raises(DataError, match="not a pair of tokens"):
                make([[], [place]], TYPES)
    with pytest.raises(DataError, match="not a span"):
        StartEndLabels([[(0, 3, 2)]], TYPES)
    PairLabels([[(0, 3, 2)]], TYPES)  # heads and tails of relations may stand in any order


def test_joint_labels_name_each_part():
    joint = JointLabels({"a": RowLabels(np.arange(2)), "b": TokenLabels([[1], [2, 3]])})
    found = joint.gather(np.array([1, -1]), 3)
    assert len(joint) == 2
    assert {name: values.tolist() for name, values in found.items()} == {"a": [1, 0], "b": [[2, 3, -1], [-1] * 3]}
    with pytest.raises(DataError, match=r"'a': 2, 'b': 1"):
        JointLabels({"a": RowLabels(np.arange(2)), "b": TokenLabels([[1]])})


def batches_of(features, count, **options):
    tags = [[1000 * row + k for k in range(len(ids))] for row, (ids, _) in enumerate(features)]
    labels = JointLabels({"row": RowLabels(np.arange(count)), "tags": TokenLabels(tags)})
    more = {"number": np.arange(count), "tags": TokenLabels(tags)}
    return PaddedBatches(features, labels, more_inputs=more, batch_size=4, buckets=(8, 16), **options)


@given(st.lists(st.integers(2, 16), min_size=1, max_size=14), st.integers(0, 3), st.integers(0, 2))
def test_batches_gather_what_belongs_to_their_rows(lengths, seed, epoch):
    features = [([row + 1] * length, [0] * length) for row, length in enumerate(lengths)]
    batches = batches_of(features, len(lengths), seed=seed, start=(epoch, 0))
    seen = []
    for order, (inputs, labels, weights) in zip(batches.order(), batches):
        width = inputs["token_ids"].shape[1]
        for place, row in enumerate(order.tolist()):
            wanted = [1000 * row + k if row >= 0 and k < lengths[row] else -1 for k in range(width)]
            assert labels["tags"][place].tolist() == inputs["tags"][place].tolist() == wanted
            assert labels["row"][place] == inputs["number"][place] == max(row, 0)
            assert inputs["token_ids"][place, 0] == row + 1
            assert weights[place] == (row >= 0)
            seen += [row] * (row >= 0)
    assert sorted(seen) == list(range(len(lengths)))


def test_as_many_labels_and_inputs_as_examples():
    features = [([1, 2], [0, 0])] * 3
    with pytest.raises(DataError, match="labels: 2 for 3 examples"):
        PaddedBatches(features, TokenLabels([[1], [2]]))
    with pytest.raises(DataError, match="choices: 4 for 3 examples"):
        PaddedBatches(features, np.zeros(3), more_inputs={"choices": np.zeros(4)})
    with pytest.raises(DataError, match="mask: 1 for 3 examples"):
        PaddedBatches(features, np.zeros(3), more_inputs={"mask": TokenLabels([[1]])})
