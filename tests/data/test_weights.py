"""Class weights, and that every example in the documentation of this room runs."""

import doctest
import importlib
import pkgutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import qingformer.data
import qingformer.evaluation
from qingformer.data import class_weights
from qingformer.errors import DataError


@given(st.lists(st.integers(0, 4), min_size=1, max_size=40))
def test_balanced_equals_scikit_learn(labels):
    peer = pytest.importorskip("sklearn.utils.class_weight")
    present = np.unique(labels)
    weights = class_weights(labels, 6)
    expected = peer.compute_class_weight("balanced", classes=present, y=labels)
    assert np.allclose(weights[present], expected, rtol=1e-12)
    assert weights.sum() == pytest.approx(expected.sum())


@given(st.lists(st.integers(0, 4), min_size=1, max_size=40), st.sampled_from(["balanced", "sqrt", "effective"]))
def test_mean_weight_over_the_examples_is_one(labels, scheme):
    assert class_weights(labels, 5, scheme)[np.array(labels)].mean() == pytest.approx(1)


def test_sqrt_is_the_milder_one():
    labels = [0] * 100 + [1] * 4
    assert class_weights(labels, 2, "sqrt")[1] / class_weights(labels, 2, "sqrt")[0] == pytest.approx(5)
    assert class_weights(labels, 2)[1] / class_weights(labels, 2)[0] == pytest.approx(25)


def test_effective_number_of_examples_by_its_sum():
    """(1 - beta^n) / (1 - beta) is 1 + beta + ... + beta^(n-1); its limits are balanced weights and none."""
    labels = [0] * 300 + [1] * 20 + [2]
    numbers = [sum(0.99**k for k in range(count)) for count in (300, 20, 1)]
    weights = class_weights(labels, 3, "effective", 0.99)
    assert np.allclose(weights * numbers, weights[0] * numbers[0], rtol=1e-12)
    assert np.allclose(class_weights(labels, 3, "effective", 1 - 1e-9), class_weights(labels, 3), rtol=1e-6)
    assert np.allclose(class_weights(labels, 3, "effective", 0.0), 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([], 2), "one integer label per example"),
        (([[0, 1]], 2), "one integer label per example"),
        (([0.5], 2), "one integer label per example"),
        (([0, 2], 2), "labels from 0 to 2 do not fit 2 classes"),
        (([0, 1], 2, "max"), "scheme 'max': choose one of balanced, sqrt, effective"),
        (([0, 1], 2, "effective", 1.0), "beta is 1.0; the effective number"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(DataError, match=message):
        class_weights(*arguments)


MODULES = [
    f"{package.__name__}.{module.name}"
    for package in (qingformer.data, qingformer.evaluation)
    for module in pkgutil.iter_modules(package.__path__)
]


@pytest.mark.parametrize("name", MODULES)
def test_documented_examples_run(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0
