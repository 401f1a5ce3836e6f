"""The two routes to weighted cross-entropy agree: the gradient of a smooth score, and the loss that replaces it."""

import numpy as np
from keras import ops

from qingformer import backend
from qingformer.losses import LogitAdjustedCrossentropy, SmoothF1Crossentropy
from qingformer.losses.smooth_f1 import smooth_f1
from tests.conftest import slow_on_jax
from tests.losses.support import arrays, numpy, value_and_gradient

GENERATOR = np.random.default_rng(0)
LOGITS = GENERATOR.normal(size=(6, 1)) * 2
BITS = np.array([1, 0, 0, 1, 1, 0], "float64")[:, None]
P = 1 / (1 + np.exp(-LOGITS))
TRUE = np.where(BITS > 0, P, 1 - P)  # the probability given to what is true


def slope_in_logits(score):
    return numpy(backend.value_and_grad(lambda x: score(ops.sigmoid(x)))(arrays(LOGITS))[1])


def test_gradient_of_smooth_f1_is_the_formula():
    bits, ones = arrays((BITS, np.ones((6, 1))))
    value, gradient = backend.value_and_grad(lambda p: smooth_f1(bits, p, ones))(arrays(P))
    half = (BITS * P).sum() / (BITS + P).sum()
    np.testing.assert_allclose(float(value), 2 * half, rtol=1e-6)
    np.testing.assert_allclose(numpy(gradient), 2 * (BITS - half) / (BITS + P).sum(), rtol=1e-5)


def test_smooth_accuracy_becomes_cross_entropy():
    """Replace dp by d log p, -dp by d log(1 - p): divide each example's gradient by its true probability."""
    bits = arrays(BITS)
    accuracy = slope_in_logits(lambda p: ops.mean(bits * p + (1.0 - bits) * (1.0 - p)))
    np.testing.assert_allclose(-accuracy / TRUE, (P - BITS) / 6, atol=1e-6)


def test_smooth_f1_becomes_weighted_cross_entropy():
    """The factor 2 / sum(y + p), common to all examples, is dropped."""
    bits, ones = arrays((BITS, np.ones((6, 1))))
    score = slope_in_logits(lambda p: smooth_f1(bits, p, ones))
    _, gradient = value_and_gradient(SmoothF1Crossentropy(), BITS, LOGITS)
    np.testing.assert_allclose(-score / TRUE * (BITS + P).sum() / 2 / 6, gradient, atol=1e-6)


@slow_on_jax
def test_at_the_optimum_adjusted_logits_are_the_mutual_information():
    """Texts of two kinds with known p(y | x): the gradient vanishes at s = log p(x | y)."""
    joint = np.array([[0.5, 0.1], [0.1, 0.3]])  # p(x, y), x in rows
    prior = joint.sum(0)
    rows, labels = np.repeat(np.arange(2), 2), np.tile(np.arange(2), 2)
    scores = np.log(joint / prior)[rows]
    loss = LogitAdjustedCrossentropy(prior.tolist(), reduction="sum")
    _, gradient = value_and_gradient(loss, labels, scores, joint.ravel())
    for kind in range(2):
        np.testing.assert_allclose(gradient[rows == kind].sum(0), 0, atol=1e-6)
    _, plain = value_and_gradient(LogitAdjustedCrossentropy([1.0, 1.0], reduction="sum"), labels, scores, joint.ravel())
    assert np.abs(plain[rows == 0].sum(0)).max() > 0.01
