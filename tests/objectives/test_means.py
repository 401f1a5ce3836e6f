"""Losses, gradients and reported losses are those of the examples, however batches are padded, divided or gathered."""

import keras
import numpy as np
import pytest

import qingformer as qf
from qingformer.data import PaddedBatches
from qingformer.data.padded_labels import TokenLabels
from qingformer.layers import ConditionalRandomField, IndependentTags
from qingformer.losses import DiceLoss, FocalLoss, SmoothF1Crossentropy
from qingformer.objectives import FGM, Flooding, GradientAccumulation, GradientPenalty, RDrop, TrainableModel
from qingformer.optimizers import AccumulateGradients

LENGTHS = (3, 5, 4, 7, 3, 6, 5, 4, 8, 3)
TEXTS = [(list(np.random.default_rng(n).integers(1, 12, n)), [0] * n) for n in LENGTHS]
LABELS = np.arange(10) % 3
TAGS = TokenLabels([list(np.random.default_rng(n + 9).integers(0, 3, n)) for n in LENGTHS])
SPARSE = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def batches_of(batch_size, labels=LABELS, weights=None):
    options = {"batch_size": batch_size, "buckets": (8,), "shuffle": False, "inputs": ("token_ids",)}
    return PaddedBatches(TEXTS, labels, weights, **options)


def classifier(rate=0.0):
    keras.utils.set_random_seed(3)
    ids = keras.Input((None,), dtype="int32", name="token_ids")
    x = keras.layers.Embedding(12, 6, name="token_embedding")(ids)
    x = keras.layers.Dropout(rate)(keras.layers.GlobalAveragePooling1D()(x))
    return TrainableModel({"token_ids": ids}, keras.layers.Dense(3)(x))


def tagger(layer):
    keras.utils.set_random_seed(3)
    ids = keras.Input((None,), dtype="int32", name="token_ids")
    x = keras.layers.Embedding(12, 6, name="token_embedding")(ids)
    return TrainableModel({"token_ids": ids}, layer(keras.layers.Dense(3)(x)))


def trained(model, loss, batches, transforms=(), optimizer=None, epochs=1):
    """The curve and the weights after it; one SGD step of rate 1 where all rows are one batch."""
    model.compile(optimizer or keras.optimizers.SGD(1.0), loss, transforms=list(transforms))
    curve = model.fit(batches, epochs=epochs, verbose=0, shuffle=False).history
    return curve, [keras.ops.convert_to_numpy(v) for v in model.trainable_variables]


def check_same(first, second, tolerance=1e-6):
    np.testing.assert_allclose(first[0]["loss"], second[0]["loss"], rtol=tolerance, atol=tolerance)
    for one, other in zip(first[1], second[1], strict=True):
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)


LOSSES = {
    "keras": SPARSE,
    "by name": "sparse_categorical_crossentropy",
    "function": lambda y, p: keras.losses.sparse_categorical_crossentropy(y, p, from_logits=True),
    "weighted mean": keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="mean_with_sample_weight"),
    "sum": keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="sum"),
    "focal": FocalLoss(),
    "dice": DiceLoss(),
    "dice of the batch": DiceLoss(level="batch"),
}


@pytest.mark.parametrize("name", LOSSES)
def test_a_padded_batch_steps_as_an_unpadded_one(name):
    """10 rows in a batch of 10, and of 32 with 22 rows of padding."""
    check_same(*(trained(classifier(), LOSSES[name], batches_of(size)) for size in (10, 32)))


def test_the_value_is_the_mean_that_numpy_finds():
    weights = np.linspace(0.5, 2.0, 10)
    model = classifier()
    model.compile(keras.optimizers.SGD(0.0), SPARSE)
    logits = batches_of(4).restore_order(model.predict(batches_of(4), verbose=0)).astype("float64")
    losses = np.log(np.exp(logits).sum(-1)) - logits[np.arange(10), LABELS]
    for given, expected in ((None, losses.mean()), (weights, (weights * losses).mean())):
        for size in (4, 10, 16):
            batches = batches_of(size, weights=given)
            found = model.fit(batches, validation_data=batches, verbose=0, shuffle=False).history
            np.testing.assert_allclose([*found["loss"], *found["val_loss"]], expected, rtol=1e-6)


def test_several_labels_and_weights_of_rows():
    labels = np.eye(3, dtype="float32")[LABELS]
    weights = np.linspace(0.5, 2.0, 10)
    for loss in (keras.losses.BinaryCrossentropy(from_logits=True), SmoothF1Crossentropy("macro")):
        check_same(*(trained(classifier(), loss, batches_of(size, labels, weights)) for size in (10, 32)))


@pytest.mark.parametrize("make", [lambda: IndependentTags(), lambda: ConditionalRandomField()], ids=["tokens", "paths"])
def test_tags_of_tokens_and_of_paths(make):
    """Rows hold 3 to 8 tokens: the mean of a loss of tokens is over tokens, also over an epoch, of paths over texts."""
    layers = [make() for _ in range(3)]
    padded, whole, parts = (
        trained(tagger(layer), layer.loss, batches_of(size, TAGS), transforms)
        for layer, size, transforms in zip(layers, (32, 10, 16), ([], [], [GradientAccumulation(4)]))
    )
    check_same(padded, whole)
    check_same(parts, whole, 2e-6)
    layer = make()
    standing = trained(tagger(layer), layer.loss, batches_of(4, TAGS), optimizer=keras.optimizers.SGD(0.0))
    np.testing.assert_allclose(standing[0]["loss"], whole[0]["loss"], rtol=1e-6)


TRANSFORMS = {
    "parts": [GradientAccumulation(4)],
    "fgm": [FGM(0.1)],
    "penalty": [GradientPenalty(0.5)],
    "r_drop": [RDrop(4.0)],
    "flooding": [Flooding(0.9, per_sample=True)],
    "fgm in parts": [FGM(0.0), GradientAccumulation(4)],
}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_transforms_see_the_mean_over_examples(name):
    """The batch of 16 rows has 4 parts, of which the third holds 2 examples and the last one none."""
    rate = 1e-9 if name == "r_drop" else 0.0  # as good as none; R-Drop asks for some
    padded = trained(classifier(rate), SPARSE, batches_of(16), TRANSFORMS[name])
    plain = [] if "parts" in name else TRANSFORMS[name]
    check_same(padded, trained(classifier(rate), SPARSE, batches_of(10), plain), 2e-6)


def test_several_batches_in_one_update_weigh_by_their_examples():
    """Batches of 4, 4 and 2 rows give the step of the 10."""
    gathered = AccumulateGradients(keras.optimizers.SGD(1.0), steps=3)
    check_same(
        trained(classifier(), SPARSE, batches_of(4), optimizer=gathered),
        trained(classifier(), SPARSE, batches_of(10)),
        2e-6,
    )


def test_several_outputs():
    def model():
        keras.utils.set_random_seed(3)
        ids = keras.Input((None,), dtype="int32", name="token_ids")
        x = keras.layers.GlobalAveragePooling1D()(keras.layers.Embedding(12, 6)(ids))
        return TrainableModel({"token_ids": ids}, {name: keras.layers.Dense(3, name=name)(x) for name in "ab"})

    class Twice(PaddedBatches):
        def _item(self, index):
            inputs, labels, weights = super()._item(index)
            return inputs, {"a": labels, "b": labels}, weights

    options = {"buckets": (8,), "shuffle": False, "inputs": ("token_ids",)}
    found = [
        trained(model(), {"a": SPARSE, "b": FocalLoss()}, Twice(TEXTS, LABELS, batch_size=size, **options), transforms)
        for size, transforms in ((10, []), (32, []), (16, [GradientAccumulation(4)]))
    ]
    for other in found[1:]:
        check_same(found[0], other, 2e-6)
    np.testing.assert_allclose(found[1][0]["b_loss"], found[0][0]["b_loss"], rtol=1e-6)


def test_plain_data_keep_the_mean_of_keras():
    """Arrays with weights of 0 are divided by their number, also after padded data."""
    model = classifier()
    model.compile(keras.optimizers.SGD(0.0), SPARSE)
    x = {"token_ids": np.ones((4, 3), "int32")}
    weights = np.array([1.0, 0.0, 1.0, 0.0], "float32")
    y = np.array([0, 1, 0, 1])
    model.fit(batches_of(16), verbose=0, shuffle=False)
    alone = model.evaluate(x, y, verbose=0)
    first = model.evaluate({"token_ids": x["token_ids"][:1]}, y[:1], verbose=0)
    half = model.fit(x, y, sample_weight=weights, batch_size=4, verbose=0, shuffle=False).history["loss"][0]
    assert half == pytest.approx(first / 2, rel=1e-5)
    assert alone != pytest.approx(half, rel=1e-3)


def test_models_with_a_head_too():
    config = qf.BackboneConfig(
        vocab_size=12, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8,
        max_position_embeddings=16, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    model = qf.NextSentencePrediction(config)
    model.compile(keras.optimizers.SGD(0.0), SPARSE)
    options = {"buckets": (8,), "shuffle": False}
    losses = [
        model.evaluate(PaddedBatches(TEXTS, LABELS % 2, batch_size=size, **options), verbose=0) for size in (10, 32)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
