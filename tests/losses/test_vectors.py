"""Losses that compare vectors, against bert4keras and loops; rows of padding take no part."""

import keras
import numpy as np
import pytest

import tests.references.losses as reference
from qingformer.errors import ConfigError
from qingformer.losses import CoSENT, InfoNCE, TripletLoss
from tests.losses.support import again, arrays, check, numpy, padded, recorded, value_and_gradient, values

GENERATOR = np.random.default_rng(0)
VECTORS = GENERATOR.normal(size=(6, 4))
PAIRS = VECTORS.reshape(3, 2, 4)
TRIPLES = GENERATOR.normal(size=(3, 3, 4))
GRADES = np.array([2.0, 0.5, 3.0])
TAKEN = np.array([1.0, 0.0, 1.0])


def euclidean(u, v):
    return float(np.linalg.norm(u - v))


def one_minus_cosine(u, v):
    return 1 - reference.cosine(u, v)


@pytest.mark.parametrize("kind", ["binary", "graded", "all_equal"])
def test_cosent_equals_bert4keras(kind):
    """Filled up to 16 rows with rows of weight 0, which change nothing."""
    found = recorded("cosent")
    vectors, labels = found[f"{kind}_vectors"], found[f"{kind}_labels"]
    weights = padded(np.ones(len(vectors)), 16)
    value, gradient = value_and_gradient(CoSENT(), padded(np.repeat(labels, 2), 16), padded(vectors, 16), weights)
    assert value == pytest.approx(float(found[f"{kind}_loss"]), rel=1e-6)
    np.testing.assert_allclose(gradient, padded(found[f"{kind}_gradient"], 16), atol=1e-5)


def test_cosent_by_loops_in_its_layouts():
    weights = np.array([1.0, 0.5, 2.0])
    wanted = reference.cosent(GRADES, PAIRS, weights, 5.0)
    rows = np.repeat(GRADES, 2)
    check(
        CoSENT(5.0), rows, VECTORS, lambda x: reference.cosent(GRADES, x.reshape(3, 2, 4), weights, 5.0),
        np.repeat(weights, 2),
    )  # fmt: skip
    rows[1::2] = 9  # the label of a pair is that of its first row
    assert values(CoSENT(5.0), rows, VECTORS, np.repeat(weights, 2)) == pytest.approx(wanted, rel=1e-5)
    pairs = CoSENT(5.0, "pairs")
    assert values(pairs, GRADES, PAIRS, weights) == pytest.approx(wanted, rel=1e-5)
    both = arrays((GRADES, PAIRS[:, 0], PAIRS[:, 1], weights))
    assert float(pairs(both[0], both[1:3], both[3])) == pytest.approx(wanted, rel=1e-5)
    scores = [[reference.cosine(*pair)] for pair in PAIRS]
    assert values(CoSENT(5.0, "scores"), GRADES, scores, weights) == pytest.approx(wanted, rel=1e-5)


def test_cosent_knows_only_the_order_of_labels():
    loss = CoSENT(5.0, "scores")
    scores = np.array([0.1, 0.9, 0.4])
    wanted = values(loss, GRADES, scores)
    assert values(loss, np.exp(GRADES) - 7, scores) == pytest.approx(wanted, rel=1e-6)
    assert values(loss, GRADES, scores + 0.3) == pytest.approx(wanted, rel=1e-5)
    assert values(loss, GRADES, GRADES * 50) == pytest.approx(0, abs=1e-6)
    assert values(loss, [1.0, 1.0, 1.0], scores) == 0


def test_a_pair_of_weight_zero_is_as_if_not_there():
    wanted = reference.cosent(GRADES[[0, 2]], PAIRS[[0, 2]], [1, 1], 20.0)
    value, gradient = value_and_gradient(CoSENT(), np.repeat(GRADES, 2), VECTORS, np.repeat(TAKEN, 2))
    assert value == pytest.approx(wanted, rel=1e-5)
    assert not gradient[2:4].any()


@pytest.mark.parametrize(("symmetric", "negatives"), [(False, "across"), (True, "across"), (False, "all")])
def test_info_nce_by_loops(symmetric, negatives):
    def wanted(x, taken=(1, 1, 1)):
        groups = x.reshape(3, 2, 4)
        rows = reference.info_nce(groups, 0.3, taken, negatives)
        if symmetric or negatives == "all":
            rows = (rows + reference.info_nce(groups[:, ::-1], 0.3, taken, negatives)) / 2
        return (rows * taken).sum() / sum(taken)

    loss = again(InfoNCE(0.3, symmetric=symmetric, negatives=negatives))
    check(loss, np.zeros(6), VECTORS, wanted)
    padded = values(loss, np.zeros(6), VECTORS, np.repeat(TAKEN, 2))
    assert padded == pytest.approx(wanted(VECTORS, TAKEN), rel=1e-5)


def test_info_nce_with_hard_negatives():
    """In the other direction they do not count."""

    def wanted(x):
        rows = reference.info_nce(x, 0.3, TAKEN) + reference.info_nce(x[:, 1::-1], 0.3, TAKEN)
        return (rows / 2 * TAKEN).sum() / TAKEN.sum()

    check(InfoNCE(0.3, "pairs", symmetric=True), np.zeros(3), TRIPLES, wanted, TAKEN)


@pytest.mark.parametrize("margin", [0.2, None])
@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
def test_triplets_by_loops(distance, margin):
    between = {"cosine": one_minus_cosine, "euclidean": euclidean}[distance]

    def cost(gap):
        return np.log1p(np.exp(gap)) if margin is None else max(0.0, gap + margin)

    labels, taken = np.array([0, 0, 1, 1, 2, 0]), np.array([1, 1, 1, 1, 1, 0])
    hard = again(TripletLoss(margin, distance))
    check(hard, labels, VECTORS, lambda x: reference.batch_hard(labels, x, taken, between, cost), taken)
    given = TripletLoss(margin, distance, "triplets")
    check(
        given, np.zeros(3), TRIPLES,
        lambda x: np.mean([cost(between(a, p) - between(a, n)) for a, p, n in x]),
    )  # fmt: skip


def test_anchors_without_partner_or_opponent_cost_nothing():
    for labels in ([0] * 6, [0, 1, 2, 3, 4, 5], [-1] * 6):
        value, gradient = value_and_gradient(TripletLoss(), labels, VECTORS)
        assert value == 0
        assert not gradient.any()
    weighted = values(TripletLoss(), [0, 0, 1, 1, 2, 2], VECTORS, [1, 1, 1, 1, 0, 0])
    unlabelled, gradient = value_and_gradient(TripletLoss(), [0, 0, 1, 1, -1, -1], VECTORS)
    assert unlabelled == pytest.approx(weighted, rel=1e-6)
    assert not gradient[4:].any()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    "loss", [CoSENT(), InfoNCE(0.01, negatives="all"), TripletLoss(), TripletLoss(None, "euclidean")]
)
@pytest.mark.parametrize("size", [0.0, 1.0, 1e4])
def test_equal_zero_and_long_vectors_give_numbers(loss, size, dtype):
    rows = np.full((6, 4), size)
    rows[4:] *= -1
    value, gradient = value_and_gradient(loss, [0, 0, 1, 1, 0, 0], rows, dtype=dtype)
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()


def test_extreme_scores_give_numbers():
    value, gradient = value_and_gradient(CoSENT(1.0, "scores"), [0, 1, 2], [1e4, -1e4, -np.inf])
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("loss", [CoSENT(3.0, "pairs"), InfoNCE(0.1, "pairs", True), TripletLoss(None, "euclidean")])
def test_serialised(loss):
    assert again(loss).get_config() == loss.get_config()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CoSENT(0), "scale is 0"),
        (lambda: CoSENT(layout="columns"), "choose one of rows, pairs, scores"),
        (lambda: InfoNCE(temperature=0), "temperature is 0"),
        (lambda: InfoNCE(negatives="none"), "choose one of across, all"),
        (lambda: InfoNCE(layout="scores"), "choose one of rows, pairs"),
        (lambda: TripletLoss(-1.0), "margin is -1.0"),
        (lambda: TripletLoss(distance="manhattan"), "choose one of cosine, euclidean"),
        (lambda: CoSENT()(np.zeros(3), np.zeros((3, 4), "float32")), "3 rows do not make pairs"),
        (lambda: CoSENT(layout="pairs")(np.zeros(3), np.zeros((3, 4), "float32")), r"shape \(3, 4\)"),
        (lambda: InfoNCE(layout="pairs")(np.zeros(3), np.zeros((3, 1, 4), "float32")), "nothing to compare"),
        (lambda: TripletLoss(layout="triplets")(np.zeros(3), np.zeros((3, 2, 4), "float32")), r"\(B, 3, d\)"),
    ],
)
def test_arguments_that_cannot_be(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def test_info_nce_has_a_value_for_each_pair():
    loss = InfoNCE(0.3, reduction="none")
    rows = numpy(loss(keras.ops.zeros(6), keras.ops.convert_to_tensor(VECTORS.astype("float32"))))
    np.testing.assert_allclose(rows, reference.info_nce(PAIRS, 0.3, [1, 1, 1]), rtol=1e-5)
