"""Facts about the start of a model against quadrature, formulas and random layers; real blocks against a second way."""

from itertools import pairwise

import keras
import numpy as np
import pytest
from keras import ops

from qingformer.analysis import (
    depth_signal,
    format_norm_gains,
    input_weight,
    norm_gains,
    second_moment,
    simulate_stack,
    suggest_deviation,
    truncated_normal_deviation,
)
from qingformer.analysis.gradients import Gradients, pieces
from qingformer.errors import ConfigError
from qingformer.models import Backbone, BackboneConfig
from qingformer.models.roformer_v2 import UNDO_TRUNCATION, DepthInitializer
from qingformer.objectives import ModelObjective
from tests.conftest import slow_on_jax


def test_truncated_normal():
    assert truncated_normal_deviation() == pytest.approx(0.87962566, abs=1e-8)
    assert truncated_normal_deviation() ** 2 == pytest.approx(0.7737413, abs=1e-7)
    assert 1 / truncated_normal_deviation() == pytest.approx(UNDO_TRUNCATION, rel=1e-7)
    stats = pytest.importorskip("scipy.stats")
    for cut in (0.5, 2, 3):
        assert truncated_normal_deviation(cut) == pytest.approx(stats.truncnorm(-cut, cut).std())
    drawn = keras.initializers.TruncatedNormal(stddev=0.02, seed=0)((500, 500))
    assert float(ops.std(drawn)) == pytest.approx(0.0176, rel=0.01)


@pytest.mark.parametrize(
    ("name", "moment"), [("sigmoid", 0.2933790), ("relu", 0.5), ("tanh", 0.3943), ("gelu", 0.4252), ("linear", 1.0)]
)
def test_second_moments_of_activations(name, moment):
    assert second_moment(name) == pytest.approx(moment, abs=6e-5 if moment > 0.35 else 5e-7)
    x = np.random.default_rng(0).normal(size=400000).astype("float32")
    assert second_moment(lambda x: ops.tanh(x) ** 3) == pytest.approx((np.tanh(x) ** 6).mean(), rel=0.01)


def test_suggested_deviation_is_what_the_initializer_draws():
    for width, depth, order in ((64, 1, 2), (400, 12, 2), (400, 8, 3)):
        drawn = np.asarray(ops.convert_to_numpy(DepthInitializer(depth, order, seed=0)((width, 500))))
        expected = suggest_deviation(width, depth, order) * truncated_normal_deviation()
        assert drawn.std() == pytest.approx(expected, rel=0.02)
        assert expected == pytest.approx(width**-0.5 * depth ** (-1 / order))


@pytest.mark.parametrize(
    ("norm", "more", "last"),
    [
        ("post", {}, 2.0**-4),
        ("pre", {}, 9**-0.5),
        ("none", {"branch": 0.3}, 1.09**-4),
        ("post", {"branch": 0.5}, 1.25**-4),
        ("post", {"skip": 2.0}, 1.25**-4),
        ("pre", {"branch": 0.5}, 3**-0.5),
        ("pre", {"skip": 1.1}, (1 + (1.21 ** -np.arange(1.0, 9)).sum()) ** -0.5),
        ("post", {"ramp": 0.0}, 1.0),
        ("post", {"ramp": np.arange(8) / 8}, np.prod(1 + (np.arange(8) / 8) ** 2) ** -0.5),
    ],
    ids=str,
)
def test_weight_of_the_input_follows_its_law(norm, more, last):
    law = input_weight(8, norm, **more)
    assert law[0] == 1
    assert law[-1] == pytest.approx(last)
    found = simulate_stack(8, 256, norm, rows=48, **more)
    np.testing.assert_allclose(found.cosine, law, atol=0.035)
    if norm == "post":
        np.testing.assert_allclose(found.size, 1, atol=1e-3)


def test_gradients_of_the_random_stack_fall_with_depth_in_pre_norm_only():
    post, pre = simulate_stack(8, 64), simulate_stack(8, 64, "pre")
    assert pre.gradient[-1] < 0.6 * pre.gradient[0]
    np.testing.assert_allclose(post.gradient, post.gradient.mean(), rtol=0.3)
    assert pre.size[-1] == pytest.approx(3, rel=0.1)
    # A branch half as large gives a gradient half as large where the branch is a small part of all.
    small = [simulate_stack(4, 64, branch=b).gradient.mean() for b in (0.01, 0.02)]
    assert small[1] / small[0] == pytest.approx(2, rel=0.02)


def small_backbone(**changes):
    keras.utils.set_random_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
    return Backbone(BackboneConfig(**{"vocab_size": 50, **sizes, **changes}))


@pytest.fixture(scope="module")
def wide():
    return small_backbone(initializer_range=0.2)


def test_signal_of_real_blocks_is_that_of_their_layers(wide):
    ids = np.random.default_rng(1).integers(1, 50, (2, 5)).astype("int32")
    before = wide.get_weights()
    found = depth_signal(wide, ids)
    inputs = {"token_ids": ids, "segment_ids": np.zeros_like(ids), "padding_mask": np.ones_like(ids)}
    start = wide.get_layer("block_0").input
    start = keras.tree.flatten(start)[0]
    states = [start, *(wide.get_layer(f"block_{index}").output for index in range(2))]
    vectors = [ops.convert_to_numpy(state) for state in keras.Model(wide.input, states)(inputs)]
    np.testing.assert_allclose(found.size, [np.sqrt((v**2).mean()) for v in vectors], rtol=1e-5)
    unit = [v / np.linalg.norm(v, axis=-1, keepdims=True) for v in vectors]
    np.testing.assert_allclose(found.cosine, [(u * unit[0]).sum(-1).mean() for u in unit], rtol=1e-4)
    np.testing.assert_allclose(found.carried, [(a * b).sum(-1).mean() for a, b in pairwise(unit)], rtol=1e-4)
    np.testing.assert_allclose(found.update, 1, atol=0.05)  # Adam's first step is its rate
    for old, new in zip(before, wide.get_weights()):
        np.testing.assert_array_equal(old, new)
    assert len(found.format_table().splitlines()) == 3
    # The gradients a second way: those of a compiled model whose loss is the same sum with the same random readout.
    model = keras.Model(wide.input, wide.output["sequence_output"])
    model.compile("sgd", lambda readout, hidden: ops.sum(readout * hidden, axis=-1) / 4)
    readout = np.random.default_rng(0).normal(size=(2, 5, 16)).astype("float32")
    taken = Gradients(model, ModelObjective(model, training=False))
    _, gradients, *_ = next(taken.over(pieces((inputs, readout))))
    for block in range(2):
        mine = [
            g.ravel()
            for v, g in zip(model.trainable_variables, gradients)
            if f"block_{block}/" in v.path and g.ndim == 2
        ]
        assert found.gradient[block] == pytest.approx(np.sqrt((np.concatenate(mine) ** 2).mean()), rel=1e-3)


@slow_on_jax
def test_small_weights_carry_the_input_through_and_large_ones_do_not():
    weights = [depth_signal(small_backbone(initializer_range=d)).cosine[-1] for d in (0.001, 0.05, 0.5)]
    assert weights[0] > 0.9999
    assert weights[0] > weights[1] > weights[2]
    pre = depth_signal(small_backbone(initializer_range=0.5, norm_position="pre"))
    post = depth_signal(small_backbone(initializer_range=0.5))
    assert pre.cosine[-1] > post.cosine[-1]
    assert pre.size[-1] > 1.5 * pre.size[0]
    np.testing.assert_allclose(post.size, 1, atol=1e-3)


def test_gains_of_a_new_model_are_one_and_of_a_changed_one_are_told(wide):
    rows = norm_gains(wide)
    assert [row.path for row in rows][:2] == ["embeddings_norm/gamma", "block_0/attention_norm/gamma"]
    assert {(row.mean, row.deviation, row.least, row.largest) for row in rows} == {(1.0, 0.0, 1.0, 1.0)}
    wide.get_layer("embeddings_norm").gamma.assign(np.arange(16.0))
    first = norm_gains(wide)[0]
    assert (first.mean, first.least, first.largest) == (7.5, 0, 15)
    table = format_norm_gains(norm_gains(wide))
    assert "7.500" in table.splitlines()[1]
    wide.get_layer("embeddings_norm").gamma.assign(np.ones(16))


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda: truncated_normal_deviation(0), "cut"),
        (lambda: second_moment("swoosh"), "unknown activation"),
        (lambda: suggest_deviation(0), "width 0"),
        (lambda: input_weight(4, "mid"), "one of post"),
        (lambda: input_weight(4, ramp=[1.0, 2.0]), "2 entries for 4"),
        (lambda: simulate_stack(0), "depth is 0"),
        (lambda: depth_signal(small_backbone(share_blocks=True)), "1 blocks of its own for 2"),
    ],
)
def test_what_cannot_be(wrong, words):
    with pytest.raises(ConfigError, match=words):
        wrong()
