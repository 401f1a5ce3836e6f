"""Low-rank training as an optimizer: LoRA, random projections and additive updates from the full gradient."""

import re
import zlib
from collections.abc import Sequence
from typing import NamedTuple

import keras
from keras import ops

from qingformer import backend
from qingformer.backend.keras_internals import no_automatic_dependency_tracking, random_seed_dtype
from qingformer.errors import ConfigError
from qingformer.optimizers.wrapper import Wrapper, chain, snapshot
from qingformer.types import Config, Tensor

MODES = ("adapters", "additive", "random_projection")


class Factors(NamedTuple):
    """What stands for one matrix W (n, m): A (n, r) and B (r, m)."""

    a: keras.Variable
    b: keras.Variable


@keras.saving.register_keras_serializable("qingformer")
class LowRankUpdates(Wrapper):
    """Change chosen matrices by low-rank products only, whatever the model and whatever optimizer is inside.

    G = dL/dW (n, m) is the gradient that training computes anyway; `mode` says what is made of it:

    "adapters": LoRA. A (n, r), B (r, m) belong to the optimizer; the inner one steps on them with
        dA = s G B^T,   dB = s A^T G,   W <- W + s (A' B' - A B),   s = alpha / r.
      The total change of W has rank r at most (2 r with `symmetric`, which starts both factors at random).
      With SGD at scale 1 a step is  -eta (G B^T B + A A^T G) + eta^2 G B^T A^T G.
    "additive": W = W_0 + s (A [I ... I] + [I; ...; I] B) with identities of size r, both factors zero at first; dA and
      dB are sums of blocks of columns and of rows of G. For r = 1: sums of columns and rows, a change of rank 2.
    "random_projection": fresh U (n, r), V (r, m) ~ N(0, 1) each step, and in place of G the inner optimizer sees
      (G V^T V + U U^T G) / r, whose mean is 2 G: full-rank training on the average. With SGD W changes by
      -eta (G V^T V + U U^T G) / r; U and V follow from seed and step count, so a resumed training draws the same.

    Against adapters in the model (`backbone.enable_lora`) it needs no change of the model and saves the same optimizer
    state, but not the gradient: a step costs what full training costs. Matrices not chosen are trained as usual;
    freeze what should stay. In "random_projection" the inner state is of full size. Sources: Hu et al. 2021,
    arXiv 2106.09685; 科学空间, archives/9590 (the optimizer's view, symmetric start, the two other modes).

    Args:
        optimizer: any Keras optimizer (its clipping and decay act on A and B), with its learning rate or schedule.
        rank: r.
        select: regular expressions for the paths of the variables; of those that match, the matrices are chosen.
        mode: see above.
        alpha: scale s = alpha / rank of the product; by default `rank`, which is scale 1.
        symmetric: "adapters" only: A and B both start at random. W does not change at the start in either case.
        seed: of the starting values and of the projections.

    Raises:
        ConfigError: an argument that cannot be; in `build`, a pattern without a matrix, or a rank that does not fit.

    Example:
        >>> model.compile(LowRankUpdates(keras.optimizers.Adam(1e-3), rank=8, select=[r"(query|value)/kernel$"]))
    """

    def __init__(
        self,
        optimizer: keras.optimizers.Optimizer,
        rank: int = 8,
        select: str | Sequence[str] = (r"kernel$",),
        mode: str = "adapters",
        *,
        alpha: float | None = None,
        symmetric: bool = False,
        seed: int = 0,
        name: str | None = None,
    ) -> None:
        _check(optimizer, rank, mode, alpha, symmetric)
        super().__init__(optimizer, name)
        self.rank, self.mode, self.alpha, self.symmetric, self.seed = rank, mode, alpha, symmetric, seed
        self.select = [select] if isinstance(select, str) else list(select)

    @property
    def scale(self) -> float:
        """s = alpha / rank."""
        return 1.0 if self.alpha is None else self.alpha / self.rank

    # --- one step -----------------------------------------------------------------------------------------------------

    @no_automatic_dependency_tracking
    def build(self, variables: Sequence[keras.Variable]) -> None:
        """Choose the matrices and make what stands for them, which the inner optimizer is built with."""
        if self.built:
            return
        variables = list(variables)
        self._chosen = _choose(variables, self.select, self.rank, self.mode)
        self._factors: dict[int, Factors] = {}
        if self.mode != "random_projection":
            self._factors = {index: self._make_factors(variables[index]) for index in self._chosen}
        self.inner_optimizer.build(self._inner_variables(variables))
        super().build(variables)

    def update(self, gradients: list[Tensor], variables: list[keras.Variable]) -> None:
        """One step of the inner optimizer on what stands for the matrices, and the matrices after it."""
        indices = [self._get_variable_index(variable) for variable in variables]
        if self.mode == "random_projection":
            projected = [self._projected(gradient, position) for gradient, position in zip(gradients, indices)]
            self.update_inner(projected, variables)
        else:
            self._apply_to_factors(gradients, variables, indices)

    def _apply_to_factors(self, grads: list[Tensor], variables: list[keras.Variable], indices: list[int]) -> None:
        inner_gradients: list[Tensor] = []
        inner_variables: list[keras.Variable] = []
        before: list[tuple[keras.Variable, Factors, Tensor, Tensor]] = []
        for gradient, variable, position in zip(grads, variables, indices):
            factors = self._factors.get(position)
            if factors is None or gradient is None:
                inner_gradients.append(gradient)
                inner_variables.append(variable)
                continue
            # Copies, as the inner optimizer changes both in place.
            a, b = snapshot(factors.a), snapshot(factors.b)
            inner_gradients.extend(self._gradients(gradient, a, b))
            inner_variables.extend(factors)
            before.append((variable, factors, a, b))
        self.update_inner(inner_gradients, inner_variables)
        for variable, factors, a, b in before:
            change = self.scale * self._difference(factors, a, b)
            variable.assign_add(ops.cast(change, variable.dtype))
            if variable.constraint is not None:
                variable.assign(variable.constraint(variable))

    def _gradients(self, gradient: Tensor, a: Tensor, b: Tensor) -> list[Tensor]:
        g = ops.cast(ops.convert_to_tensor(gradient), a.dtype) * self.scale
        if self.mode == "adapters":
            # The chain rule through W = A B: dL/dA = G B^T, dL/dB = A^T G.
            return [ops.matmul(g, ops.transpose(b)), ops.matmul(ops.transpose(a), g)]
        rows, columns = g.shape
        return [
            ops.sum(ops.reshape(g, (rows, columns // self.rank, self.rank)), axis=1),
            ops.sum(ops.reshape(g, (rows // self.rank, self.rank, columns)), axis=0),
        ]

    def _difference(self, factors: Factors, a: Tensor, b: Tensor) -> Tensor:
        """A' B' - A B, and what corresponds to it in the additive mode."""
        new_a, new_b = ops.convert_to_tensor(factors.a), ops.convert_to_tensor(factors.b)
        if self.mode == "additive":
            rows, columns = new_a.shape[0], new_b.shape[1]
            across, down = (1, columns // self.rank), (rows // self.rank, 1)
            return ops.tile(new_a - a, across) + ops.tile(new_b - b, down)
        # The same as the difference of the products, without losing digits when both are large and alike.
        return ops.matmul(new_a - a, new_b) + ops.matmul(a, new_b - b)

    def _projected(self, gradient: Tensor, position: int) -> Tensor:
        if gradient is None or position not in self._chosen:
            return gradient
        g = ops.convert_to_tensor(gradient)
        rows, columns = g.shape
        u = ops.cast(keras.random.normal((rows, self.rank), seed=self._seed(2 * position)), g.dtype)
        v = ops.cast(keras.random.normal((self.rank, columns), seed=self._seed(2 * position + 1)), g.dtype)
        # From the inside out: (rows, rank) in between, never a matrix of the size of the projection.
        left = ops.matmul(ops.matmul(g, ops.transpose(v)), v)
        right = ops.matmul(u, ops.matmul(ops.transpose(u), g))
        # The expectation of V^T V is rank times the identity, and that of U U^T as well.
        return (left + right) / self.rank

    def _seed(self, salt: int) -> backend.FixedSeed:
        """A function of seed, matrix and step alone."""
        dtype = random_seed_dtype()
        # Not `hash`, which differs from process to process: a resumed run must draw the same matrices.
        mixed = zlib.crc32(f"{self.seed} {salt}".encode()) % 2**30
        *_, innermost = chain(self.inner_optimizer)  # whose count has the steps of an accumulation in it
        step = ops.cast(ops.convert_to_tensor(innermost._iterations), dtype)
        return backend.FixedSeed(ops.stack([ops.cast(mixed, dtype), step]))

    def _make_factors(self, variable: keras.Variable) -> Factors:
        rows, columns = variable.shape
        path = variable.path.replace("/", "_")
        made = []
        for side, shape, fan, random in (
            ("a", (rows, self.rank), rows, self.mode == "adapters"),
            ("b", (self.rank, columns), columns, self.mode == "adapters" and self.symmetric),
        ):
            seed = zlib.crc32(f"{self.seed} {variable.path} {side}".encode()) % 2**30
            start = keras.initializers.RandomUniform(-(fan**-0.5), fan**-0.5, seed=seed) if random else "zeros"
            made.append(self.add_variable(shape, start, dtype="float32", name=f"{path}_low_rank_{side}"))
        return Factors(*made)

    def _inner_variables(self, variables: list[keras.Variable]) -> list[keras.Variable]:
        inner: list[keras.Variable] = []
        for index, variable in enumerate(variables):
            inner.extend(self._factors.get(index, [variable]))
        return inner

    # --- configuration ------------------------------------------------------------------------------------------------

    def finalize_variable_values(self, var_list: object) -> None:
        """Nothing: the factors are no model variables, and averages of the inner optimizer are refused."""

    def get_config(self) -> Config:
        """The constructor's arguments."""
        return super().get_config() | {
            "rank": self.rank,
            "select": self.select,
            "mode": self.mode,
            "alpha": self.alpha,
            "symmetric": self.symmetric,
            "seed": self.seed,
        }


def _check(optimizer: object, rank: int, mode: str, alpha: float | None, symmetric: bool) -> None:
    if not isinstance(optimizer, keras.optimizers.Optimizer):
        raise ConfigError(
            f"LowRankUpdates: optimizer is {optimizer!r}; it must be a Keras optimizer, such as keras.optimizers.Adam()"
        )
    if optimizer.built or optimizer.use_ema:
        what = (
            "is built already; pass a fresh one" if optimizer.built else "averages weights (use_ema), which are not W"
        )
        raise ConfigError(f"LowRankUpdates: the inner {type(optimizer).__name__} {what}")
    if mode not in MODES:
        raise ConfigError(f"LowRankUpdates: mode is {mode!r}; it must be one of {', '.join(MODES)}")
    if int(rank) != rank or rank < 1:
        raise ConfigError(f"LowRankUpdates: rank is {rank}; it must be a whole number of 1 or more")
    if alpha is not None and (mode == "random_projection" or not 0 < alpha < float("inf")):
        raise ConfigError(f"LowRankUpdates: alpha is {alpha}; it must be positive, and None with random projections")
    if symmetric and mode != "adapters":
        raise ConfigError(f"LowRankUpdates: symmetric belongs to mode 'adapters', not to {mode!r}")


def _choose(variables: list[keras.Variable], patterns: list[str], rank: int, mode: str) -> list[int]:
    """The indices of the matrices that match."""
    matrices = {index: variable for index, variable in enumerate(variables) if len(variable.shape) == 2}
    for pattern in patterns or [""]:
        if not patterns or not any(re.search(pattern, variable.path) for variable in matrices.values()):
            there = ", ".join(variable.path for variable in matrices.values())
            raise ConfigError(f"LowRankUpdates: no trainable matrix matches {pattern!r}; there are {there or 'none'}")
    chosen = [i for i, variable in matrices.items() if any(re.search(p, variable.path) for p in patterns)]
    for index in chosen:
        rows, columns = variables[index].shape
        where = f"{variables[index].path} ({rows}, {columns})"
        if mode == "adapters" and rank > min(rows, columns):
            raise ConfigError(f"LowRankUpdates: rank {rank} is more than {where} has")
        if mode == "additive" and (rows % rank or columns % rank):
            raise ConfigError(f"LowRankUpdates: rank {rank} does not divide both sides of {where}")
    return chosen
