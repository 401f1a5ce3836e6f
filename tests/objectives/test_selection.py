"""Weights chosen by patterns, the head of a model, and rows read from all kinds of data."""

import keras
import numpy as np
import pytest

from qingformer.data import PaddedBatches
from qingformer.errors import ConfigError
from qingformer.objectives import Freeze, TrainableModel
from qingformer.objectives.rows import rows_of
from qingformer.objectives.selection import select, select_body, select_each
from tests.objectives.conftest import build, cross_entropy


def test_patterns_are_searched_in_the_paths():
    variables = build().trainable_variables
    assert select_each(variables, ["logits", "/(kernel|embeddings)$"], "X") == {
        "logits": [1, 2],
        "/(kernel|embeddings)$": [0, 1],
    }
    assert select(variables, ["bias", "token"], "X") == [0, 2]
    assert select(variables, "", "X") == [0, 1, 2]


def test_a_pattern_that_finds_nothing_is_an_error_with_the_paths():
    model = build()
    with pytest.raises(ConfigError, match=r"Freeze: no trainable .* 'encoder'.*token_embedding/.*logits/bias$"):
        model.compile("sgd", cross_entropy(), transforms=[Freeze({"encoder": (0, 1)})])
    with pytest.raises(ConfigError, match="'a\\(' is not a regular expression"):
        select(model.trainable_variables, ["a("], "X")
    with pytest.raises(ConfigError, match="no pattern"):
        select(model.trainable_variables, [], "X")


def test_a_long_list_of_paths_is_shortened():
    variables = [keras.Variable(np.zeros(1), name=f"v{i}") for i in range(40)]
    with pytest.raises(ConfigError, match=r"v0, .*v5, \.\.\., v34, .*v39 and 28 more$"):
        select(variables, "none", "X")


def body_paths(model):
    return [model.trainable_variables[i].path for i in select_body(model, "X")]


def test_the_body_is_all_but_the_last_weights_before_each_output():
    assert body_paths(build()) == ["token_embedding/embeddings"]
    inputs = keras.Input((3,))
    hidden = keras.layers.Dense(4, name="hidden")(inputs)
    first = keras.layers.Activation("softmax")(keras.layers.Dense(2, name="first")(hidden))
    second = keras.ops.squeeze(keras.layers.Dense(1, name="second")(hidden), -1)
    inner = keras.Model(inputs, {"a": first, "b": second})
    assert body_paths(inner) == ["hidden/kernel", "hidden/bias"]
    assert body_paths(TrainableModel(inputs, inner(inputs))) == ["hidden/kernel", "hidden/bias"]
    with pytest.raises(ConfigError, match=r"X: all trainable variables belong to .*select"):
        select_body(keras.Model(inputs, hidden), "X")


ARRAYS = (np.arange(10).reshape(5, 2), np.arange(5), None)


def test_rows_of_arrays_and_nests():
    batches = list(rows_of((*ARRAYS, 2), "X"))
    assert [len(x) for x, _, _ in batches] == [2, 2, 1]
    np.testing.assert_array_equal(np.concatenate([y for _, y, _ in batches]), ARRAYS[1])
    nested = list(rows_of(({"a": ARRAYS[0], "b": keras.ops.ones(5)}, ARRAYS[1], np.ones(5), None), "X"))
    assert len(nested) == 1
    assert nested[0][0]["b"].tolist() == [1.0] * 5
    assert nested[0][2].tolist() == [1.0] * 5


class Batches(keras.utils.PyDataset):
    def __len__(self):
        return 2

    def __getitem__(self, index):
        return np.full((3, 2), index), np.full(3, index)


class Endless(Batches):
    def __len__(self):
        raise NotImplementedError

    @property
    def num_batches(self):
        return None


def test_rows_of_data_sets():
    assert [y.tolist() for _, y, _ in rows_of((Batches(), None, None, None), "X")] == [[0] * 3, [1] * 3]
    listed = Again([(np.zeros((2, 1)), np.zeros(2), np.ones(2)), (np.ones((2, 1)), np.ones(2), np.ones(2))])
    assert [y.tolist() for _, y, _ in rows_of((listed, None, None, None), "X")] == [[0, 0], [1, 1]]
    with pytest.raises(ConfigError, match="no end"):
        next(rows_of((Endless(), None, None, None), "X"))
    assert len(next(rows_of((Endless(), None, None, None), "X", endless=True))[0]) == 3


class Again:
    def __init__(self, items):
        self.items = items

    def __iter__(self):
        return iter(self.items)


def test_padded_batches_are_read_whole_and_left_as_they_were():
    batches = PaddedBatches([([1] * n, [0] * n) for n in (3, 4, 5, 6, 7)], np.arange(5), batch_size=2, buckets=(4, 8))
    batches.start_at(2, 1)
    seen = [y[w > 0] for _, y, w in rows_of((batches, None, None, None), "X")]
    assert sorted(np.concatenate(seen).tolist()) == [0, 1, 2, 3, 4]
    assert (batches.epoch, len(batches), batches._read) == (2, batches.batches_per_epoch - 1, set())


@pytest.mark.parametrize("one_shot", [iter([]), (i for i in range(3))])
def test_what_can_be_read_once_is_refused(one_shot):
    with pytest.raises(ConfigError, match=r"X: a .* can be read only once"):
        next(rows_of((one_shot, None, None, None), "X"))
    with pytest.raises(ConfigError, match="cannot read examples out of a int"):
        next(rows_of((3, None, None, None), "X"))


@pytest.mark.peers
def test_rows_of_the_data_sets_of_other_libraries():
    torch = pytest.importorskip("torch")
    tf = pytest.importorskip("tensorflow")
    data = torch.utils.data.TensorDataset(torch.arange(6).reshape(3, 2), torch.arange(3))
    loader = torch.utils.data.DataLoader(data, 2)
    assert [y.tolist() for _, y, _ in rows_of((loader, None, None, None), "X")] == [[0, 1], [2]]
    data = tf.data.Dataset.from_tensor_slices((np.arange(6).reshape(3, 2), np.arange(3))).batch(2)
    assert [y.tolist() for _, y, _ in rows_of((data, None, None, None), "X")] == [[0, 1], [2]]
    with pytest.raises(ConfigError, match="no end"):
        next(rows_of((data.repeat(), None, None, None), "X"))
