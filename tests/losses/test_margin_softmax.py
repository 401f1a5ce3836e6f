"""Margin losses against bert4keras, loops and differences; the layer of cosines and its constraint."""

import math

import keras
import numpy as np
import pytest

import tests.references.losses as reference
from qingformer.errors import ConfigError
from qingformer.layers import CosineClassifier
from qingformer.losses import AMSoftmax, ArcFace, ASoftmax
from tests.losses.support import again, check, numpy, recorded, value_and_gradient, values

COSINES = np.random.default_rng(0).uniform(-0.95, 0.95, (6, 10))
CLASSES = np.array([0, 9, 2, 2, 7, 3], "int32")


def sphere(theta, m=4):
    k = math.floor(theta * m / math.pi)
    return (-1) ** k * math.cos(m * theta) - 2 * k


MARGINS = {
    "none": (AMSoftmax(10, 0), math.cos),
    "am": (AMSoftmax(10, 0.2), lambda theta: math.cos(theta) - 0.2),
    "a": (ASoftmax(3), sphere),
    "a_one": (ASoftmax(10, 1), math.cos),
    "simple_a": (ASoftmax(10, 3, simple=True), lambda theta: min(math.cos(3 * theta), math.cos(theta))),
    "arc": (
        ArcFace(10, 0.4),
        lambda t: math.cos(t + 0.4) if t + 0.4 < math.pi else math.cos(t) - 0.4 * math.sin(0.4),
    ),
}


@pytest.mark.parametrize("name", MARGINS)
def test_by_loops(name):
    loss, psi = MARGINS[name]
    check(loss, CLASSES, COSINES, lambda x: reference.margin_softmax(CLASSES, x, loss.scale, psi).mean())
    one_hot, column = np.eye(10)[CLASSES], CLASSES[:, None]
    wanted = values(loss, CLASSES, COSINES)
    assert values(again(loss), one_hot, COSINES) == pytest.approx(wanted, rel=1e-6)
    assert values(loss, column, COSINES) == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize("name", MARGINS)
def test_the_form_that_sums_over_all_classes_is_the_same(name):
    loss, _ = MARGINS[name]
    sparse = again(loss)
    sparse.from_all_classes = True
    value, gradient = value_and_gradient(loss, CLASSES, COSINES)
    found, slopes = value_and_gradient(sparse, CLASSES, COSINES)
    assert found == pytest.approx(value, rel=1e-4, abs=1e-4)
    np.testing.assert_allclose(slopes, gradient, atol=2e-3)


@pytest.mark.parametrize(
    ("loss", "name"),
    [
        (AMSoftmax(30, 0), "softmax_loss"),
        (AMSoftmax(), "amsoftmax_loss"),
        (AMSoftmax(from_all_classes=True), "amsoftmax_loss"),
        (AMSoftmax(20, 0.2), "amsoftmax_loss_scale_20_margin_02"),
        (ASoftmax(simple=True), "simpler_asoftmax_loss"),
    ],
)
def test_equals_bert4keras(loss, name):
    found = recorded("margin_softmax")
    loss.reduction = "none"
    np.testing.assert_allclose(values(loss, found["labels"], found["cosines"]), found[name], rtol=1e-5)
    slope = name.replace("_loss", "_gradient_of_sum")
    if slope in found:
        _, gradient = value_and_gradient(loss, found["labels"], found["cosines"])
        np.testing.assert_allclose(gradient, found[slope], rtol=1e-4, atol=2e-4)


@pytest.mark.parametrize("name", ["am", "a", "simple_a", "arc"])
def test_psi_is_below_the_cosine_and_falls(name):
    loss, psi = MARGINS[name]
    angles = np.linspace(0.01, np.pi - 0.01, 200)
    found = numpy(loss.margin_cosine(keras.ops.convert_to_tensor(np.cos(angles).astype("float32"))))
    np.testing.assert_allclose(found, [psi(t) for t in angles], atol=2e-4)
    assert (found < np.cos(angles) + 1e-6).all()
    if name != "simple_a":  # whose point is to be cheaper, not to fall all the way
        assert (np.diff(found) < 1e-6).all()


def test_a_true_class_far_ahead_leaves_the_smallest_difference_that_is_kept():
    loss = AMSoftmax(64, from_all_classes=True)
    assert values(loss, [0], [[1.0, -1.0, -1.0]]) == pytest.approx(64 + math.log(1e-7) - 64 * (1 - 0.35), rel=1e-4)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("loss", [*(loss for loss, _ in MARGINS.values()), AMSoftmax(64, from_all_classes=True)])
def test_cosines_of_one_give_numbers(loss, dtype):
    cosines = np.ones((6, 10))
    cosines[1:3] = -1
    cosines[3, :3] = -np.inf
    cosines[4] = 0
    value, gradient = value_and_gradient(loss, [0, 1, -1, 4, 0, 0], cosines, dtype=dtype)
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()
    assert not gradient[2].any()  # no class, no cost


def test_the_layer_gives_cosines_and_its_columns_keep_length_one():
    x = np.random.default_rng(1).normal(size=(6, 3)).astype("float32")
    layer = CosineClassifier(10)
    inputs = keras.Input((3,))
    model = keras.Model(inputs, layer(inputs))
    kernel = numpy(layer.kernel)
    wanted = [[reference.cosine(row, column) for column in kernel.T] for row in x]
    np.testing.assert_allclose(numpy(model(x)), wanted, atol=1e-6)
    model.compile(keras.optimizers.SGD(0.5), AMSoftmax(10, 0.1))
    losses = model.fit(x, CLASSES, batch_size=6, epochs=6, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    np.testing.assert_allclose(np.linalg.norm(numpy(layer.kernel), axis=0), 1, atol=1e-5)


def test_the_layer_in_half_precision_and_from_its_configuration():
    layer = CosineClassifier(5, dtype="mixed_bfloat16")
    outputs = layer(keras.ops.zeros((2, 3), dtype="bfloat16"))
    assert keras.backend.standardize_dtype(outputs.dtype) == "float32"
    assert not numpy(outputs).any()
    assert CosineClassifier.from_config(layer.get_config()).num_classes == 5
    assert layer.compute_output_spec(keras.KerasTensor((None, 3))).shape == (None, 5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: AMSoftmax(0), "scale is 0"),
        (lambda: AMSoftmax(margin=-0.1), "AMSoftmax: margin is -0.1"),
        (lambda: ArcFace(margin=4), "ArcFace: margin is 4; it must be in"),
        (lambda: ASoftmax(multiple=0), "whole number"),
        (lambda: CosineClassifier(1), "num_classes is 1"),
    ],
)
def test_arguments_that_cannot_be(make, message):
    with pytest.raises(ConfigError, match=message):
        make()
