"""Rate laws against brute force: random steps on quadratics whose gradient, noise and Hessian are known."""

import doctest
import math

import numpy as np
import pytest

from qingformer.analysis import (
    SignLaw,
    TradeOff,
    fit_trade_off,
    noise_scale,
    power_rate,
    sgd_rate,
    sign_step,
    suggest_learning_rate,
    suggestion,
    trade_off,
)
from qingformer.analysis.rate_laws import mean_sign
from qingformer.errors import ConfigError

GRADIENT = np.array([1.0, -0.5, 0.3, 0.1])
DEVIATION = np.array([2.0, 1.0, 0.2, 1.5])
HESSIAN = np.array([[2.0, 0.3, 0.1, 0.0], [0.3, 1.5, 0.2, 0.4], [0.1, 0.2, 1.0, 0.1], [0.0, 0.4, 0.1, 0.8]])


def best_of(steps):
    """The rate and gain that maximise the mean of g.u r - r^2 u.H u / 2 over random directions u `(n, P)`."""
    rates = np.linspace(0.001, 2, 4000)
    along, curved = (steps @ GRADIENT).mean(), np.einsum("ni,ij,nj->n", steps, HESSIAN, steps).mean()
    gains = rates * along - rates**2 / 2 * curved
    return rates[gains.argmax()], gains.max()


@pytest.mark.parametrize("size", [1, 8, 64])
def test_sgd_law_is_the_best_rate_on_a_quadratic(size):
    noise = np.random.default_rng(size).normal(size=(200000, 4)) * DEVIATION / math.sqrt(size)
    rate, gain = best_of(GRADIENT + noise)
    curvature = GRADIENT @ HESSIAN @ GRADIENT
    scale, largest = (np.diag(HESSIAN) * DEVIATION**2).sum() / curvature, GRADIENT @ GRADIENT / curvature
    assert sgd_rate(size, scale, largest) == pytest.approx(rate, rel=0.03)
    assert (GRADIENT @ GRADIENT) ** 2 / (2 * curvature) / (1 + scale / size) == pytest.approx(gain, rel=0.03)


@pytest.mark.parametrize("size", [1, 8, 64])
def test_sign_law_is_the_best_rate_on_a_quadratic(size):
    noise = np.random.default_rng(size).normal(size=(200000, 4)) * DEVIATION / math.sqrt(size)
    rate, gain = best_of(np.sign(GRADIENT + noise))
    found = sign_step(GRADIENT, DEVIATION, HESSIAN, size)
    assert found.rate == pytest.approx(rate, rel=0.02)
    assert found.gain == pytest.approx(gain, rel=0.03)


@pytest.mark.parametrize(("ratio", "size"), [(0.3, 16), (0.05, 4), (2.0, 1)])
def test_mean_sign_against_random_gradients(ratio, size):
    generator = np.random.default_rng(0)
    drawn = np.sign(ratio + generator.normal(size=(100000, size)).mean(axis=1)).mean()
    assert mean_sign(ratio, size, exact=True) == pytest.approx(drawn, abs=0.01)


def test_published_numbers_of_the_mean_sign():
    assert mean_sign(0.3, 16, exact=True) == pytest.approx(0.7699, abs=1e-4)
    assert mean_sign(0.3, 16) == pytest.approx(0.692, abs=5e-4)
    ratios = np.linspace(-30, 30, 60001)
    assert np.abs(mean_sign(ratios, 1) - mean_sign(ratios, 1, exact=True)).max() < 0.11
    assert mean_sign(1e-6, 9) == pytest.approx(mean_sign(1e-6, 9, exact=True), rel=1e-6)


@pytest.mark.parametrize(("beta_n", "largest"), [(0.3, 0.6214), (0.6, 3.534), (0.9, 26.79)])
def test_the_rate_surges_where_the_formula_says(beta_n, largest):
    law = SignLaw(kappa=2, beta_n=beta_n, rate_max=0.7)
    sizes = np.geomspace(1e-3, 1e4, 200001)
    assert law.surge_batch_size == pytest.approx(largest, rel=2e-4)
    assert sizes[law.rate(sizes).argmax()] == pytest.approx(largest, rel=1e-3)
    assert law.rate(law.surge_batch_size) == pytest.approx(0.7)
    assert law.rate(1e12) == pytest.approx(0.7 * 2 * beta_n / (1 + beta_n**2))
    assert 1 / law.gain_noise_scale - 1 / law.surge_batch_size == pytest.approx(4 / (math.pi * 4))


@pytest.mark.parametrize("size", [0.5, 3, 40])
def test_mean_field_is_the_sign_step_with_one_ratio_of_noise(size):
    # Signs of g_i g_j times H_ij sum to a positive number here.
    signs = np.sign(np.outer(GRADIENT, GRADIENT))
    hessian = np.diag(np.diag(HESSIAN)) + signs * np.abs(HESSIAN - np.diag(np.diag(HESSIAN)))
    diagonal = np.trace(hessian)
    across = (signs * hessian).sum() - diagonal
    total = np.abs(GRADIENT).sum()
    law = SignLaw(3.0, math.sqrt(diagonal / across), total / (2 * math.sqrt(diagonal * across)))
    exact = sign_step(GRADIENT, 3.0 * np.abs(GRADIENT), hessian, size, exact=False)
    assert law.rate(size) == pytest.approx(exact.rate)
    gain_max = law.beta_n * law.rate_max * total / (1 + law.beta_n**2)
    assert law.relative_gain(size) * gain_max == pytest.approx(exact.gain)


def test_a_diagonal_hessian_gives_the_square_root_and_then_a_constant():
    law = SignLaw(kappa=4)
    assert law.rate(0.04) / law.rate(0.01) == pytest.approx(2, rel=1e-3)
    assert law.rate(1e6) == pytest.approx(1, rel=1e-4)
    assert law.surge_batch_size == math.inf
    diagonal = np.diag([2.0, 1.0, 0.5, 3.0])
    rates = [sign_step(GRADIENT, 4 * np.abs(GRADIENT), diagonal, size, exact=False).rate for size in (2, 50)]
    assert law.rate(2) / law.rate(50) == pytest.approx(rates[0] / rates[1])
    wide = SignLaw(kappa=4, beta_n=1e6)
    assert wide.rate(2) / wide.rate(50) == pytest.approx(rates[0] / rates[1], rel=1e-6)
    assert wide.gain_noise_scale == pytest.approx(law.gain_noise_scale)


def test_the_other_laws():
    assert sgd_rate(64, 64, 0.2) == pytest.approx(0.1)
    assert power_rate(64, 192, 0.5) == pytest.approx(0.5)
    assert power_rate(64, 192, 0.5, rate_max=4.0) == pytest.approx(2.0)
    np.testing.assert_allclose(sgd_rate(np.array([1, 2]), 1e9) * 1e9, [1, 2], rtol=1e-8)


def test_trade_off_of_steps_and_examples():
    law = TradeOff(100, 6400)
    for size in (1, 64, 1000):
        steps, examples = law.steps(size), law.examples(size)
        assert examples == pytest.approx(size * steps)
        assert (steps / 100 - 1) * (examples / 6400 - 1) == pytest.approx(1)
    sizes = np.array([8, 16, 64, 256])
    found = fit_trade_off(sizes, law.steps(sizes))
    assert (found.min_steps, found.min_examples) == pytest.approx((100, 6400))
    rough = fit_trade_off(sizes, law.steps(sizes) * [1.03, 0.98, 1.02, 0.97])
    assert rough.critical_batch_size == pytest.approx(64, rel=0.2)


def test_suggestions_by_each_law():
    def factor(law, noise=96, **more):
        return suggest_learning_rate(1e-3, 32, 128, noise, law, **more).factor

    assert [factor(law) for law in ("constant", "sqrt", "linear")] == [1, 2, 4]
    assert factor("sgd") == pytest.approx((1 + 96 / 32) / (1 + 96 / 128))
    assert factor("power", exponent=0.5) == pytest.approx(factor("sgd") ** 0.5)
    turn = math.pi / 2 * 96
    assert factor("adam") == pytest.approx(math.sqrt((1 + turn / 32) / (1 + turn / 128)))
    assert factor("adam", beta_n=0.1) < 1 < factor("adam", beta_n=1.0) < factor("adam")
    assert [factor(law, math.inf) for law in ("sgd", "adam", "power")] == pytest.approx([4, 2, 4**0.75])
    assert [factor(law, 1e12) for law in ("sgd", "adam")] == pytest.approx([4, 2])
    assert [factor(law, 0) for law in ("sgd", "adam", "power")] == [1, 1, 1]
    found = suggest_learning_rate(1e-3, 32, 96, 96)
    assert (found.steps, found.examples) == (2, 2)
    assert found.rate == pytest.approx(1e-3 * found.factor)
    assert "96" in found.lines[0]
    assert "151" in found.lines[1]
    assert all(line.endswith(".") for law in suggestion.LAWS for noise in (0, 9, 96, 1e9, math.inf)
               for line in suggest_learning_rate(1e-3, 32, 96, noise, law).lines)  # fmt: skip
    assert "falls beyond" in suggest_learning_rate(1e-3, 32, 96, 96, beta_n=0.5).lines[1]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda: suggest_learning_rate(1e-3, 32, 64, 10, "cubic"), "one of adam"),
        (lambda: suggest_learning_rate(0, 32, 64, 10), "positive"),
        (lambda: suggest_learning_rate(1e-3, 32, 64, math.nan), "noise_scale"),
        (lambda: SignLaw(0.0), "kappa"),
        (lambda: SignLaw(1.0).rate(0), "batch_size"),
        (lambda: sign_step(np.ones(2), np.ones(2), -np.eye(2), 4), "curvature"),
        (lambda: TradeOff(0, 1), "above 0"),
        (lambda: fit_trade_off([4, 4], [10, 10]), "two batch sizes"),
        (lambda: fit_trade_off([4, 8], [10, 11]), "fall with the batch size"),
    ],
)
def test_numbers_that_cannot_be(wrong, words):
    with pytest.raises(ConfigError, match=words):
        wrong()


def test_docstring_examples_run():
    for module in (noise_scale, trade_off, suggestion):
        assert doctest.testmod(module).failed == 0
        assert doctest.testmod(module).attempted > 0
