"""A picture of the best learning rate and of the cost of a run over the batch size."""

import math
import os
from pathlib import Path
from typing import Any

import numpy as np

from qingformer.analysis.rate_laws import SignLaw, sgd_rate
from qingformer.errors import ConfigError
from qingformer.files import atomic_file


def figure_and_canvas(width: float, height: float) -> Any:
    """An empty matplotlib figure that needs no display.

    Raises:
        ConfigError: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise ConfigError('drawing needs matplotlib: pip install "qingformer[plot]"') from None
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def plot_rates(
    noise_scale: float, rate: float, batch_size: int, new_batch_sizes: list[int], picture: str | os.PathLike[str]
) -> Path:
    """Draw the rates of SGD and Adam through the point in use, and steps and examples in units of the least.

    Raises:
        ConfigError: matplotlib is not installed, or the noise scale is not a positive finite number.

    Example: `plot_rates(96.0, 1e-3, 32, [64, 128], "rates.png")`
    """
    figure = figure_and_canvas(10, 4)
    if not 0 < noise_scale < math.inf:
        raise ConfigError(f"the noise scale is {noise_scale}; there is a curve to draw only for a positive finite one")
    shown = [batch_size, *new_batch_sizes]
    sizes = np.geomspace(min([*shown, noise_scale]) / 4, max([*shown, noise_scale]) * 4, 200)
    law = SignLaw(math.sqrt(noise_scale))
    left, right = figure.subplots(1, 2)
    left.plot(sizes, rate * sgd_rate(sizes, noise_scale) / sgd_rate(batch_size, noise_scale), label="SGD")
    left.plot(sizes, rate * law.rate(sizes) / law.rate(batch_size), label="Adam")
    for index, size in enumerate(sorted(new_batch_sizes)):
        label = "asked for" if index == 0 else None
        left.plot(size, rate * law.rate(size) / law.rate(batch_size), "o", color="C1", label=label)
    left.plot(batch_size, rate, "ks", label="in use")
    left.set(title="Learning rate", ylabel="best rate", xscale="log", yscale="log")
    right.plot(sizes, 1 + noise_scale / sizes, color="C2", label="steps")
    right.plot(sizes, 1 + sizes / noise_scale, color="C3", label="examples")
    right.set(title="Cost of a run", ylabel="times the least", xscale="log", yscale="log")
    for axes in (left, right):
        axes.axvline(noise_scale, color="grey", linestyle=":", label=f"noise scale {noise_scale:.3g}")
        axes.set_xlabel("batch size")
        axes.grid(alpha=0.3)
        axes.legend()
    path = Path(picture)
    with atomic_file(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)
    return path
