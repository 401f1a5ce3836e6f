"""What a model starts with: the truncated normal, what activations do to a signal's size, and how deep signals go."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from keras import ops

from qingformer import backend
from qingformer.errors import ConfigError
from qingformer.models.roformer_v2 import DepthInitializer
from qingformer.ops.activations import get_activation
from qingformer.types import Nest

Norm = str
NORMS = ("post", "pre", "none")


def truncated_normal_deviation(cut: float = 2.0) -> float:
    """The standard deviation that is left of 1 when a normal distribution is cut at `cut` deviations on both sides.

        gamma = 1 - 2 a phi(a) / (2 Phi(a) - 1),   a = cut

    For 2 it is 0.8796 (variance 0.7737413): BERT's 0.02 is 0.0176 in fact. 1 / 0.8796 = 1.1368 undoes it.

    Source: 科学空间 archives/8747, archives/8620.

    Example: `truncated_normal_deviation()` is 0.87962566.
    """
    if not cut > 0:
        raise ConfigError(f"cut is {cut}; it must be above 0")
    normal = NormalDist()
    # The deviation of a normal that is cut at both ends: 0.88 for a cut at 2, by which initialisers divide.
    return math.sqrt(1 - 2 * cut * normal.pdf(cut) / (2 * normal.cdf(cut) - 1))


def second_moment(activation: str | Callable[[Any], Any], reach: float = 12.0, points: int = 48001) -> float:
    """E f(x)^2 of a standard normal x: by what a layer's signal shrinks behind an activation f.

    relu 0.5 (hence He's 2 / m), sigmoid 0.2933790, tanh 0.3943, gelu 0.4252. By the trapezoidal rule.

    Args:
        activation: a name of `get_activation`, or a function of an array.

    Raises:
        ConfigError: an unknown name.

    Source: 科学空间 archives/8620; He et al. 2015, arXiv 1502.01852.

    Example: `second_moment("relu")` is 0.5.
    """
    function = get_activation(activation) if isinstance(activation, str) else activation
    # 12 deviations: beyond, the weight exp(-72) is below what float64 can add. The sums are trapezes on a fine grid.
    x = np.linspace(-reach, reach, points)
    values = np.asarray(ops.convert_to_numpy(function(ops.convert_to_tensor(x, "float32"))), "float64")
    weights = np.exp(-(x**2) / 2)
    return float((values**2 * weights).sum() / weights.sum())


def suggest_deviation(width: int, depth: int = 1, order: int = 2) -> float:
    """The deviation to give a truncated normal for a kernel of that input width in a model of that many layers.

        1.1368 / sqrt(d) * L^(-1/order)

    With depth 1 the signal keeps its size (LeCun's 1 / d, the truncation undone); with the depth of the model the
    branches start smaller, so that many of them do not drown the input. Order 2 is RoFormerV2's, 3 is GAU-α's. It is
    what `DepthInitializer` draws with.

    Source: 科学空间 archives/8620, archives/8998; Wang et al. 2022 (DeepNet), arXiv 2203.00555.

    Raises:
        ConfigError: a number below 1.

    Example: `suggest_deviation(768)` is 0.0410, and cut at two deviations 0.0361; BERT takes 0.02.
    """
    if min(width, depth, order) < 1:
        raise ConfigError(f"width {width}, depth {depth}, order {order}; all must be 1 or more")
    return DepthInitializer(depth, order).deviation(width)


def input_weight(
    depth: int, norm: Norm = "post", branch: float = 1.0, skip: float = 1.0, ramp: Sequence[float] | float = 1.0
) -> np.ndarray:
    """The weight of the input x_0 in x_l as a share of x_l's size, for l = 0 to `depth`, `(depth + 1,)`.

    With branches F of size sigma (`branch`) that are independent of what they are added to:

        post   x <- norm(s x + a F(x))   weight  prod_{j < l} (1 + (a_j sigma / s)^2)^(-1/2), that is 2^(-l/2) for 1
        pre    x <- s x + a F(norm(x))   weight  (1 + sum_{j < l} (a_j sigma)^2)^(-1/2) for s = 1

    `skip` is s, `ramp` a, one number or one a layer. Without a norm ("none", x <- s x + a F(x) with F of the size of x)
    the weight is that of "post". DeepNet takes s = (2 L)^(1/4) and branches that start smaller; a ramp that begins at 0
    leaves the identity.

    Raises:
        ConfigError: an unknown norm, or a ramp of another length.

    Source: 科学空间 archives/8747, archives/8620; Wang et al. 2022, arXiv 2203.00555.

    Example: `input_weight(4)` is `[1, 0.707, 0.5, 0.354, 0.25]`.
    """
    squares = (_ramp(depth, norm, ramp) * branch) ** 2
    if norm != "pre":
        factors = np.cumprod(1 / np.sqrt(1 + squares / skip**2))
    elif skip == 1:
        factors = 1 / np.sqrt(1 + np.cumsum(squares))
    else:  # the size of x grows by s, so a branch of fixed size counts less and less (or more and more)
        powers = skip ** (2.0 * np.arange(1, depth + 1))
        factors = 1 / np.sqrt(1 + np.cumsum(squares / powers))
    return np.concatenate([[1.0], factors])


@dataclass(frozen=True)
class StackSignal:
    """Sizes by depth in a stack of random layers: what goes forward, what comes back.

    `size` and `cosine` `(L + 1,)`: root mean square of x_l, and its cosine with x_0. `gradient` `(L,)`: root mean
    square of the gradient of layer l's weights, for a random linear loss of the last x.
    """

    size: np.ndarray
    cosine: np.ndarray
    gradient: np.ndarray


def simulate_stack(
    depth: int,
    width: int = 256,
    norm: Norm = "post",
    *,
    branch: float = 1.0,
    skip: float = 1.0,
    ramp: Sequence[float] | float = 1.0,
    rows: int = 32,
    seed: int = 0,
) -> StackSignal:
    """Run random vectors through the simplest residual layers, to see the laws of `input_weight` and their gradients.

    F(x) = sigma x W with W normal of variance 1 / width, sigma = `branch`; norms divide by the root mean square.

    Args:
        depth, width: L layers of that width.
        norm, branch, skip, ramp: as in `input_weight`.
        rows, seed: of the random vectors.

    Example: `simulate_stack(12).cosine[-1]` is about 2^-6.
    """
    ramps = _ramp(depth, norm, ramp)
    generator = np.random.default_rng(seed)
    kernels = [generator.normal(0, width**-0.5, (width, width)).astype("float32") for _ in range(depth)]
    start, readout = generator.normal(size=(2, rows, width)).astype("float32")

    def normalised(x: Nest) -> Any:
        return x / ops.sqrt(ops.mean(x**2, axis=-1, keepdims=True) + 1e-12)

    def run(weights: list[Any]) -> tuple[Any, list[Any]]:
        x = normalised(ops.convert_to_tensor(start))
        states = [x]
        for kernel, alpha in zip(weights, ramps):
            update = float(branch * alpha) * ops.matmul(normalised(x) if norm == "pre" else x, kernel)
            x = normalised(skip * x + update) if norm == "post" else skip * x + update
            states.append(x)
        # A norm behind the last layer, as pre-norm models have: then all losses see vectors of one size.
        return ops.mean(ops.sum(normalised(x) * ops.convert_to_tensor(readout), axis=-1)), states

    (_, states), gradients = backend.value_and_grad(run, has_aux=True)([ops.convert_to_tensor(k) for k in kernels])
    arrays = [np.asarray(ops.convert_to_numpy(x), "float64") for x in states]
    sizes = np.array([root_mean_square(x) for x in arrays])
    return StackSignal(
        sizes,
        np.array([cosine(x, arrays[0]) for x in arrays]),
        np.array([root_mean_square(ops.convert_to_numpy(g)) for g in gradients]),
    )


def root_mean_square(values: object) -> float:
    """The root of the mean square of all entries."""
    return float(np.sqrt(np.mean(np.asarray(values, "float64") ** 2)))


def cosine(left: np.ndarray, right: np.ndarray) -> float:
    """The mean cosine of the vectors in the last axis; a vector of zeros has none with anything."""
    left, right = np.asarray(left, "float64"), np.asarray(right, "float64")
    lengths = np.linalg.norm(left, axis=-1) * np.linalg.norm(right, axis=-1)
    return float(np.mean((left * right).sum(axis=-1) / np.maximum(lengths, 1e-30)))


def _ramp(depth: int, norm: Norm, ramp: Sequence[float] | float) -> np.ndarray:
    if norm not in NORMS:
        raise ConfigError(f"norm is {norm!r}; it must be one of {', '.join(NORMS)}")
    if depth < 1:
        raise ConfigError(f"depth is {depth}; there must be at least one layer")
    ramps = np.full(depth, ramp) if np.ndim(ramp) == 0 else np.asarray(ramp, "float64")
    if len(ramps) != depth:
        raise ConfigError(f"ramp has {len(ramps)} entries for {depth} layers; give one number, or one a layer")
    return ramps
