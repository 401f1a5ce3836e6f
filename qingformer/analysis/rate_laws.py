"""How the best learning rate depends on the batch size, for SGD and for optimizers that step by the sign."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from qingformer.errors import ConfigError

Numbers = Any  # a number or an array of them


def sgd_rate(batch_size: Numbers, noise_scale: float, rate_max: float = 1.0) -> Numbers:
    """The rate at which a step of SGD lowers the loss most, to second order and on average.

        eta*(B) = eta_max / (1 + B_noise / B)

    Linear in B far below B_noise, constant far above it. An infinite `noise_scale` is the limit of the linear law and
    has no rate; `suggest_learning_rate` knows what to do with it.

    Source: McCandlish et al. 2018, arXiv 1812.06162; 科学空间 archives/10542.

    Example: `sgd_rate(64, noise_scale=64)` is 0.5.
    """
    return rate_max / (1 + noise_scale / _positive("batch_size", batch_size))


def power_rate(batch_size: Numbers, noise_scale: float, exponent: float = 0.5, rate_max: float = 1.0) -> Numbers:
    """The same with an exponent, `eta_max / (1 + B_noise / B)^alpha`: what was seen to fit Adam, 1/2 < alpha < 1.

    Source: McCandlish et al. 2018, arXiv 1812.06162, section on Adam.

    Example: `power_rate(64, noise_scale=192)` is 0.5.
    """
    return rate_max * sgd_rate(batch_size, noise_scale) ** exponent


def mean_sign(signal_to_noise: Numbers, batch_size: Numbers, exact: bool = False) -> Numbers:
    """The mean sign of a noisy gradient of B examples, mu, for g / sigma of one example.

        E sign = erf((g / sigma) sqrt(B / 2))  ~  (g / sigma) / sqrt(pi / (2 B) + (g / sigma)^2)

    The second form is within 0.11 of the first (`exact`) and has the same slope at 0 and the same limits.

    Source: Balles, Hennig 2017, arXiv 1705.07774; 科学空间 archives/10542.

    Example: `mean_sign(0.3, 16, exact=True)` is 0.7699, `mean_sign(0.3, 16)` is 0.6917.
    """
    ratio, size = np.asarray(signal_to_noise, "float64"), _positive("batch_size", batch_size)
    if exact:
        found = np.vectorize(math.erf, otypes=["float64"])(ratio * np.sqrt(size / 2))
    else:
        found = ratio / np.sqrt(math.pi / (2 * size) + ratio**2)
    return found if found.ndim else float(found)


@dataclass(frozen=True)
class SignStep:
    """The best step of an optimizer that moves by the sign, and what it gains on average."""

    rate: float
    gain: float


def sign_step(
    gradient: np.ndarray, deviation: np.ndarray, hessian: np.ndarray, batch_size: float, exact: bool = True
) -> SignStep:
    """The best rate of sign-SGD on a quadratic loss whose gradient is known, component by component.

        eta* = sum_i mu_i g_i / (sum_i H_ii + sum_{i != j} mu_i mu_j H_ij),   gain = eta* / 2 * sum_i mu_i g_i

    with mu_i the `mean_sign` of component i; the noises of different components are taken as independent.

    Args:
        gradient, deviation: `(P,)` mean and standard deviation of one example's gradient.
        hessian: `(P, P)`.
        batch_size: examples a step.

    Raises:
        ConfigError: the loss does not curve upwards along the mean step.

    Source: 科学空间 archives/10542; Li et al. 2024, arXiv 2405.14578.

    Example: `sign_step(np.array([1.0]), np.array([0.1]), np.array([[2.0]]), 4).rate` is 0.5.
    """
    gradient, hessian = np.asarray(gradient, "float64"), np.asarray(hessian, "float64")
    mean = mean_sign(gradient / np.asarray(deviation, "float64"), batch_size, exact)
    diagonal = np.diag(hessian)
    curvature = float(diagonal.sum() + mean @ hessian @ mean - (diagonal * mean**2).sum())
    if curvature <= 0:
        raise ConfigError(f"the curvature along the mean step is {curvature:.3g}; there is a best rate only above 0")
    along = float(mean @ gradient)
    return SignStep(along / curvature, along**2 / curvature / 2)


@dataclass(frozen=True)
class SignLaw:
    """The mean-field form of `sign_step`: one kappa = sigma / |g| for all components, one number for the Hessian.

        beta(B) = (1 + pi kappa^2 / (2 B))^(-1/2)
        eta*(B) = eta_max / (1/2 (beta_n / beta + beta / beta_n))
        gain(B) = gain_max / (1 + B_gain / B),   B_gain = pi kappa^2 beta_n^2 / (2 (1 + beta_n^2))

    beta_n^2 = sum_i H_ii / sum_{i != j} sign(g_i g_j) H_ij, which must be positive. Below `surge_batch_size` the rate
    rises, first as sqrt(B); if beta_n < 1 it falls beyond that again, to 2 eta_max beta_n / (1 + beta_n^2). With a
    diagonal Hessian beta_n is infinite and the rate is proportional to beta: sqrt(B), then constant. kappa^2 is
    estimated by the noise scale B_simple = tr(Sigma) / |g|^2.

    Args:
        kappa: above 0.
        beta_n: above 0, infinite for a diagonal Hessian.
        rate_max: the largest rate, that of `surge_batch_size`; with an infinite beta_n that of an infinite batch.

    Raises:
        ConfigError: a number that cannot be.

    Source: Li et al. 2024 ("Surge Phenomenon"), arXiv 2405.14578; 科学空间 archives/10542.

    Example: `SignLaw(kappa=2, beta_n=0.6).surge_batch_size` is 3.534.
    """

    kappa: float
    beta_n: float = math.inf
    rate_max: float = 1.0

    def __post_init__(self) -> None:
        if not (0 < self.kappa < math.inf and self.beta_n > 0 and 0 < self.rate_max < math.inf):
            raise ConfigError(
                f"SignLaw: kappa is {self.kappa}, beta_n {self.beta_n}, rate_max {self.rate_max}; all must be above 0, "
                "and kappa and rate_max finite"
            )

    def beta(self, batch_size: Numbers) -> Numbers:
        """How much of a step's length goes the right way, between 0 and 1."""
        return (1 + math.pi * self.kappa**2 / (2 * _positive("batch_size", batch_size))) ** -0.5

    def rate(self, batch_size: Numbers) -> Numbers:
        """eta*(B)."""
        beta = self.beta(batch_size)
        if math.isinf(self.beta_n):
            return self.rate_max * beta
        return self.rate_max * 2 / (self.beta_n / beta + beta / self.beta_n)

    def relative_gain(self, batch_size: Numbers) -> Numbers:
        """gain(B) / gain_max, between 0 and 1: the number of steps is inversely proportional to it."""
        return 1 / (1 + self.gain_noise_scale / _positive("batch_size", batch_size))

    @property
    def surge_batch_size(self) -> float:
        """Where the rate is largest, pi kappa^2 beta_n^2 / (2 (1 - beta_n^2)); infinite if beta_n >= 1."""
        if self.beta_n >= 1:
            return math.inf
        return math.pi * self.kappa**2 * self.beta_n**2 / (2 * (1 - self.beta_n**2))

    @property
    def gain_noise_scale(self) -> float:
        """B_gain, at which a step gains half of what it can; 1 / B_gain - 1 / B_surge = 4 / (pi kappa^2)."""
        share = 1.0 if math.isinf(self.beta_n) else self.beta_n**2 / (1 + self.beta_n**2)
        return math.pi * self.kappa**2 / 2 * share


def _positive(name: str, values: Numbers) -> Any:
    array = np.asarray(values, "float64")
    if not (array > 0).all():
        raise ConfigError(f"{name} is {values}; it must be above 0")
    return array if array.ndim else float(array)
