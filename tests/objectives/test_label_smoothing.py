"""Label smoothing against Keras' dense cross entropy with its own `label_smoothing`."""

import keras
import numpy as np
import pytest
from keras import ops

from qingformer.errors import ConfigError
from qingformer.objectives import LabelSmoothing, RDrop, TrainableModel
from tests.objectives.conftest import CLASSES, VOCABULARY, build, cross_entropy
from tests.objectives.test_fgm import evaluate


@pytest.mark.parametrize("column", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_it_is_the_dense_loss_with_smoothed_labels(rows, weighted, column):
    x, y = rows
    weights = (np.arange(len(x)) % 3).astype("float32") if weighted else None
    model = build()
    model.compile("sgd", cross_entropy())
    found = evaluate(model, [LabelSmoothing(0.2)], x, y[:, None] if column else y, weights)
    dense = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.2)
    model.compile("sgd", dense)
    expected = evaluate(model, [], x, np.eye(CLASSES, dtype="float32")[y], weights)
    assert found[0] == pytest.approx(expected[0], rel=1e-5)
    assert float(found[2].loss) == pytest.approx(found[0])
    for a, b in zip(found[1], expected[1]):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def tagger(activation=None):
    keras.utils.set_random_seed(3)
    ids = keras.Input((None,), dtype="int32")
    x = keras.layers.Embedding(VOCABULARY, 3, mask_zero=True)(ids)
    return TrainableModel(ids, keras.layers.Dense(CLASSES, activation=activation, name="tags")(x))


def test_weights_are_not_changed_by_an_evaluation(rows):
    """On torch, Keras multiplies the weights by the mask in place; a second pass would see them twice masked."""
    x, _ = rows
    model = tagger()
    model.compile("sgd", cross_entropy())
    weights = ops.convert_to_tensor(np.linspace(0, 1, x.size).reshape(x.shape).astype("float32"))
    first, again = (evaluate(model, [], x, x % CLASSES, weights)[0] for _ in range(2))
    assert first == again


@pytest.mark.parametrize("activation", [None, "softmax"])
def test_sequences_with_masks_an_ignored_class_and_weights(rows, activation):
    x, _ = rows
    y = np.where(x % 3 == 1, -100, x % CLASSES).astype("int32")
    weights = np.linspace(0, 1, x.size).reshape(x.shape).astype("float32")
    model = tagger(activation)
    logits = activation is None
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=logits, ignore_class=-100))
    loss, gradients, aux = evaluate(model, [LabelSmoothing(0.1)], x, y, weights)
    z = ops.convert_to_numpy(aux.predictions).astype("float64")
    logs = z - np.log(np.exp(z).sum(-1, keepdims=True)) if logits else np.log(z)
    target = 0.9 * np.eye(CLASSES)[np.maximum(y, 0)] + 0.1 / CLASSES
    counted = (x != 0) & (y != -100)
    expected = -((target * logs).sum(-1) * weights)[counted].sum() / counted.sum()
    assert loss == pytest.approx(expected, rel=1e-4)
    assert all(np.isfinite(g).all() for g in gradients)


def test_rate_zero_is_the_plain_loss_and_it_goes_with_r_drop(rows):
    model = build(dropout=0.3)
    model.compile("sgd", cross_entropy())
    assert evaluate(model, [LabelSmoothing(0.0)], *rows)[0] == pytest.approx(evaluate(model, [], *rows)[0])
    smoothed, agreeing, both = (
        evaluate(model, t, *rows)[0] for t in ([LabelSmoothing(0.1)], [RDrop(1.0)], [LabelSmoothing(0.1), RDrop(1.0)])
    )
    assert both not in (agreeing, smoothed)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(LabelSmoothing(0.3)))
    assert again.rate == 0.3


def test_errors():
    with pytest.raises(ConfigError, match="LabelSmoothing: rate is 1"):
        LabelSmoothing(1.0)
    with pytest.raises(ConfigError, match=r"no output has a sparse.*logits: categorical_crossentropy"):
        build().compile("sgd", "categorical_crossentropy", transforms=[LabelSmoothing()])
