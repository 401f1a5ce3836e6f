"""The loss of language models: shift, masks, one mean over all tokens of the batch, however they are divided."""

import numpy as np
import pytest

import tests.references.losses as reference
from qingformer.errors import ConfigError
from qingformer.losses import SequenceCrossentropy, sequence_targets
from tests.conftest import SLOW_ON_JAX
from tests.losses.support import again, check, value_and_gradient, values

GENERATOR = np.random.default_rng(0)
LOGITS = GENERATOR.normal(size=(3, 4, 5)) * 2
TOKENS = GENERATOR.integers(0, 5, (3, 4)).astype("int32")
SEGMENTS = np.array([[0, 0, 1, 1], [0, 1, 1, 0], [1, 1, 1, 1]], "float64")


@pytest.mark.parametrize(("shift", "epsilon"), [(1, 0.0), (1, 0.2), pytest.param(0, 0.0, marks=SLOW_ON_JAX)])
def test_by_loops(shift, epsilon):
    loss = again(SequenceCrossentropy(shift, epsilon))
    check(loss, TOKENS, LOGITS, lambda x: reference.sequence(TOKENS, x, SEGMENTS, shift, epsilon), SEGMENTS)


def test_masks_in_the_labels_and_weights_of_rows():
    targets = sequence_targets(TOKENS, SEGMENTS, np.array([[1, 1, 1, 0]] * 3))
    rows = np.array([2.0, 1.0, 0.0])
    weights = SEGMENTS * [[1, 1, 1, 0]] * rows[:, None]
    loss = SequenceCrossentropy()
    wanted = reference.sequence(TOKENS, LOGITS, weights, 1)
    assert values(loss, targets, LOGITS, rows) == pytest.approx(wanted, rel=1e-5)
    assert values(loss, TOKENS, LOGITS, weights) == pytest.approx(wanted, rel=1e-5)
    zero = SequenceCrossentropy(ignore_index=0)
    wanted = reference.sequence(TOKENS, LOGITS, (TOKENS != 0).astype(float), 1)
    assert values(zero, TOKENS, LOGITS) == pytest.approx(wanted, rel=1e-5)


def test_a_batch_has_the_loss_of_its_tokens_and_not_of_its_rows():
    loss = SequenceCrossentropy(reduction="sum")
    parts = [values(loss, TOKENS, LOGITS, SEGMENTS * np.eye(3)[:, [row]]) for row in range(3)]
    whole = sum(parts) / SEGMENTS[:, 1:].sum()
    assert values(SequenceCrossentropy(), TOKENS, LOGITS, SEGMENTS) == pytest.approx(whole, rel=1e-6)
    assert whole != pytest.approx(np.mean([p / w for p, w in zip(parts, SEGMENTS[:, 1:].sum(-1))]), rel=1e-3)


def test_reductions():
    weights = SEGMENTS[:, 1:]
    rows = np.array([reference.label_smoothed(t[1:], x[:-1], 0.0) for t, x in zip(TOKENS, LOGITS)]) * weights
    for reduction, wanted in ("none", rows), ("sum", rows.sum()), ("sum_over_batch_size", rows.sum() / 9):
        found = values(SequenceCrossentropy(reduction=reduction), TOKENS, LOGITS, SEGMENTS)
        np.testing.assert_allclose(found, wanted, rtol=1e-5)


def test_smoothing_leaves_hidden_tokens_out():
    masked = np.where(np.arange(5) < 3, LOGITS, -np.inf)
    wanted = reference.sequence(TOKENS % 3, LOGITS[..., :3], SEGMENTS, 1, 0.3)
    assert values(SequenceCrossentropy(1, 0.3), TOKENS % 3, masked, SEGMENTS) == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("epsilon", [0.0, 0.2])
def test_extreme_and_hidden_logits_give_numbers(epsilon, dtype):
    logits = LOGITS.copy()
    logits[0] = [1e4, -1e4, 0, np.inf, -np.inf]
    logits[1, :, 3:] = -np.inf
    logits[2, 0] = -np.inf
    value, gradient = value_and_gradient(SequenceCrossentropy(1, epsilon), TOKENS, logits, SEGMENTS, dtype)
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()
    nothing, gradient = value_and_gradient(SequenceCrossentropy(1, epsilon), TOKENS, logits, SEGMENTS * 0, dtype)
    assert nothing == 0
    assert not gradient.any()


def test_targets_of_prefix_models():
    assert sequence_targets([[5, 6, 0]], padding_mask=[[1, 1, 0]], ignore_index=-1).tolist() == [[5, 6, -1]]
    assert sequence_targets([[5, 6, 7]], [[0, 1, 1]]).tolist() == [[-100, 6, 7]]
    assert sequence_targets([[5, 6]]).dtype == np.int32


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SequenceCrossentropy(-1), "shift is -1"),
        (lambda: SequenceCrossentropy(label_smoothing=1.5), "SequenceCrossentropy: label_smoothing is 1.5"),
        (lambda: SequenceCrossentropy()(TOKENS, np.zeros((3, 4), "float32")), r"\(B, T, V\) with T > 1, not \(3, 4\)"),
        (lambda: SequenceCrossentropy(4)(TOKENS, LOGITS.astype("float32")), "T > 4"),
    ],
)
def test_arguments_that_cannot_be(make, message):
    with pytest.raises(ConfigError, match=message):
        make()
