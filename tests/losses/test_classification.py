"""Losses of one class for each row, and of labels decided one by one, against loops; their promises."""

import keras
import numpy as np
import pytest

import tests.references.losses as reference
from qingformer.errors import ConfigError
from qingformer.losses import (
    DiceLoss,
    FocalLoss,
    LabelSmoothedCrossentropy,
    LogitAdjustedCrossentropy,
    SmoothF1Crossentropy,
    named_loss,
)
from tests.losses.support import again, check, numpy, value_and_gradient, values

GENERATOR = np.random.default_rng(0)
LOGITS = GENERATOR.normal(size=(6, 5)).astype("float32") * 2
CLASSES = np.array([0, 4, 2, 2, 1, 3], "int32")
BITS = (GENERATOR.random((6, 5)) < 0.4).astype("float64")
WEIGHTS = np.array([1.0, 0.5, 2.0, 0.0, 1.0, 3.0])
PRIOR = [0.5, 0.2, 0.15, 0.1, 0.05]
ALPHA = [0.1, 0.2, 0.3, 0.4, 1.0]

ONE_CLASS = {
    "focal": (FocalLoss(), lambda x: reference.focal(CLASSES, x)),
    "focal_flat": (FocalLoss(0.0), lambda x: reference.focal(CLASSES, x, 0.0)),
    "focal_alpha": (FocalLoss(0.5, ALPHA), lambda x: reference.focal(CLASSES, x, 0.5, ALPHA)),
    "smoothed": (LabelSmoothedCrossentropy(0.2), lambda x: reference.label_smoothed(CLASSES, x, 0.2)),
    "adjusted": (LogitAdjustedCrossentropy(PRIOR, 0.7), lambda x: reference.logit_adjusted(CLASSES, x, PRIOR, 0.7)),
    "dice": (DiceLoss(), lambda x: reference.dice(CLASSES, x, 1.0, 1.0)),
    "dice_plain": (DiceLoss(0.0, 0.5), lambda x: reference.dice(CLASSES, x, 0.0, 0.5)),
    "dice_squared": (DiceLoss(0.3, squared=True), lambda x: reference.dice(CLASSES, x, 0.3, 1.0, True)),
}
BIT_BY_BIT = {
    "focal": (FocalLoss(multi_label=True), lambda x: reference.binary_focal(BITS, x)),
    "focal_alpha": (FocalLoss(1.5, 0.25, True), lambda x: reference.binary_focal(BITS, x, 1.5, 0.25)),
    "dice": (DiceLoss(multi_label=True), lambda x: reference.binary_dice(BITS, x, 1.0, 1.0)),
}


@pytest.mark.parametrize("name", ONE_CLASS)
def test_one_class_by_loops(name):
    loss, rows = ONE_CLASS[name]
    check(loss, CLASSES, LOGITS, lambda x: (WEIGHTS * rows(x)).sum() / len(x), WEIGHTS)


@pytest.mark.parametrize("name", BIT_BY_BIT)
def test_bit_by_bit_by_loops(name):
    loss, rows = BIT_BY_BIT[name]
    check(loss, BITS, LOGITS, lambda x: (WEIGHTS * rows(x)).sum() / len(x), WEIGHTS)


@pytest.mark.parametrize("name", ONE_CLASS)
def test_labels_in_every_form_give_the_same(name):
    loss, rows = ONE_CLASS[name]
    loss = again(loss)
    loss.reduction = "none"
    wanted = rows(LOGITS.astype("float64"))
    one_hot = np.eye(5, dtype="float32")[CLASSES]
    for labels in (CLASSES, CLASSES[:, None], CLASSES.astype("float32"), one_hot):
        np.testing.assert_allclose(values(loss, labels, LOGITS), wanted, rtol=1e-5, atol=1e-6)
    unknown = np.where(CLASSES == 2, -1, CLASSES)
    np.testing.assert_allclose(values(loss, unknown, LOGITS), np.where(CLASSES == 2, 0, wanted), rtol=1e-5, atol=1e-6)


def test_a_value_for_each_position_and_a_weight_for_each_row():
    loss, rows = ONE_CLASS["smoothed"]
    positions, indices = LOGITS.reshape(2, 3, 5), CLASSES.reshape(2, 3)
    wanted = (rows(LOGITS.astype("float64")).reshape(2, 3) * [[2.0], [0.5]]).sum() / 6
    assert values(loss, indices, positions, np.array([2.0, 0.5])) == pytest.approx(wanted, rel=1e-5)
    assert values(loss, indices, positions, np.array([[2.0] * 3, [0.5] * 3])) == pytest.approx(wanted, rel=1e-5)


def test_reductions_are_those_of_keras():
    rows = reference.focal(CLASSES, LOGITS)
    for reduction, wanted in (
        ("sum", (WEIGHTS * rows).sum()),
        ("mean_with_sample_weight", (WEIGHTS * rows).sum() / WEIGHTS.sum()),
        ("none", WEIGHTS * rows),
        (None, WEIGHTS * rows),
    ):
        np.testing.assert_allclose(values(FocalLoss(reduction=reduction), CLASSES, LOGITS, WEIGHTS), wanted, rtol=1e-5)


def test_dice_over_the_batch_by_loops():
    check(
        DiceLoss(0.6, level="batch"), CLASSES, LOGITS,
        lambda x: reference.batch_dice(CLASSES, x, WEIGHTS, 0.6, 1.0), WEIGHTS,
    )  # fmt: skip


def test_the_weight_of_dice_can_be_held_constant():
    """With it the true class is driven to probability 1; without, to where (1 - p)^alpha p is largest."""
    sure = np.zeros((6, 5))
    sure[:, 0] = np.log(4), 4, 4, 4, 4, 4  # probability 1/2 in the first row
    literal = value_and_gradient(DiceLoss(), np.zeros(6, "int32"), sure)
    held = value_and_gradient(DiceLoss(detach_weight=True), np.zeros(6, "int32"), sure)
    assert literal[0] == pytest.approx(held[0])
    assert (held[1][1:, 0] < 0).all()
    assert (literal[1][1:, 0] > 0).all()
    assert literal[1][0] == pytest.approx(0, abs=1e-7)


def test_smooth_f1_by_loops():
    score = reference.f1(BITS, LOGITS, WEIGHTS)
    loss = SmoothF1Crossentropy()
    check(loss, BITS, LOGITS, lambda x: (WEIGHTS * reference.smooth_f1(BITS, x, score)).sum() / 6, WEIGHTS)
    one = [reference.f1(BITS[:, [c]], LOGITS[:, [c]], WEIGHTS) for c in range(5)]
    wanted = sum((WEIGHTS * reference.smooth_f1(BITS[:, [c]], LOGITS[:, [c]], one[c])).sum() / 6 for c in range(5)) / 5
    assert values(SmoothF1Crossentropy("macro"), BITS, LOGITS, WEIGHTS) == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("loss", [SmoothF1Crossentropy(), FocalLoss(multi_label=True)])
def test_one_logit_takes_labels_without_an_axis(loss):
    column, bits = LOGITS[:, :1], BITS[:, 0]
    assert values(loss, bits, column) == pytest.approx(values(loss, bits[:, None], column))


def test_rows_of_padding_change_nothing():
    weights = np.array([1.0] * 4 + [0.0] * 2)
    wanted = reference.batch_dice(CLASSES[:4], LOGITS[:4], weights[:4], 1.0, 1.0)
    assert values(DiceLoss(level="batch"), CLASSES, LOGITS, weights) == pytest.approx(wanted, rel=1e-5)
    wanted = reference.smooth_f1(BITS[:4], LOGITS[:4], reference.f1(BITS[:4], LOGITS[:4], weights[:4])).sum()
    assert values(SmoothF1Crossentropy(reduction="sum"), BITS, LOGITS, weights) == pytest.approx(wanted, rel=1e-5)


def test_a_batch_without_positives_has_no_f1():
    value, gradient = value_and_gradient(SmoothF1Crossentropy(), np.zeros((6, 5)), LOGITS)
    assert value == 0
    assert not gradient.any()


def test_limits():
    plain = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    wanted = values(plain, CLASSES, LOGITS)
    for loss in (
        FocalLoss(0.0), LabelSmoothedCrossentropy(0.0), LogitAdjustedCrossentropy(PRIOR, 0.0),
        LogitAdjustedCrossentropy([3.0] * 5),
    ):  # fmt: skip
        assert values(loss, CLASSES, LOGITS) == pytest.approx(wanted, rel=1e-6)


def test_logit_adjustment_counts_and_predicts_both_ways():
    loss = LogitAdjustedCrossentropy.from_labels([0] * 6 + [1] * 3, 3)
    np.testing.assert_allclose(loss.prior, [0.6, 0.3, 0.1], rtol=1e-12)  # the class that is not there counts once
    np.testing.assert_allclose(numpy(loss.adjust(np.zeros((1, 3), "float32"))), np.log([[0.6, 0.3, 0.1]]), rtol=1e-6)
    unset = LogitAdjustedCrossentropy(tau=0.5, reduction="sum")
    with pytest.raises(ConfigError, match="no prior; give one"):
        unset([0], [[0.0, 1.0]])
    counted = unset.for_labels([0, 0, 0, 1], 2)
    assert (counted.prior, counted.tau, counted.reduction) == ([0.75, 0.25], 0.5, "sum")
    assert counted.for_labels([1], 2) is counted
    with pytest.raises(ConfigError, match="prior has 2 classes, the logits 3"):
        counted([0], [[0.0, 1.0, 2.0]])


EXTREME = [
    *(loss for loss, _ in ONE_CLASS.values()),
    SmoothF1Crossentropy(),
    DiceLoss(level="batch"),
    *(loss for loss, _ in BIT_BY_BIT.values()),
    DiceLoss(2.5, multi_label=True, squared=True, detach_weight=True),
]


@pytest.mark.parametrize("loss", EXTREME, ids=lambda loss: f"{loss.name}")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_extreme_and_hidden_logits_give_numbers(loss, dtype):
    rows = np.zeros((6, 5), "float32")
    rows[0] = [1e4, -1e4, 0, 0, 0]  # sure and right
    rows[1] = [1e4, 0, 0, 0, -1e4]  # sure and wrong
    rows[2] = [-np.inf, 1.0, 2.0, -np.inf, -1e30]  # masked classes
    rows[3] = [1.0, 1.0, -np.inf, 1.0, 1.0]  # the true class is masked
    rows[4] = -np.inf  # all are
    rows[5] = np.inf
    labels = BITS if isinstance(loss, SmoothF1Crossentropy) or getattr(loss, "multi_label", False) else CLASSES
    value, gradient = value_and_gradient(loss, labels, rows, dtype=dtype)
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()
    assert not gradient[2, [0, 3]].any()


def test_smoothing_leaves_masked_classes_out():
    masked = np.where(np.arange(5) < 3, LOGITS, -np.inf)
    wanted = reference.label_smoothed(CLASSES % 3, LOGITS[:, :3], 0.3).mean()
    assert values(LabelSmoothedCrossentropy(0.3), CLASSES % 3, masked) == pytest.approx(wanted, rel=1e-5)


def test_large_class_numbers_survive_the_cast_of_keras():
    loss = LabelSmoothedCrossentropy(0.0)
    logits = np.zeros((3, 70001), "float32")
    logits[:, 69999] = 3
    loss.reduction = "none"
    below, there, above = values(loss, [69998, 69999, 70000], logits)
    assert below == pytest.approx(above)
    assert below - there == pytest.approx(3, rel=1e-5)


ALL = [
    *EXTREME,
    FocalLoss(1.0, [0.5, 1.0], reduction="sum", name="other"),
    SmoothF1Crossentropy("macro"),
    LogitAdjustedCrossentropy([2.0, 1.0, 4.0]),
]


@pytest.mark.parametrize("loss", ALL, ids=lambda loss: loss.name)
def test_serialised(loss):
    assert again(loss).get_config() == loss.get_config()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FocalLoss(-1), "gamma is -1"),
        (lambda: FocalLoss(alpha=0.25), "one weight for each class"),
        (lambda: FocalLoss(alpha=[-1.0, 1.0]), "finite and not negative"),
        (lambda: FocalLoss(alpha=1.5, multi_label=True), "between 0 and 1"),
        (lambda: LabelSmoothedCrossentropy(1.0), r"label_smoothing is 1.0; it must be in \[0, 1\)"),
        (lambda: LogitAdjustedCrossentropy([0.5, 0.0]), r"positive frequency for each class, got \[0.0\]"),
        (lambda: LogitAdjustedCrossentropy(tau=-1), "tau is -1"),
        (lambda: SmoothF1Crossentropy("weighted"), "choose one of micro, macro"),
        (lambda: DiceLoss(smooth=0.0), "smooth=0.0 must be positive"),
        (lambda: DiceLoss(level="row"), "choose one of example, batch"),
        (lambda: named_loss("hinge"), "crossentropy, dice, focal"),
        (lambda: named_loss("logit_adjustment", multi_label=True), "several labels a text.*smooth_f1"),
        (lambda: named_loss(keras.losses.SparseCategoricalCrossentropy()), "takes probabilities.*from_logits=True"),
        (lambda: named_loss(keras.losses.sparse_categorical_crossentropy), "takes probabilities.*from_logits=True"),
        (lambda: named_loss(keras.losses.BinaryCrossentropy(), multi_label=True), "takes probabilities.*BinaryCross"),
        (lambda: named_loss(keras.losses.CategoricalCrossentropy(from_logits=True)), "one number of a class.*Sparse"),
        (
            lambda: named_loss(keras.losses.SparseCategoricalCrossentropy(from_logits=True), multi_label=True),
            "a row of 0 and 1",
        ),
        (
            lambda: named_loss(keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction=None)),
            "reduction=None",
        ),
    ],
)
def test_arguments_that_cannot_be(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def test_losses_of_keras_on_logits_are_taken():
    for loss, several in (
        (keras.losses.SparseCategoricalCrossentropy(from_logits=True), False),
        (keras.losses.BinaryFocalCrossentropy(from_logits=True), True),
        (keras.losses.CategoricalCrossentropy(from_logits=True), True),
        (keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="sum"), False),
    ):
        assert named_loss(loss, multi_label=several) is loss
    assert named_loss(lambda y_true, y_pred: y_pred[:, 0]).name == "lambda"
