"""The table of the article, an independent closed form, and the rule."""

import doctest
import math

import numpy as np
import pytest

from qingformer.analysis import dimension, direction_entropy, direction_entropy_slope, suggest_dimension
from qingformer.errors import ConfigError

TABLE = {32: -7.77471, 64: -15.4734, 96: -23.1726, 128: -30.8718, 256: -61.6692, 512: -123.264}


@pytest.mark.parametrize("width", TABLE)
def test_the_published_table(width):
    assert float(f"{direction_entropy(width):.6g}") == TABLE[width]


@pytest.mark.parametrize("width", [2, 3, 17, 512])
def test_quadrature_equals_the_bessel_form(width):
    special = pytest.importorskip("scipy.special")
    order = width / 2 - 1

    def log_mean(power):  # log E exp(power cos theta)
        return special.gammaln(width / 2) + order * np.log(2 / power) + np.log(special.ive(order, power)) + power

    slope = (log_mean(width + 1e-4) - log_mean(width - 1e-4)) / 2e-4
    assert direction_entropy(width) == pytest.approx(log_mean(width) - width * slope, rel=1e-6)


def test_the_slope_is_the_limit_and_the_saddle_point():
    assert direction_entropy_slope() == pytest.approx(-0.240606, abs=1e-6)
    assert direction_entropy(4096, 20001) / 4096 == pytest.approx(direction_entropy_slope(), rel=2e-3)
    angle = np.linspace(0.1, 1.5, 1400001)
    exponent = np.log(np.sin(angle)) + np.cos(angle)
    top = angle[exponent.argmax()]
    assert (top, np.cos(top), exponent.max()) == pytest.approx((0.904557, 0.618034, 0.377428), abs=1e-5)
    assert exponent.max() - np.cos(top) == pytest.approx(direction_entropy_slope(), abs=1e-5)
    assert 2 / -direction_entropy_slope() == pytest.approx(8.31, abs=0.005)


def test_the_rule():
    assert [suggest_dimension(n) for n in (10**5, 5 * 10**6, 512)] == [96, 128, 52]
    # At the suggested width the entropy is about to become negative.
    assert abs(2 * math.log(10**5) + direction_entropy(96)) < 0.5
    for wrong in (lambda: suggest_dimension(1), lambda: suggest_dimension(10, 0), lambda: direction_entropy(1)):
        with pytest.raises(ConfigError):
            wrong()


def test_docstring_examples_run():
    assert doctest.testmod(dimension).failed == 0
