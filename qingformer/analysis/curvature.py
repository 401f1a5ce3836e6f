"""The curvature along the gradient and along its noise: what the best rate of SGD and its noise scale are made of."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import keras
import numpy as np
from keras import ops

from qingformer import backend
from qingformer.analysis.gradients import Gradients, pieces
from qingformer.analysis.intervals import jackknife_covariance, ratio_interval
from qingformer.errors import ConfigError
from qingformer.losses.means import over_all_rows
from qingformer.objectives import Batch, ModelObjective, Objective, State
from qingformer.types import Nest, Tensor


@dataclass(frozen=True)
class CurvedNoise:
    """B_noise = tr(H Sigma) / g^T H g with what it is made of, for the second-order picture of a step of SGD.

    `curvature` estimates g^T H g, `noise_curvature` tr(H Sigma), `gradient_square` |g|^2, all without bias and of any
    sign; `interval` as in `NoiseScale`.
    """

    gradient_square: float
    curvature: float
    noise_curvature: float
    interval: tuple[float, float]
    examples: int

    @property
    def value(self) -> float:
        """B_noise in examples; infinite where the curvature along the gradient is not positive."""
        return self.noise_curvature / self.curvature if self.curvature > 0 else math.inf

    @property
    def best_rate(self) -> float:
        """eta_max = g^T g / g^T H g, the best rate of a gradient without noise; infinite without curvature."""
        return self.gradient_square / self.curvature if self.curvature > 0 else math.inf


def measure_curvature(
    model: keras.Model,
    data: Nest,
    *,
    rows: int | None = None,
    examples: int | None = None,
    objective: Objective | None = None,
    confidence: float = 0.95,
    done: Callable[[int], None] | None = None,
) -> CurvedNoise:
    """Measure B_noise of a small model by one Hessian-vector product per batch.

    With g_k the gradient and H_k the Hessian of batch k of b examples, and g_-k the mean gradient of all batches but k
    and k + 1, the products

        c_k = g_-k^T H_{k+1} g_k,   a_k = g_k^T H_{k+1} g_k

    are made of independent batches where they must be: E c = g^T H g and E a = g^T H g + tr(H Sigma) / b. H v is the
    gradient of (grad L)^T v. Dropout is off. All gradients are held in memory.

    Args: as `measure_gradients`; batches must have one size (smaller ones are left out).

    Raises:
        ConfigError: a model that is not compiled; fewer than 4 batches.

    Source: McCandlish et al. 2018, arXiv 1812.06162; 科学空间 archives/10542; the estimator is ours.

    Example: `measure_curvature(model, (x, y), rows=16).value`
    """
    taken = Gradients(model, objective or ModelObjective(model, training=False))
    found: list[tuple[Batch, list[np.ndarray]]] = []
    size = 0
    kept = list(pieces(data, rows))
    size = max((count for _, count in kept), default=0)
    # Only full batches: the estimate needs gradients over the same number of examples.
    kept = [(batch, count) for batch, count in kept if count == size]
    for (batch, _), (_, gradients, *_) in zip(kept, taken.over(kept, examples)):
        found.append((batch, gradients))
        if done is not None:
            done(size)
    number = len(found)
    if number < 4:
        raise ConfigError(f"{number} batches of one size; the curvature needs at least 4: give more data or fewer rows")
    multiply = hessian_product(taken)
    total = [sum(parts) for parts in zip(*(gradients for _, gradients in found))]
    squares, alone, crossed = [], [], []
    for index, (_, gradients) in enumerate(found):
        # The Hessian is taken on the next batch, so that it is independent of the gradient it is multiplied by.
        batch, following = found[(index + 1) % number]
        product = multiply(batch, gradients)
        # The mean gradient of all batches but these two: unbiased, as no noise appears twice in a product.
        others = [(t - g - f) / (number - 2) for t, g, f in zip(total, gradients, following)]
        alone.append(_inner(gradients, product))
        crossed.append(_inner(others, product))
        squares.append(_inner([(t - g) / (number - 1) for t, g in zip(total, gradients)], gradients))
        if done is not None:
            done(size)
    a, c = np.array(alone), np.array(crossed)
    pairs = np.stack([size * (a - c), c], axis=1)
    left_out = (pairs.sum(axis=0) - pairs) / (number - 1)
    trace, curvature = map(float, pairs.mean(axis=0))
    interval = ratio_interval(trace, curvature, jackknife_covariance(left_out), number - 1, confidence)
    return CurvedNoise(float(np.mean(squares)), curvature, trace, interval, number * size)


def hessian_product(taken: Gradients) -> Callable[[Batch, list[np.ndarray]], list[np.ndarray]]:
    """A compiled function from a batch and a direction v (arrays shaped as the weights) to H v."""
    objective = taken.objective

    def along(trainable: list[Tensor], state: State, batch: Batch, direction: list[Tensor]) -> Tensor:
        with over_all_rows(taken.model):
            _, gradients = objective.value_and_grad(trainable, state, batch)
        return sum(ops.sum(ops.cast(g, "float32") * v) for g, v in zip(gradients, direction))

    compiled = backend.compile(lambda *arguments: backend.value_and_grad(along)(*arguments)[1])

    def multiply(batch: Batch, direction: list[np.ndarray]) -> list[np.ndarray]:
        vector = [ops.convert_to_tensor(v) for v in direction]
        found = compiled(taken.trainable(), taken.state(batch), batch, vector)
        return [np.asarray(ops.convert_to_numpy(ops.cast(g, "float32"))) for g in found]

    return multiply


def _inner(left: list[np.ndarray], right: list[np.ndarray]) -> float:
    return float(sum(np.vdot(a.astype("float64"), b.astype("float64")) for a, b in zip(left, right)))
