"""Wrappers against the runs recorded with the original toolkit."""

import keras
import numpy as np
import pytest

from qingformer.optimizers import (
    AccumulateGradients,
    ExponentialMovingAverage,
    LayerAdaptation,
    LayerwiseLearningRate,
    LazyUpdates,
    Lookahead,
    PiecewiseLinear,
    WeightDecay,
)
from tests.conftest import SLOW_ON_JAX
from tests.optimizers.toolkit import Adam2, PlainAdam, Recorded, compiled_step, numbers, run
from tests.references import wrapped_optimizers as reference

NO_DECAY = ["Norm", "bias"]
CLOSE = {"atol": 2e-6, "rtol": 1e-5}

SAME = {
    "adam": lambda: PlainAdam(),
    "adam_weight_decay": lambda: WeightDecay(PlainAdam(), 0.1),
    "adam_weight_decay_exclude": lambda: WeightDecay(PlainAdam(), 0.1, NO_DECAY),
    "adamw_piecewise_linear": lambda: WeightDecay(PlainAdam(PiecewiseLinear(0.01, {4: 1, 8: 0.1})), 0.1, ["bias"]),
    "adam_parameter_wise_lr": lambda: LayerwiseLearningRate(PlainAdam(), {"kernel": 2, "Block-0": 0.1}),
    "adamw_parameter_wise_lr": lambda: LayerwiseLearningRate(WeightDecay(PlainAdam(), 0.1), {"bias": 3}),
    "lamb": lambda: LayerAdaptation(WeightDecay(PlainAdam(), 0.1, NO_DECAY), NO_DECAY),
    "lamb_all": lambda: LayerAdaptation(WeightDecay(PlainAdam(), 0.1)),
    "layer_adaptation_zero_parameter": lambda: LayerAdaptation(PlainAdam()),
    "adam_lazy": lambda: LazyUpdates(PlainAdam(), ["kernel"]),
    "lion_weight_decay": lambda: WeightDecay(keras.optimizers.Lion(0.01, beta_1=0.95, beta_2=0.98), 0.1),
}


def follow(name, optimizer, steps=range(8)):
    recorded = Recorded(name)
    return recorded, run(optimizer, recorded.variables(), [recorded.gradients(step) for step in steps])


LATER = ("adam", "adam_weight_decay", "adam_parameter_wise_lr", "lamb_all")  # part of what the others show


@pytest.mark.parametrize("name", [pytest.param(name, marks=SLOW_ON_JAX) if name in LATER else name for name in SAME])
def test_equal_to_the_original(name):
    recorded, traces = follow(name, SAME[name]())
    for ours, theirs in zip(traces, recorded.traces()):
        np.testing.assert_allclose(ours, theirs, **CLOSE)


@pytest.mark.parametrize("inner", [Adam2, lambda: keras.optimizers.Adam(0.01, epsilon=3e-8)], ids=["other", "keras"])
def test_both_routes_of_the_layerwise_rate_are_the_original(inner):
    """By the difference of old and new, and through Keras' own Adam (fused on torch)."""
    recorded, traces = follow("adam_parameter_wise_lr", LayerwiseLearningRate(inner(), {"kernel": 2, "Block-0": 0.1}))
    for ours, theirs in zip(traces, recorded.traces()):
        np.testing.assert_allclose(ours, theirs, **CLOSE)


def test_the_order_of_decay_and_rate_matters():
    recorded, traces = follow(
        "adamw_parameter_wise_lr", WeightDecay(LayerwiseLearningRate(PlainAdam(), {"bias": 3}), 0.1)
    )
    assert np.abs(traces[1] - recorded.traces()[1]).max() > 1e-4


def test_slots_of_the_lazy_optimizer_are_the_originals():
    recorded = Recorded("adam_lazy")
    optimizer = LazyUpdates(PlainAdam(), ["kernel"])
    run(optimizer, recorded.variables(), [recorded.gradients(step) for step in range(8)])
    for name, m, v in zip(recorded.names, optimizer.inner_optimizer.m, optimizer.inner_optimizer.v):
        np.testing.assert_allclose(numbers(m), recorded[f"slot/{name}/m"], **CLOSE)
        np.testing.assert_allclose(numbers(v), recorded[f"slot/{name}/v"], **CLOSE)
    held = LazyUpdates(PlainAdam(), ["kernel"], hold_state=True)
    traces = run(held, recorded.variables(), [recorded.gradients(step) for step in range(8)])
    assert np.abs(traces[0] - recorded.traces()[0]).max() > 1e-4, "statistics that rest are another method"
    np.testing.assert_allclose(traces[1], recorded.traces()[1], **CLOSE)


def test_averages_are_the_originals():
    recorded = Recorded("adam_ema")
    optimizer = ExponentialMovingAverage(PlainAdam(), 0.9)
    traces = run(optimizer, recorded.variables(), [recorded.gradients(step) for step in range(8)])
    for i, name in enumerate(recorded.names):
        np.testing.assert_allclose(traces[i], recorded.traces()[i], **CLOSE)
        np.testing.assert_allclose(numbers(optimizer.averages()[i]), recorded[f"ema_bias_corrected/{name}"], **CLOSE)
        np.testing.assert_allclose(numbers(optimizer.averages(False)[i]), recorded[f"ema_raw/{name}"], **CLOSE)
        np.testing.assert_allclose(numbers(optimizer._averages[i]), recorded[f"slot/{name}/ema"], **CLOSE)


class _LookFromZero(reference.Look):
    """The original: slow weights start at 0 and meet the fast ones in the steps 0, k, 2k, ... counted from 0."""

    def step(self, x, g):
        self.slow = np.zeros_like(x) if self.slow is None else self.slow
        return super().step(x, g)

    def change(self, x, new, g, rate, count):
        if count % self.steps:
            return new
        self.slow = self.slow + self.size * (new - self.slow)
        return self.slow


def test_lookahead_is_the_original_but_for_its_start():
    recorded, traces = follow("adam_lookahead", Lookahead(PlainAdam(), steps=3, step_size=0.5))
    for i, name in enumerate(recorded.names):
        for kind, expected in ((_LookFromZero, recorded.traces()[i]), (reference.Look, traces[i])):
            x, optimizer = recorded[f"initial/{name}"].astype("float64"), kind(reference.Adam(), 3, 0.5)
            for step in range(8):
                x, _ = optimizer.step(x, recorded[f"gradient/{name}"][step])
                np.testing.assert_allclose(x, expected[step], **CLOSE)
        assert np.abs(recorded.traces()[i][0]).mean() < 0.6 * np.abs(recorded[f"initial/{name}"]).mean()
        assert np.abs(traces[i][0] - recorded.traces()[i][0]).max() > 0.01


def test_accumulation_is_the_original_but_one_batch_earlier():
    """The original updates in step 4 with the gradients of the steps 0 to 3, we in step 3 already."""
    inner = PlainAdam(bias_correction=False)
    recorded, traces = follow("adam_gradient_accumulation_no_bias_correction", AccumulateGradients(inner, 4))
    for name, ours, theirs in zip(recorded.names, traces, recorded.traces()):
        start = recorded[f"initial/{name}"]
        np.testing.assert_allclose(ours[:3], [start] * 3, **CLOSE)
        np.testing.assert_allclose(theirs[:4], [start] * 4, **CLOSE)
        np.testing.assert_allclose(ours[3:7], theirs[4:5].repeat(4, 0), **CLOSE)
        assert np.abs(ours[3] - theirs[3]).max() > 1e-3


def test_accumulation_counts_updates_where_the_original_counts_batches():
    recorded, traces = follow("adam_gradient_accumulation", AccumulateGradients(PlainAdam(), 2))
    for name, ours, theirs in zip(recorded.names, traces, recorded.traces()):
        np.testing.assert_allclose(ours[0], theirs[1], **CLOSE)  # still the start
        assert np.abs(ours[1] - theirs[2]).max() > 1e-4, "another bias correction of the same mean gradient"
        x, adam = recorded[f"initial/{name}"].astype("float64"), reference.Accumulate(reference.Adam(), 2)
        for step in range(8):
            x, _ = adam.step(x, recorded[f"gradient/{name}"][step])
            np.testing.assert_allclose(ours[step], x, **CLOSE)


def test_lamb_with_schedule_and_accumulation():
    """At the original's own moments (steps 0, 2, 4, 6 with the gradients before them) everything else is equal."""
    recorded = Recorded("lamb_piecewise_accumulation")
    adam = PlainAdam(PiecewiseLinear(0.01, {4: 1, 8: 0}))
    optimizer = LayerAdaptation(WeightDecay(adam, 0.1, ["bias"]), ["bias"])
    variables = recorded.variables()
    optimizer.build(variables)
    make_step = compiled_step(optimizer, variables)
    for step in range(0, 8, 2):
        before = [recorded[f"gradient/{name}"][step - 2 : step] for name in recorded.names]
        means = [g.mean(0) if step else g.sum(0) for g in before]
        adam._iterations.assign(step)
        make_step([keras.ops.convert_to_tensor(mean) for mean in means])
        for variable, trace in zip(variables, recorded.traces()):
            for at in (step, step + 1):
                np.testing.assert_allclose(numbers(variable), trace[at], **CLOSE)
    ours = AccumulateGradients(
        LayerAdaptation(WeightDecay(PlainAdam(PiecewiseLinear(0.01, {2: 1, 4: 0})), 0.1, ["bias"]), ["bias"]), 2
    )
    traces = run(ours, recorded.variables(), [recorded.gradients(step) for step in range(8)])
    assert np.abs(traces[0] - recorded.traces()[0]).max() > 1e-4
