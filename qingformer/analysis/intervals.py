"""Confidence intervals for a ratio of two estimates, from a jackknife."""

import math
from statistics import NormalDist

import numpy as np

from qingformer.errors import ConfigError


def jackknife_covariance(left_out: np.ndarray) -> np.ndarray:
    """Covariance `(d, d)` of an estimate from its values `(J, d)` with each of J groups left out in turn.

        C = (J - 1) / J * sum_j (theta_j - mean)(theta_j - mean)^T

    Source: Efron 1982, "The Jackknife, the Bootstrap and Other Resampling Plans".

    Example: `jackknife_covariance(np.array([[1.0, 2.0], [1.1, 2.1], [0.9, 2.2]])).shape` is `(2, 2)`.
    """
    deviations = left_out - left_out.mean(axis=0)
    count = len(left_out)
    covariance: np.ndarray = (count - 1) / count * deviations.T @ deviations
    return covariance


def ratio_interval(
    numerator: float, denominator: float, covariance: np.ndarray, degrees: int, confidence: float = 0.95
) -> tuple[float, float]:
    """The positive values of `numerator / denominator` that the two estimates do not contradict.

        all r >= 0 with (T - r G)^2 <= t^2 (C_TT - 2 r C_TG + r^2 C_GG)

    with t the two-sided quantile of Student's distribution. Where G itself may be zero the upper end is infinite; the
    usual interval, estimate plus and minus an error, would claim more than is known there. A negative G, an estimate
    of something positive, counts as zero.

    Args:
        numerator, denominator: the estimates T and G; T is meant to be positive.
        covariance: `(2, 2)`, theirs.
        degrees: of freedom, the number of groups less one.
        confidence: between 0 and 1.

    Raises:
        ConfigError: the confidence is not between 0 and 1.

    Source: Fieller 1954, "Some problems in interval estimation".

    Example: `ratio_interval(2.0, 1.0, np.diag([0.01, 0.01]), 20)` is about `(1.60, 2.59)`.
    """
    if not 0 < confidence < 1:
        raise ConfigError(f"confidence is {confidence}; it must lie between 0 and 1, as 0.95")
    quantile = student_quantile((1 + confidence) / 2, degrees) ** 2
    # Fieller's theorem: the ratios r for which numerator - r denominator is not known to differ from zero.
    (top, both), (_, bottom) = quantile * np.asarray(covariance, "float64")
    denominator = max(denominator, 0.0)
    # a r^2 - 2 b r + c <= 0
    a, b, c = denominator**2 - bottom, numerator * denominator - both, numerator**2 - top
    root = math.sqrt(max(b * b - a * c, 0.0))
    if a > 0:
        return float(max((b - root) / a, 0.0)), float(max((b + root) / a, 0.0))
    if c <= 0 or a == 0 or b * b <= a * c:  # neither estimate is known to differ from zero
        return 0.0, math.inf
    return float((b - root) / a), math.inf  # a < 0 < c: the positive root


def student_quantile(probability: float, degrees: int) -> float:
    """The quantile of Student's distribution, by the expansion about the normal one; within 1% from 3 degrees on.

    Source: Abramowitz, Stegun 1964, 26.7.5; one and two degrees have closed forms.

    Example: `student_quantile(0.975, 9)` is 2.262.
    """
    if degrees < 1:
        raise ConfigError(f"an interval with {degrees} degrees of freedom; there must be at least two groups")
    if degrees == 1:
        return math.tan(math.pi * (probability - 0.5))
    if degrees == 2:
        return (2 * probability - 1) * math.sqrt(2 / (4 * probability * (1 - probability)))
    # Cornish-Fisher expansion (Abramowitz and Stegun 26.7.5); 1 and 2 degrees of freedom have closed forms above.
    z = NormalDist().inv_cdf(probability)
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    fourth = (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160
    return z + first / degrees + second / degrees**2 + third / degrees**3 + fourth / degrees**4
