"""MixedBatches: both kinds in every batch, weights, order, widths."""

import keras
import numpy as np
import pytest

from qingformer.data import MixedBatches, PaddedBatches
from qingformer.errors import DataError
from tests.data.test_batches import make_features

LENGTHS, OTHERS = [3, 7, 7, 12, 3, 30, 7], [4, 6, 8, 5, 9, 14, 13, 2, 11]


def make(**options):
    settings = {"batch_size": 2, "buckets": (8, 16, 40), "unlabelled_rows": 3, "seed": 1} | options
    unlabelled = [([500 + i] * n, [0] * n) for i, n in enumerate(settings.pop("others", OTHERS))]
    weights = np.linspace(1, 2, len(LENGTHS))
    return MixedBatches(make_features(LENGTHS), np.arange(7) + 1, weights, unlabelled=unlabelled, **settings)


def test_the_labelled_rows_are_those_of_padded_batches_with_the_loss_they_have_there():
    plain = PaddedBatches(
        make_features(LENGTHS), np.arange(7) + 1, np.linspace(1, 2, 7), batch_size=2, buckets=(8, 16, 40), seed=1
    )
    mixed = make()
    assert len(mixed) == len(plain)
    for (inputs, labels, weights), (x, y, w) in zip(plain, mixed):
        for name, array in inputs.items():
            np.testing.assert_array_equal(x[name][:2], array)
            assert x[name].dtype == array.dtype
        np.testing.assert_array_equal(y, [*labels, 0, 0, 0])
        np.testing.assert_array_equal(w[:2], weights)
        assert w.dtype == np.float32
        assert (w[2:] == 0).all()
        assert (x["token_ids"][2:, 0] >= 500).all()


def test_unlabelled_texts_of_each_width_go_by_evenly_and_uncut():
    mixed, seen = make(), {}
    for epoch in range(6):
        mixed.start_at(epoch)
        for inputs, *_ in mixed:
            width = inputs["token_ids"].shape[1]
            others = inputs["token_ids"][2:]
            for row in others:
                number = row[0] - 500
                assert (row > 0).sum() == OTHERS[number]
                seen.setdefault(width, []).append(number)
    assert set(seen) == {8, 16, 40}
    for width, numbers in seen.items():
        wanted = [i for i, n in enumerate(OTHERS) if (n <= 8 if width == 8 else n > 8)]  # 40 takes those of 16
        assert set(numbers) <= set(wanted)
        counts = np.bincount(numbers, minlength=len(OTHERS))[wanted]
        assert counts.max() - counts.min() <= 1


def test_the_order_is_a_function_of_seed_and_place():
    whole, later, other = make(), make(start=(3, 2)), make(seed=2)
    whole.start_at(3)
    np.testing.assert_array_equal(whole[2][0]["token_ids"], later[0][0]["token_ids"])
    assert any((a[0]["token_ids"][2:] != b[0]["token_ids"][2:]).any() for a, b in zip(make(), other)
               if a[0]["token_ids"].shape == b[0]["token_ids"].shape)  # fmt: skip
    still = make(shuffle=False)
    assert still[0][0]["token_ids"][2:, 0].tolist() == [500, 501, 502]


def test_longer_texts_are_cut_where_there_are_no_others():
    inputs, *_ = make(others=[20], batch_size=7, buckets=(8, 40), shuffle=False)[0]
    assert inputs["padding_mask"][7:].sum() == 3 * inputs["token_ids"].shape[1] or inputs["token_ids"].shape[1] == 40


def test_what_cannot_be():
    with pytest.raises(DataError, match="unlabelled_rows=0"):
        make(unlabelled_rows=0)
    with pytest.raises(DataError, match="no examples"):
        make(others=[])


def test_keras_reads_them():
    inputs = keras.Input((None,), dtype="int32", name="token_ids")
    x = keras.layers.GlobalAveragePooling1D()(keras.layers.Embedding(900, 2)(inputs))
    model = keras.Model({"token_ids": inputs}, keras.layers.Dense(8)(x))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", loss, weighted_metrics=["accuracy"])
    history = model.fit(make(inputs=("token_ids",)), epochs=2, shuffle=False, verbose=0).history
    assert np.isfinite(history["loss"]).all()
