"""Steps against examples: what a larger batch saves of one and costs of the other."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from qingformer.errors import ConfigError


@dataclass(frozen=True)
class TradeOff:
    """The numbers of steps S and examples E = B S that reach one loss at different batch sizes B.

        (S / S_min - 1) (E / E_min - 1) = 1,   S = S_min (1 + B_crit / B),   E = S_min (B + B_crit)

    `min_steps` (S_min) are needed however large the batch is, `min_examples` (E_min) however small.

    Source: McCandlish et al. 2018, arXiv 1812.06162; 科学空间 archives/10542.

    Example:
        >>> law = TradeOff(min_steps=100, min_examples=6400)
        >>> law.critical_batch_size, law.steps(64), law.examples(64)
        (64.0, 200.0, 12800.0)
    """

    min_steps: float
    min_examples: float

    def __post_init__(self) -> None:
        if not (self.min_steps > 0 and self.min_examples > 0):
            raise ConfigError(
                f"TradeOff: {self.min_steps} steps and {self.min_examples} examples; both must be above 0"
            )

    @property
    def critical_batch_size(self) -> float:
        """B_crit = E_min / S_min: twice the least steps, twice the least examples."""
        return self.min_examples / self.min_steps

    def steps(self, batch_size: Any) -> Any:
        """S(B)."""
        return self.min_steps * (1 + self.critical_batch_size / batch_size)

    def examples(self, batch_size: Any) -> Any:
        """E(B)."""
        return self.min_steps * (batch_size + self.critical_batch_size)


def fit_trade_off(batch_sizes: Sequence[float], steps: Sequence[float]) -> TradeOff:
    """S_min and E_min from measured points: the numbers of steps that reached one loss at several batch sizes.

    S = S_min + E_min / B is linear in both; the squared relative errors of S are least.

    Raises:
        ConfigError: fewer than two batch sizes, or points that no positive S_min and E_min describe (steps that do
            not fall with the batch size, or that fall faster than it grows).

    Source: as `TradeOff`.

    Example: `fit_trade_off([16, 64, 256], [500, 200, 125]).critical_batch_size` is 64.
    """
    sizes, counts = np.asarray(batch_sizes, "float64"), np.asarray(steps, "float64")
    if sizes.shape != counts.shape or len(np.unique(sizes)) < 2 or (sizes <= 0).any() or (counts <= 0).any():
        raise ConfigError("fit_trade_off: give positive numbers of steps for at least two batch sizes")
    columns = np.stack([1 / counts, 1 / (sizes * counts)], axis=1)
    (least, examples), *_ = np.linalg.lstsq(columns, np.ones(len(sizes)), rcond=None)
    if least <= 0 or examples <= 0:
        raise ConfigError(
            f"fit_trade_off: the points ask for S_min = {least:.3g} and E_min = {examples:.3g}, which cannot be; "
            "the steps must fall with the batch size, and more slowly than it grows"
        )
    return TradeOff(float(least), float(examples))
