"""How wide an embedding must be for a vocabulary, from the entropy of a softmax over random directions."""

import math

import numpy as np

from qingformer.errors import ConfigError

FACTOR = 8.33


def suggest_dimension(vocabulary_size: int, factor: float = FACTOR) -> int:
    """The width at which word vectors can begin to tell N words apart: about 8.33 log N, natural logarithm.

    The pairs of a skip-gram model p(i, j) ~ exp <u_i, v_j> with vectors of norm sqrt(n) in random directions have the
    entropy H = 2 log N + h_n (`direction_entropy`). Vectors can only describe a distribution of lower entropy, so n
    must be so large that H < 0; with h_n = -0.2406 n that is n > 8.31 log N. The rule is rounded to the nearest width
    and says an order of magnitude: 512 for a head's context, for instance, gives 52.

    Raises:
        ConfigError: fewer than two words, or a factor that is not positive.

    Source: 科学空间 archives/7695.

    Example:
        >>> suggest_dimension(10**5), suggest_dimension(5 * 10**6)
        (96, 128)
    """
    if vocabulary_size < 2 or not factor > 0:
        raise ConfigError(f"vocabulary_size is {vocabulary_size} and factor {factor}; expected 2 or more, and above 0")
    return round(factor * math.log(vocabulary_size))


def direction_entropy(dimension: int, points: int = 4001) -> float:
    """h_n, the part of that entropy which depends on the width n, by quadrature over the angle theta.

        h_n = log E exp(n cos theta) - n E[exp(n cos theta) cos theta] / E exp(n cos theta)

    with theta the angle of two random directions, of density ~ sin(theta)^(n - 2). All in logarithms: the integrand
    spans hundreds of orders of magnitude.

    Raises:
        ConfigError: a dimension below 2.

    Source: 科学空间 archives/7695.

    Example: `round(direction_entropy(128), 4)` is -30.8718.
    """
    if dimension < 2:
        raise ConfigError(f"dimension is {dimension}; there are angles only from 2 on")
    angle = np.linspace(0, math.pi, points)
    with np.errstate(divide="ignore", invalid="ignore"):
        density = np.where(dimension > 2, (dimension - 2) * np.log(np.sin(angle)), 0.0)
    density[[0, -1]] = 0.0 if dimension == 2 else -np.inf
    ends = np.ones(points)
    ends[[0, -1]] = 0.5
    weights = ends * np.exp(density - density.max())
    power = dimension * np.cos(angle)
    tilted = ends * np.exp(density + power - (density + power).max())
    log_mean = (density + power).max() - density.max() + math.log(tilted.sum() / weights.sum())
    return float(log_mean - dimension * (tilted * np.cos(angle)).sum() / tilted.sum())


def direction_entropy_slope() -> float:
    """The limit of h_n / n for wide vectors: log((sqrt 5 - 1) / 2) / 2 = -0.2406; 2 / 0.2406 = 8.31.

    The exponent log sin theta + cos theta is largest, 0.377428, where cos theta = (sqrt 5 - 1) / 2; there h_n / n is
    its value less cos theta. (The article prints the reciprocal under the logarithm, which has the other sign.)

    Source: 科学空间 archives/7695.
    """
    return 0.5 * math.log((math.sqrt(5) - 1) / 2)
