"""The gradient noise scale: at which batch size the noise of a gradient is as large as the gradient itself."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import takewhile

import numpy as np

from qingformer.analysis.intervals import jackknife_covariance, ratio_interval
from qingformer.errors import ConfigError


@dataclass(frozen=True)
class NoiseScale:
    """B_simple = tr(Sigma) / |g|^2, in examples, with what it was estimated from.

    `covariance_trace` estimates tr(Sigma), the total variance of the gradient of one example; `gradient_square`
    estimates |g|^2 of the mean gradient, and may be negative where noise hides it; both are without bias. `interval`
    holds the ratio with probability `confidence`; its upper end is infinite where |g|^2 is not known to differ from 0.
    """

    covariance_trace: float
    gradient_square: float
    interval: tuple[float, float]
    confidence: float
    examples: int
    batches: int

    @property
    def value(self) -> float:
        """The ratio, infinite where the gradient does not stand out of its noise at all."""
        return self.covariance_trace / self.gradient_square if self.gradient_square > 0 else math.inf


def two_batch_estimate(
    small_square: float, big_square: float, small_size: float, big_size: float
) -> tuple[float, float]:
    """|g|^2 and tr(Sigma) without bias, from the squared norms of gradients over two batch sizes.

        |g|^2      = (B_big |g_big|^2 - B_small |g_small|^2) / (B_big - B_small)
        tr(Sigma)  = (|g_small|^2 - |g_big|^2) / (1 / B_small - 1 / B_big)

    Args:
        small_square, big_square: squared norms, or means of many of them.
        small_size, big_size: examples in a batch, the second larger.

    Raises:
        ConfigError: sizes that are not positive and rising.

    Source: McCandlish et al. 2018, arXiv 1812.06162, appendix A.1; 科学空间 archives/10542.

    Example:
        >>> two_batch_estimate(small_square=3.0, big_square=2.0, small_size=1, big_size=2)
        (1.0, 2.0)
    """
    if not 0 < small_size < big_size:
        raise ConfigError(f"batch sizes {small_size} and {big_size}; the first must be positive and below the second")
    # E|g_B|^2 = |G|^2 + tr(S) / B at two sizes: two equations for two unknowns (McCandlish et al. 2018, appendix A.1).
    square = (big_size * big_square - small_size * small_square) / (big_size - small_size)
    trace = (small_square - big_square) / (1 / small_size - 1 / big_size)
    return square, trace


def per_example_estimate(gradients: np.ndarray) -> tuple[float, float]:
    """|g|^2 and tr(Sigma) without bias, from the gradients of single examples, `(n, P)` float.

        tr(Sigma) = sum_i |g_i - mean|^2 / (n - 1),   |g|^2 = |mean|^2 - tr(Sigma) / n

    Raises:
        ConfigError: fewer than two examples.

    Source: 科学空间 archives/10542.

    Example: `per_example_estimate(np.array([[1.0, 0.0], [0.0, 1.0]]))` is `(0.0, 1.0)`.
    """
    count = len(gradients)
    if count < 2:
        raise ConfigError(f"{count} gradients; a variance needs at least two")
    mean = gradients.mean(axis=0)
    trace = float(((gradients - mean) ** 2).sum() / (count - 1))
    return float((mean**2).sum()) - trace / count, trace


@dataclass(frozen=True)
class GradientMoments:
    """What is kept of the gradients of K batches, dealt out to J groups: enough for every estimate and its error.

    With g_k the mean gradient over the n_k examples of batch k:

    - `names`: the V variables' paths;
    - `products`: `(V, J, J)` inner products of the groups' sums of n_k g_k;
    - `squares`: `(V, J)` the groups' sums of n_k |g_k|^2;
    - `examples`, `batches`: `(J,)` how many of both each group has;
    - `loss`: the mean loss.
    """

    names: tuple[str, ...]
    products: np.ndarray
    squares: np.ndarray
    examples: np.ndarray
    batches: np.ndarray
    loss: float

    def noise_scale(self, select: Callable[[str], bool] | None = None, confidence: float = 0.95) -> NoiseScale:
        """The noise scale of the variables whose path `select` accepts, all by default.

            tr(Sigma) = (sum_k n_k |g_k|^2 - |sum_k n_k g_k|^2 / N) / (K - 1)
            |g|^2     = |sum_k n_k g_k|^2 / N^2 - tr(Sigma) / N

        For batches of one size this is `two_batch_estimate` with the batches and all of them together, for batches
        of one example `per_example_estimate`. The interval leaves out one group after another (`ratio_interval`).

        Raises:
            ConfigError: no variable is accepted.
        """
        chosen = [index for index, name in enumerate(self.names) if select is None or select(name)]
        if not chosen:
            raise ConfigError(f"no variable was chosen; there are: {', '.join(self.names)}")
        products, squares = self.products[chosen].sum(axis=0), self.squares[chosen].sum(axis=0)
        everything = np.ones(len(squares), bool)
        trace, square = self._estimate(products, squares, everything)
        left_out = [self._estimate(products, squares, np.arange(len(squares)) != out) for out in range(len(squares))]
        covariance = jackknife_covariance(np.array(left_out))
        interval = ratio_interval(trace, square, covariance, len(squares) - 1, confidence)
        return NoiseScale(trace, square, interval, confidence, int(self.examples.sum()), int(self.batches.sum()))

    def by_layer(self, group: Callable[[str], str] | None = None, confidence: float = 0.95) -> dict[str, NoiseScale]:
        """The noise scale of every group of variables, in the order of the model.

        `group` names the group of a path; by default it is the first part in which the paths differ: `block_0`.
        """
        group = group or layer_of(self.names)
        return {
            name: self.noise_scale(lambda path: group(path) == name, confidence)  # noqa: B023
            for name in dict.fromkeys(map(group, self.names))
        }

    def _estimate(self, products: np.ndarray, squares: np.ndarray, kept: np.ndarray) -> tuple[float, float]:
        examples, batches = self.examples[kept].sum(), self.batches[kept].sum()
        total = products[kept][:, kept].sum()
        # The variance between batches, each weighted by its examples; an unbiased estimate of tr(S).
        trace = (squares[kept].sum() - total / examples) / (batches - 1)
        return float(trace), float(total / examples**2 - trace / examples)


def layer_of(paths: Iterable[str]) -> Callable[[str], str]:
    """A function from a variable's path to its part that tells the layers apart.

    >>> layer_of(["bert/block_0/kernel", "bert/block_1/kernel"])("bert/block_0/kernel")
    'block_0'
    """
    parts = [path.split("/") for path in paths]
    same = sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, zip(*(path[:-1] for path in parts))))
    depth = same if all(len(path) > same + 1 for path in parts) else max(same - 1, 0)
    return lambda path: path.split("/")[min(depth, max(path.count("/") - 1, 0))]
