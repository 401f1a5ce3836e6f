"""Wrappers around wrappers against the same composition written down in NumPy."""

from itertools import permutations

import keras
import numpy as np
import pytest

from qingformer import backend
from qingformer.optimizers import (
    AccumulateGradients,
    ExponentialMovingAverage,
    Frozen,
    IncrementDropout,
    LayerAdaptation,
    LayerwiseLearningRate,
    LazyUpdates,
    Lookahead,
    PiecewiseLinear,
    WeightDecay,
)
from tests.conftest import SLOW_ON_JAX
from tests.optimizers.toolkit import PlainAdam, make_variables, numbers, run
from tests.references import wrapped_optimizers as reference

STEPS = 7
SHAPES = {"embedding/table": (5, 3), "head/kernel": (4, 2)}
SCHEDULE = {0: 0.5, 4: 2.0, 6: 0.25}


def seed(step):
    dtype = keras.src.backend.random_seed_dtype()
    return keras.ops.convert_to_tensor(np.array([3, step]), dtype)


def mask_at(index):
    return lambda step: numbers(backend.keep_mask(seed(step), list(SHAPES.values())[index], 0.5, site=index))


# name: (ours, reference made from the inner reference and the number of the variable)
KINDS = {
    "rate": (
        lambda inner: LayerwiseLearningRate(inner, {"embedding": 0.1, "head": 10.0}),
        lambda inner, index: reference.Factor(inner, (0.1, 10.0)[index]),
    ),
    "decay": (
        lambda inner: WeightDecay(inner, 0.5, ["head"]),
        lambda inner, index: inner if index else reference.Decay(inner, 0.5),
    ),
    "adapt": (
        lambda inner: LayerAdaptation(inner, ["head"]),
        lambda inner, index: inner if index else reference.Adapt(inner),
    ),
    "frozen": (
        lambda inner: Frozen(inner, {"head": 2}),
        lambda inner, index: reference.Hold(inner, 2) if index else inner,
    ),
    "lazy": (
        lambda inner: LazyUpdates(inner, ["embedding"]),
        lambda inner, index: inner if index else reference.Rows(inner),
    ),
    "drop": (
        lambda inner: IncrementDropout(inner, 0.5, seed=3),
        lambda inner, index: reference.Drop(inner, 0.5, mask_at(index)),
    ),
    "look": (lambda inner: Lookahead(inner, 3, 0.6), lambda inner, index: reference.Look(inner, 3, 0.6)),
    "ema": (lambda inner: ExponentialMovingAverage(inner, 0.8), lambda inner, index: reference.Average(inner, 0.8)),
    "many": (lambda inner: AccumulateGradients(inner, 2), lambda inner, index: reference.Accumulate(inner, 2)),
}

# From the inside to the outside.
CHOSEN = [
    ("decay", "adapt", "ema"),
    ("decay", "rate", "many"),
    ("many", "decay", "look"),
    ("look", "many", "adapt"),
    ("drop", "frozen", "ema"),
    ("many", "lazy", "rate"),
]
PAIRS = list(permutations(KINDS, 2))
TRIPLES = [p for p in permutations(KINDS, 3) if p not in CHOSEN][::20]
OTHERS = [pytest.param(kinds, marks=pytest.mark.slow) for kinds in PAIRS + TRIPLES]
CHOSEN = CHOSEN[:3] + [pytest.param(kinds, marks=SLOW_ON_JAX) for kinds in CHOSEN[3:]]


def data():
    generator = np.random.default_rng(5)
    initial = {path: generator.normal(size=shape) for path, shape in SHAPES.items()}
    gradients = [[generator.normal(size=shape) for shape in SHAPES.values()] for _ in range(STEPS)]
    for table, _ in gradients:
        table[generator.random(5) < 0.4] = 0
    return initial, gradients


def check(optimizer, references, gradients, compiled=True):
    initial, _ = data()
    traces = run(optimizer, make_variables(initial), [[g.astype("float32") for g in gs] for gs in gradients], compiled)
    for index, (start, trace) in enumerate(zip(initial.values(), traces)):
        x = start
        for step in range(STEPS):
            x, _ = references[index].step(x, gradients[step][index])
            np.testing.assert_allclose(trace[step], x, rtol=2e-4, atol=2e-5, err_msg=f"{list(SHAPES)[index]}, {step}")


@pytest.mark.parametrize("kinds", CHOSEN + OTHERS, ids="-".join)
def test_a_composition_is_the_composition_of_the_formulas(kinds):
    _, gradients = data()
    optimizer = PlainAdam(PiecewiseLinear(0.05, SCHEDULE))
    schedule = [0.05 * np.interp(step, list(SCHEDULE), list(SCHEDULE.values())) for step in range(STEPS)]
    references = [reference.Adam(schedule.__getitem__) for _ in SHAPES]
    for kind in kinds:
        ours, theirs = KINDS[kind]
        optimizer = ours(optimizer)
        references = [theirs(inner, index) for index, inner in enumerate(references)]
    check(optimizer, references, gradients)
    if isinstance(optimizer, ExponentialMovingAverage):
        for average, expected in zip(optimizer.averages(), references):
            np.testing.assert_allclose(numbers(average), expected.corrected, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("scale_decay", [True, False])
def test_decay_inside_of_keras_own_optimizer(scale_decay):
    """AdamW (fused on torch) with an excluded variable: its decay is multiplied with the rate, or not."""
    _, gradients = data()
    adam = keras.optimizers.AdamW(0.05, weight_decay=0.5, epsilon=1e-9)
    adam.exclude_from_weight_decay(var_names=["kernel"])
    optimizer = LayerwiseLearningRate(adam, {"embedding": 3.0, "head": 0.5}, scale_decay=scale_decay)
    plain = [reference.Adam(0.05, epsilon=1e-9) for _ in SHAPES]
    embedding = reference.Decay(reference.Factor(plain[0], 3.0), 1.5 if scale_decay else 0.5)
    check(optimizer, [embedding, reference.Factor(plain[1], 0.5)], gradients)
    assert "_backend_update_step" not in vars(adam)
    assert "_apply_weight_decay" not in vars(adam)
    assert adam.weight_decay == 0.5


@pytest.mark.parametrize(
    "kind", [pytest.param("look", marks=SLOW_ON_JAX), pytest.param("many", marks=SLOW_ON_JAX), "lazy"]
)
def test_step_by_step_without_compilation(kind):
    _, gradients = data()
    ours, theirs = KINDS[kind]
    references = [theirs(reference.Adam(0.05), index) for index in range(len(SHAPES))]
    check(ours(PlainAdam(0.05)), references, gradients[:3] + gradients[:4], compiled=False)


@pytest.mark.parametrize("inner", ["keras", "ours"])
def test_several_batches_are_one_large_batch(inner):
    """k batches, with Keras' accumulation or ours, are one batch of their mean; decay outside sees only updates."""
    _, gradients = data()
    adam = PlainAdam(0.05, gradient_accumulation_steps=2 if inner == "keras" else None)
    optimizer = WeightDecay(adam if inner == "keras" else AccumulateGradients(adam, 2), 0.5)
    references = [reference.Decay(reference.Accumulate(reference.Adam(0.05), 2), 0.5) for _ in SHAPES]
    check(optimizer, references, gradients)
