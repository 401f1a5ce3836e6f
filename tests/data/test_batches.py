"""PaddedBatches: shapes, order, resume, and what Keras does with it."""

import os
import tracemalloc
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qingformer.data import PaddedBatches
from qingformer.errors import DataError


def make_features(lengths):
    """Example i is a row of `lengths[i]` distinct ids that all tell i, so that rows can be recognised."""
    return [
        SimpleNamespace(token_ids=[1 + i * 100 + j for j in range(n)], segment_ids=[j % 2 for j in range(n)])
        for i, n in enumerate(lengths)
    ]


def make_batches(lengths, **options):
    return PaddedBatches(make_features(lengths), np.arange(len(lengths)), **options)


lengths_strategy = st.lists(st.integers(1, 40), min_size=1, max_size=60)


@settings(max_examples=60, deadline=None)
@given(lengths=lengths_strategy, batch_size=st.integers(1, 9), shuffle=st.booleans(), seed=st.integers(0, 9))
def test_every_example_once_with_its_own_label_and_weight(lengths, batch_size, shuffle, seed):
    buckets = (4, 8, 16, 40)
    features = make_features(lengths)
    weights = np.linspace(0.5, 2, len(lengths))
    batches = PaddedBatches(
        features,
        np.arange(len(lengths)) + 7,
        weights,
        batch_size=batch_size,
        buckets=buckets,
        shuffle=shuffle,
        seed=seed,
        pad_token_id=0,
    )
    seen = []
    for number, (inputs, labels, sample_weights) in enumerate(batches):
        width = inputs["token_ids"].shape[1]
        assert width in buckets
        rows = batches.order()[number]
        for name in ("token_ids", "segment_ids", "padding_mask"):
            assert inputs[name].shape == (batch_size, width)
            assert inputs[name].dtype == np.int32
        assert labels.dtype == np.int32
        assert sample_weights.dtype == np.float32
        for place, row in enumerate(rows):
            if row < 0:
                assert sample_weights[place] == 0
                assert inputs["padding_mask"][place].tolist() == [1] + [0] * (width - 1)
                continue
            seen.append(row)
            length = lengths[row]
            assert labels[place] == row + 7
            assert sample_weights[place] == np.float32(weights[row])
            assert inputs["token_ids"][place].tolist() == features[row].token_ids + [0] * (width - length)
            assert inputs["segment_ids"][place].tolist() == features[row].segment_ids + [0] * (width - length)
            assert inputs["padding_mask"][place].tolist() == [1] * length + [0] * (width - length)
    assert sorted(seen) == list(range(len(lengths)))
    counts = np.bincount(np.searchsorted(buckets, lengths), minlength=len(buckets))
    assert len(batches) <= sum(-(-count // batch_size) for count in counts)


@settings(max_examples=40, deadline=None)
@given(lengths=lengths_strategy, batch_size=st.integers(1, 9), seed=st.integers(0, 5))
def test_number_of_batches_is_the_same_in_every_epoch(lengths, batch_size, seed):
    batches = make_batches(lengths, batch_size=batch_size, buckets=(4, 16, 40), seed=seed)
    assert len({len(batches.order(epoch)) for epoch in range(5)}) == 1


def test_leftovers_ride_in_the_empty_places_of_a_wider_bucket():
    batches = make_batches([3] * 5 + [9] * 6, batch_size=4, buckets=(4, 16))
    assert len(batches) == 3
    assert sorted(inputs["token_ids"].shape[1] for inputs, _, _ in batches) == [4, 16, 16]
    alone = make_batches([3] * 5 + [9] * 8, batch_size=4, buckets=(4, 16))
    assert sorted(inputs["token_ids"].shape[1] for inputs, _, _ in alone) == [4, 4, 16, 16]


def test_order_depends_on_seed_and_epoch_only():
    lengths = list(np.random.default_rng(0).integers(2, 40, 200))
    first = make_batches(lengths, batch_size=8, buckets=(8, 16, 40), seed=3)
    second = make_batches(lengths, batch_size=8, buckets=(8, 16, 40), seed=3, start=(4, 2))
    assert np.array_equal(first.order(4), second.order())
    assert not np.array_equal(first.order(0), first.order(1))
    assert not np.array_equal(first.order(0), make_batches(lengths, batch_size=8, buckets=(8, 16, 40), seed=4).order(0))
    still = make_batches(lengths, batch_size=8, buckets=(8, 16, 40), shuffle=False)
    assert np.array_equal(still.order(0), still.order(7))


def test_the_order_is_the_same_on_every_machine():
    """Numbers noted once: a change means that nobody's runs can be resumed or repeated any more."""
    batches = make_batches([3, 9, 4, 12, 2, 3, 15, 4], batch_size=2, buckets=(4, 16), seed=1)
    assert batches.order(2).tolist() == [[1, 7], [2, 0], [3, 6], [5, 4]]


def test_start_gives_the_rest_of_the_epoch_and_then_whole_ones():
    lengths = list(np.random.default_rng(1).integers(2, 40, 50))
    whole = make_batches(lengths, batch_size=4, buckets=(8, 16, 40), start=(2, 0))
    rest = make_batches(lengths, batch_size=4, buckets=(8, 16, 40), start=(2, 5))
    assert len(rest) == len(whole) - 5
    for expected, given_batch in zip(list(whole)[5:], rest):
        assert np.array_equal(expected[0]["token_ids"], given_batch[0]["token_ids"])
    rest.on_epoch_end()
    assert (rest.epoch, len(rest)) == (3, len(whole))
    with pytest.raises(IndexError):
        whole[len(whole)]
    with pytest.raises(DataError, match=r"start=\(0, 99\): an epoch has batches 0 to"):
        whole.start_at(0, 99)


def test_epoch_advances_only_when_its_last_batch_was_read():
    batches = make_batches([3] * 10, batch_size=4, buckets=(4,))
    batches.on_epoch_begin()
    _ = batches[0]
    batches.on_epoch_end()
    assert batches.epoch == 0
    for index in range(len(batches)):
        _ = batches[index]
    batches.on_epoch_end()
    assert batches.epoch == 1
    batches.on_epoch_end()
    assert batches.epoch == 1


def test_restore_order():
    lengths = list(np.random.default_rng(2).integers(2, 40, 37))
    for shuffle in (False, True):
        batches = make_batches(lengths, batch_size=8, buckets=(8, 16, 40), shuffle=shuffle)
        outputs = np.concatenate([labels for _, labels, _ in batches]) * 10
        assert batches.restore_order(outputs).tolist() == (np.arange(37) * 10).tolist()
    with pytest.raises(DataError, match="36 outputs for"):
        batches.restore_order(outputs[:36])


def test_long_examples_are_cut_and_counted_and_keep_their_separator():
    batches = make_batches([3, 20, 8, 9], batch_size=4, buckets=(8,), shuffle=False)
    assert batches.truncated == 2
    assert batches[0][0]["token_ids"][1].tolist() == [101, 102, 103, 104, 105, 106, 107, 120]


def test_labels_of_every_shape_and_none():
    features = make_features([3, 3, 3])
    assert len(PaddedBatches(features)[0]) == 1
    _, labels, _ = PaddedBatches(features, np.eye(3), batch_size=4, buckets=(4,), shuffle=False)[0]
    assert labels.dtype == np.float32
    assert labels.tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0]]
    _, labels, _ = PaddedBatches(features, [True, False, True], batch_size=3, shuffle=False)[0]
    assert labels.dtype == np.int32


def test_features_may_be_pairs_arrays_or_a_generator():
    objects = make_features([3, 5])
    pairs = [(f.token_ids, f.segment_ids) for f in objects]
    arrays = ([f.token_ids for f in objects], [np.array(f.segment_ids) for f in objects])
    expected = PaddedBatches(objects, shuffle=False)[0][0]
    for features in (pairs, arrays, (f for f in objects)):
        for name, values in PaddedBatches(features, shuffle=False)[0][0].items():
            assert np.array_equal(values, expected[name])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([],), "no examples"),
        (([([], [])],), "example 0: 0 token ids"),
        (([([1, 2], [0])],), "example 0: 2 token ids and 1 segment ids"),
        (([([1], [0])], [1, 2]), "labels: 2 for 1 examples"),
        (([([1], [0])], ["天气"]), "turn names into numbers"),
        (([([1], [0])], [1], [1, 1]), "sample_weights: 2 for 1 examples"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(DataError, match=message):
        PaddedBatches(*arguments)


def test_storage_is_compact():
    features = [([5] * 40, [0] * 40)] * 20000
    tracemalloc.start()
    batches = PaddedBatches(features, np.zeros(20000))
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(batches) == 625
    assert used < 20000 * 40 * 8


def make_model():
    """A line through the first token of every row: all weights depend on what the batches hold."""
    names = ("token_ids", "segment_ids", "padding_mask")
    inputs = {name: keras.Input((None,), dtype="int32", name=name) for name in names}
    columns = [keras.ops.cast(inputs[name], "float32") for name in inputs]
    first = keras.ops.stack([columns[0] * 1e-4, columns[1], columns[2]], axis=-1)[:, :1, :]
    model = keras.Model(inputs, keras.ops.sum(keras.layers.Dense(1)(first), axis=1))
    model.compile(optimizer=keras.optimizers.SGD(1e-2), loss="mse")
    return model


class Spy(PaddedBatches):
    """Notes which rows Keras was given in which epoch."""

    def _item(self, index):
        self.__dict__.setdefault("seen", []).append((self.epoch, self._first + index))
        return super()._item(index)


def test_fit_reads_every_epoch_in_its_own_order():
    lengths = list(np.random.default_rng(3).integers(2, 40, 50))
    batches = Spy(make_features(lengths), np.ones(50), batch_size=4, buckets=(8, 16, 40))
    make_model().fit(batches, epochs=3, verbose=0, shuffle=False)
    count = batches.batches_per_epoch
    for epoch in range(3):
        read = [batch for seen_epoch, batch in batches.seen if seen_epoch == epoch]
        assert read[-count:] == list(range(count))  # before the first epoch Keras may look at a batch or two
    assert batches.epoch == 3


def test_a_warning_when_keras_shuffles_the_batches_itself():
    batches = make_batches([3] * 60, batch_size=4, buckets=(4,))
    with pytest.warns(UserWarning, match="pass shuffle=False to fit"):
        make_model().fit(batches, epochs=1, verbose=0)


class StartAt(keras.callbacks.Callback):
    def __init__(self, batches, epoch, batch):
        super().__init__()
        self.batches, self.start = batches, (epoch, batch)

    def on_epoch_begin(self, epoch, logs=None):
        self.batches.start_at(*self.start)


@pytest.mark.parametrize("left", [1, 2, 6])
def test_fit_stopped_and_resumed_gives_the_same_weights(left):
    lengths = list(np.random.default_rng(4).integers(2, 40, 50))
    options = {"batch_size": 4, "buckets": (8, 16, 40), "seed": 9}
    straight = make_model()
    start = straight.get_weights()
    batches = make_batches(lengths, **options)
    straight.fit(batches, epochs=2, verbose=0, shuffle=False)

    first = make_model()
    first.set_weights(start)
    half = make_batches(lengths, **options)
    stop = len(half) - left
    first.fit(half, epochs=1, steps_per_epoch=stop, verbose=0, shuffle=False)

    second = make_model()
    second.set_weights(first.get_weights())
    rest = make_batches(lengths, **options, start=(0, stop))
    second.fit(rest, epochs=1, verbose=0, shuffle=False, callbacks=[StartAt(rest, 0, stop)])
    assert rest.epoch == 1
    second.fit(rest, initial_epoch=1, epochs=2, verbose=0, shuffle=False)
    for expected, given_weights in zip(straight.get_weights(), second.get_weights()):
        assert np.array_equal(expected, given_weights)


def test_fit_from_the_middle_when_the_next_two_batches_have_one_width():
    """Keras on TensorFlow learns from items 0 and 1 which dimensions vary; the rest may begin with twins."""
    lengths = [3] * 24 + [9] * 8
    batches = make_batches(lengths, batch_size=4, buckets=(4, 16), seed=0)
    widths = [inputs["token_ids"].shape[1] for inputs, _, _ in batches]
    start = next(k for k in range(1, 6) if widths[k] == widths[k + 1] and len(set(widths[k:])) == 2)
    rest = Spy(make_features(lengths), np.ones(32), batch_size=4, buckets=(4, 16), seed=0, start=(0, start))
    make_model().fit(rest, epochs=1, verbose=0, shuffle=False)
    read = [batch for epoch, batch in rest.seen if epoch == 0]
    assert read[-(8 - start) :] == list(range(start, 8))


def test_predict_in_input_order():
    model = make_model()
    lengths = list(np.random.default_rng(5).integers(2, 40, 30))
    batches = make_batches(lengths, batch_size=8, buckets=(8, 16, 40), shuffle=False)
    outputs = batches.restore_order(model.predict(batches, verbose=0))
    kernel, bias = model.get_weights()
    first = np.stack([(1 + np.arange(30) * 100) * 1e-4, np.zeros(30), np.ones(30)], axis=1)
    expected = first @ kernel + bias
    assert np.allclose(outputs, expected, atol=1e-4)


def test_only_full_static_shapes_reach_the_compiler():
    lengths = list(np.random.default_rng(6).integers(2, 40, 61))
    batches = make_batches(lengths, batch_size=8, buckets=(8, 16, 40))
    shapes = {inputs["token_ids"].shape for inputs, _, _ in batches}
    assert shapes == {(8, 8), (8, 16), (8, 40)}
    assert 0 < batches.padding_fraction < 0.5
    assert os.environ["KERAS_BACKEND"] == keras.backend.backend()


def test_inputs_that_the_model_does_not_have_are_left_out():
    features = [([2, 7, 3], [0, 0, 0])] * 3
    (inputs,) = PaddedBatches(features, batch_size=4, buckets=(8,), inputs=("padding_mask", "token_ids"))[0]
    assert set(inputs) == {"token_ids", "padding_mask"}
