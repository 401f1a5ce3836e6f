"""Each optimizer against its paper in NumPy, over five steps, one without any gradient."""

import numpy as np
import pytest

from qingformer.optimizers import LAMB, AdaFactor, Adam, AdamW, AdaX, LazyAdam, Lion, PiecewiseLinear, Tiger
from qingformer.optimizers.adafactor import factored_axes
from tests.optimizers.support import SHAPES, make_gradients, make_variables, numbers, train
from tests.references import optimizers as reference

BARE = {"exclude_from_weight_decay": [], "exclude_from_layer_adaptation": []}
# Name: our optimizer, and the reference with its options for the embeddings, the kernel and the bias.
CASES = {
    "adam": (Adam(0.1), reference.adam, {}, {}, {}),
    "adam without first mean": (Adam(0.1, beta_1=0.0), reference.adam, *[{"b1": 0.0}] * 3),
    "adamw": (AdamW(0.1, 0.2), reference.adam, {"decay": 0.2}, {"decay": 0.2}, {}),
    "adam, no correction": (Adam(0.1, bias_correction=False), reference.adam, *[{"correct": False}] * 3),
    "lamb": (LAMB(0.1, weight_decay=0.2), reference.lamb, {"decay": 0.2}, {"decay": 0.2}, {"adapt": False}),
    "lamb, everything": (LAMB(0.1, weight_decay=0.2, **BARE), reference.lamb, *[{"decay": 0.2}] * 3),
    "lion": (Lion(0.1, weight_decay=0.2), reference.lion, *[{"decay": 0.2}] * 3),
    "adax": (AdaX(0.1, weight_decay=0.2), reference.adax, *[{"decay": 0.2}] * 3),
    "tiger": (
        Tiger(0.1, weight_decay=0.2),
        reference.tiger,
        {"decay": 0.2, "kind": "embeddings"},
        {"decay": 0.2},
        {"kind": "bias"},
    ),
    "tiger, two batches": (
        Tiger(0.1, accumulation_steps=2),
        reference.tiger,
        {"decay": 0.01, "kind": "embeddings", "k": 2},
        {"decay": 0.01, "k": 2},
        {"kind": "bias", "k": 2},
    ),
    "lazy adam": (LazyAdam(0.1, weight_decay=0.2), reference.lazy_adam, {}, {}, {}),
    "lazy adam, means decay": (LazyAdam(0.1, freeze_moments=False), reference.lazy_adam, {"freeze": False}, {}, {}),
    "adafactor": (
        AdaFactor(0.1, min_dim_size_to_factor=8, weight_decay=0.2, exclude_from_weight_decay=["bias"]),
        reference.adafactor,
        {"decay": 0.2},
        {"decay": 0.2},
        {},
    ),
    "adafactor, all else": (
        AdaFactor(
            0.1,
            beta_1=0.8,
            beta_2=0.9,
            clipping_threshold=0.5,
            min_dim_size_to_factor=11,
            exclude_from_parameter_scale=["kernel$"],
        ),
        reference.adafactor,
        *[
            {"b1": 0.8, "b2": 0.9, "threshold": 0.5, "factored": False, "scaled": scaled}
            for scaled in (True, False, True)
        ],
    ),
    "adafactor, neither clipped nor scaled": (
        AdaFactor(0.1, clipping_threshold=None, multiply_by_parameter_scale=False, min_dim_size_to_factor=8),
        reference.adafactor,
        *[{"threshold": None, "scaled": False}] * 3,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_equals_the_paper(case):
    optimizer, step, *options = CASES[case]
    if step is reference.lazy_adam:
        options[0] = {"decay": optimizer.weight_decay or 0.0} | options[0]
        steps = [step, reference.adam, reference.adam]
        options[1:] = [{"decay": optimizer.weight_decay or 0.0}] * 2
    else:
        steps = [step] * 3
    variables, gradients = make_variables(), make_gradients(5)
    expected, states = numbers(variables), [{}, {}, {}]
    for t, given in enumerate(gradients, 1):
        expected = [
            one(x, g.astype("float64"), state, t, 0.1, **o)
            for one, x, g, state, o in zip(steps, expected, given, states, options)
        ]
    for name, found, wanted in zip(SHAPES, train(optimizer, variables, gradients), expected):
        np.testing.assert_allclose(found, wanted, rtol=2e-5, atol=2e-6, err_msg=name)


def test_adafactor_takes_signs_where_the_gradient_is_a_product():
    """|g_ij| = r_i c_j: factoring loses nothing, so the first update is the sign."""
    random = np.random.default_rng(0)
    signs = random.choice([-1.0, 1.0], (12, 10))
    gradient = (signs * np.outer(random.uniform(0.1, 9, 12), random.uniform(1e-6, 1, 10))).astype("float32")
    variables = make_variables(shapes={"kernel": (12, 10)})
    before = numbers(variables)[0]
    optimizer = AdaFactor(0.1, multiply_by_parameter_scale=False, min_dim_size_to_factor=8)
    np.testing.assert_allclose(train(optimizer, variables, [[gradient]])[0], before - 0.1 * signs, rtol=1e-5, atol=1e-6)


def test_adafactor_factors_by_the_two_largest_axes():
    assert factored_axes((128, 128), 128) == (0, 1)
    assert factored_axes((3, 512, 256), 128) == (2, 1)
    assert factored_axes((512, 127), 128) is None
    assert factored_axes((512,), 1) is None
    assert factored_axes((), 1) is None


def test_slices_along_other_axes_are_matrices_of_their_own():
    """Without what looks at the whole variable, a (2, 12, 10) variable is two (12, 10) ones."""
    options = {"multiply_by_parameter_scale": False, "clipping_threshold": None, "min_dim_size_to_factor": 8}
    gradients = make_gradients(2, {"kernel": (2, 12, 10)})
    together = make_variables(shapes={"kernel": (2, 12, 10)})
    start = numbers(together)[0]
    whole = train(AdaFactor(0.1, **options), together, gradients)[0]
    for part in range(2):
        alone = make_variables(shapes={"kernel": (12, 10)}, values={"kernel": start[part]})
        found = train(AdaFactor(0.1, **options), alone, [[g[0][part]] for g in gradients])[0]
        np.testing.assert_allclose(found, whole[part], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("scaled", [True, False])
def test_relative_step(scaled):
    optimizer = AdaFactor(None, multiply_by_parameter_scale=scaled)
    rates = []
    for done in (0, 3, 9999, 39999):
        optimizer.iterations.assign(done)
        rates.append(float(optimizer.learning_rate))
    np.testing.assert_allclose(rates, np.array([0.01, 0.01, 0.01, 0.005]) * (1 if scaled else 0.05), rtol=1e-6)


def test_relative_step_counts_updates():
    optimizer = AdaFactor(None, gradient_accumulation_steps=4)
    optimizer._iterations.assign(4 * 39999 + 1)
    assert float(optimizer.learning_rate) == pytest.approx(0.005, rel=1e-6)


def test_adax_does_not_overflow_after_a_million_steps():
    optimizer, variables = AdaX(0.1), make_variables()
    optimizer.build(variables)
    optimizer.iterations.assign(1_000_000)
    assert all(np.isfinite(value).all() for value in train(optimizer, variables, make_gradients(2)))


def test_the_first_rate_of_a_schedule_from_zero_moves_nothing():
    variables = make_variables()
    before = numbers(variables)
    after = train(LAMB(PiecewiseLinear(0.1, {2: 1.0, 4: 0.0})), variables, make_gradients(1))
    for old, new in zip(before, after):
        np.testing.assert_array_equal(old, new)
