"""The multi-label losses against bert4keras, loops, differences, and each other."""

import numpy as np
import pytest

import tests.references.losses as reference
from qingformer.errors import ConfigError
from qingformer.losses import MultilabelCategoricalCrossentropy, SparseMultilabelCategoricalCrossentropy
from tests.losses.support import again, check, padded, recorded, value_and_gradient, values

GENERATOR = np.random.default_rng(0)
SCORES = GENERATOR.normal(size=(6, 9)) * 2
HARD = (GENERATOR.random((6, 9)) < 0.4).astype("float64")
SOFT = np.where(GENERATOR.random((6, 9)) < 0.7, GENERATOR.random((6, 9)), HARD)
WEIGHTS = np.array([1.0, 0.5, 2.0, 0.0, 1.0, 3.0])


@pytest.mark.parametrize("labels", [HARD, SOFT], ids=["hard", "soft"])
def test_by_loops(labels):
    check(
        MultilabelCategoricalCrossentropy(), labels, SCORES,
        lambda x: (WEIGHTS * reference.zlpr(labels, x)).sum() / 6, WEIGHTS,
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["", "soft_", "masked_", "large_"])
def test_dense_equals_bert4keras(kind):
    found = recorded("multilabel_categorical_crossentropy")
    scores = found[f"{kind}scores" if kind in ("masked_", "large_") else "scores"]
    labels = found[f"{kind}labels" if kind in ("soft_", "masked_") else "labels"]
    loss = MultilabelCategoricalCrossentropy(reduction="none")
    labels, scores = padded(labels, 6), padded(scores, 6)
    np.testing.assert_allclose(values(loss, labels, scores)[:5], found[f"{kind}loss"], rtol=1e-6)
    if f"{kind}gradient_of_sum" in found:
        _, gradient = value_and_gradient(loss, labels, scores)
        np.testing.assert_allclose(gradient[:5], found[f"{kind}gradient_of_sum"], atol=1e-6)


def test_sparse_equals_bert4keras():
    """Its own sparse form is exact to 3e-5 only, and clips at large scores: there the dense form is what is right."""
    found = recorded("sparse_multilabel_categorical_crossentropy")
    loss = SparseMultilabelCategoricalCrossentropy(reduction="none")
    ids, scores = padded(found["positive_ids"], 6), padded(found["scores"], 6)
    value = values(loss, ids, scores)[:5]
    np.testing.assert_allclose(value, found["dense_loss"], rtol=1e-6)
    np.testing.assert_allclose(value, found["loss"], atol=5e-5)
    np.testing.assert_allclose(value_and_gradient(loss, ids, scores)[1][:5], found["gradient_of_sum"], atol=5e-5)
    large = padded(found["large_scores"], 6)
    dense = values(MultilabelCategoricalCrossentropy(reduction="none"), padded(found["dense_labels"], 6), large)
    np.testing.assert_allclose(values(loss, ids, large)[:5], dense[:5], rtol=1e-6)
    assert np.abs(dense[:5] - found["large_loss"]).max() > 1  # the original's clip
    loss = SparseMultilabelCategoricalCrossentropy(mask_zero=True, reduction="none")
    ids = padded(found["positive_ids_zero_padded"], 6)
    np.testing.assert_allclose(values(loss, ids, scores)[:5], found["loss_mask_zero"], atol=5e-5)
    rows = padded(found["positive_ids_3d_zero_padded"].reshape(6, 3).T, 4).T
    value = values(loss, rows, found["scores_3d"].reshape(6, 9))
    np.testing.assert_allclose(value, found["loss_3d_mask_zero"].ravel(), atol=5e-5)


def test_sparse_is_dense_with_twins_and_padding():
    ids = np.array([[1, 1, -1, 8], [0, 4, 0, 4], [-1, -1, -100, -1], [2, 3, 4, 5], [0, 0, 0, 0], [3, 2, 1, 0]])
    labels = np.zeros((6, 9))
    for row, indices in enumerate(ids):
        labels[row, indices[indices >= 0]] = 1
    dense, sparse = MultilabelCategoricalCrossentropy(), SparseMultilabelCategoricalCrossentropy()
    value, gradient = value_and_gradient(dense, labels, SCORES, WEIGHTS)
    found, slopes = value_and_gradient(sparse, ids, SCORES, WEIGHTS)
    assert found == pytest.approx(value, rel=1e-6)
    np.testing.assert_allclose(slopes, gradient, atol=1e-7)
    hidden = SCORES.copy()
    hidden[:, 0] = -np.inf
    zero = SparseMultilabelCategoricalCrossentropy(mask_zero=True)
    assert values(zero, ids, SCORES) == pytest.approx(values(dense, labels, hidden), rel=1e-6)


def test_sparse_without_any_number_and_with_numbers_of_no_class():
    dense, sparse = MultilabelCategoricalCrossentropy(), SparseMultilabelCategoricalCrossentropy()
    value, gradient = value_and_gradient(dense, np.zeros((6, 9)), SCORES, WEIGHTS)
    for none in (np.zeros((6, 0)), np.full((6, 1), -1), np.full((6, 2), 9)):
        found, slopes = value_and_gradient(sparse, none, SCORES, WEIGHTS)
        assert found == pytest.approx(value, rel=1e-6)
        np.testing.assert_allclose(slopes, gradient, atol=1e-7)


def test_a_positive_of_any_size_is_out_of_the_other_sum():
    scores = np.array([[np.inf, 1.0, 2.0], [1e30, 1.0, 2.0], [1e12, 1.0, 2.0]])
    wanted = np.log(1 + np.exp(1.0) + np.exp(2.0))
    sparse = SparseMultilabelCategoricalCrossentropy(reduction="none")
    np.testing.assert_allclose(values(sparse, np.zeros((3, 1)), scores), [wanted] * 3, rtol=1e-6)


def test_spans_on_two_axes():
    """Two heads of 3 x 3 scores, masked below the diagonal; a pair with a negative number fills up the list."""
    scores = np.where(np.tri(3, k=-1), -np.inf, GENERATOR.normal(size=(2, 2, 3, 3)))
    pairs = np.array([[[[0, 1], [2, 2]], [[1, 1], [1, -1]]], [[[-1, -1], [-1, -1]], [[0, 0], [0, 2]]]])
    labels = np.zeros((2, 2, 3, 3))
    for index in np.ndindex(2, 2, 2):
        start, end = pairs[index]
        if min(start, end) >= 0:
            labels[(*index[:2], start, end)] = 1
    wanted = reference.zlpr(labels.reshape(4, 9), scores.reshape(4, 9)).reshape(2, 2)
    weighted = (wanted * [[2.0], [0.5]]).sum() / 4
    for kind, given in (MultilabelCategoricalCrossentropy, labels), (SparseMultilabelCategoricalCrossentropy, pairs):
        assert values(kind(class_axes=2), given, scores, np.array([2.0, 0.5])) == pytest.approx(weighted, rel=1e-5)


def test_places_in_a_table_that_is_not_square():
    scores, labels = GENERATOR.normal(size=(1, 2, 3)), np.zeros((1, 2, 3))
    labels[0, 1, 0] = labels[0, 0, 2] = 1
    loss = SparseMultilabelCategoricalCrossentropy(class_axes=2)
    wanted = values(MultilabelCategoricalCrossentropy(class_axes=2), labels, scores)
    assert values(loss, np.array([[[1, 0], [0, 2]]]), scores) == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("sparse", [False, True])
def test_extreme_and_hidden_scores_give_numbers(sparse, dtype):
    rows = np.full((6, 9), -np.inf)
    rows[0, :5] = [1e4, -1e4, 0, 0, 0]
    rows[1, :5] = [-1e4, 1e4, 0, 1e4, 0]
    rows[2, :5] = [-np.inf, 1.0, 2.0, -np.inf, -1e12]
    rows[3, :5] = [1e4, 1e4, 1e4, -np.inf, -1e30]
    labels = np.zeros((6, 9))
    labels[:, [0, 3]] = 1
    ids = np.array([[0, 3, 3, -1]] * 6)
    loss = SparseMultilabelCategoricalCrossentropy() if sparse else MultilabelCategoricalCrossentropy()
    loss.reduction = "none"
    found = values(loss, ids if sparse else labels, rows)
    wanted = [np.log(2) + np.log(3), 2e4, np.log(1 + np.e + np.e**2), 1e4 + np.log(2), 0, 0]
    np.testing.assert_allclose(found, wanted, rtol=1e-6)
    value, gradient = value_and_gradient(loss, ids if sparse else labels, rows, dtype=dtype)
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()
    assert not gradient[rows < -1e11].any()


@pytest.mark.parametrize("loss", [MultilabelCategoricalCrossentropy(2), SparseMultilabelCategoricalCrossentropy(True)])
def test_serialised(loss):
    assert again(loss).get_config() == loss.get_config()


def test_arguments_that_cannot_be():
    with pytest.raises(ConfigError, match="class_axes is 0"):
        SparseMultilabelCategoricalCrossentropy(class_axes=0)
