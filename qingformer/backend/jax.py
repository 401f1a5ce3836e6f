"""What `qingformer.backend` does on JAX."""

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import keras
from jax import lax

from qingformer.backend.memoized import memoized
from qingformer.errors import ConfigError
from qingformer.types import Nest, Tensor

Function = Callable[..., Any]

# Every public function here stands in `jax.py`, `torch.py` and `tensorflow.py` with the same arguments; its meaning is
# in the docstring of the function of that name in `qingformer.backend`.


def set_up() -> None:
    pass


def check_device() -> None:
    wanted = os.environ.get("JAX_PLATFORMS")
    if not wanted:
        return
    try:
        jax.devices()
    except (RuntimeError, AssertionError) as problem:
        why = str(problem)[:120] or "it is not installed"  # cuda without its plug-in is a bare AssertionError
        raise ConfigError(
            f"JAX_PLATFORMS={wanted[:40]} asks for a device that JAX cannot use here ({why}); for a "
            "GPU pip install 'jax[cuda12]' and check nvidia-smi, or set JAX_PLATFORMS=cpu"
        ) from None


def device_kind() -> str:
    kind = jax.default_backend()
    return kind if kind in ("cpu", "tpu") else "gpu"


def without_gradients() -> AbstractContextManager[Any]:
    return nullcontext()


def value_and_grad(function: Function, has_aux: bool) -> Function:
    return jax.value_and_grad(function, has_aux=has_aux)


def eval_shape(function: Callable[[], Any]) -> None:
    jax.eval_shape(function)


def twice_differentiable() -> AbstractContextManager[Any]:
    return nullcontext()


def dense(array: Tensor) -> Tensor:
    return keras.ops.convert_to_tensor(array, sparse=False)


def is_at_hand(array: Tensor) -> bool:
    return not isinstance(array, jax.core.Tracer) and next(iter(array.devices())).platform == "cpu"


def compile(function: Function, static_argument_names: tuple[str, ...]) -> Function:
    return memoized(
        function, static_argument_names, lambda: jax.jit(function, static_argnames=static_argument_names or None)
    )


def enable_compilation_cache(folder: Path) -> Path | None:
    folder.mkdir(parents=True, exist_ok=True)
    jax.config.update("jax_compilation_cache_dir", str(folder))
    # Programs that compile faster than this are read from disk no faster than they are compiled.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)
    return folder


def repeated_randomness() -> AbstractContextManager[Any]:
    return nullcontext()


def random_state() -> dict[str, Tensor]:
    return {}


def set_random_state(state: dict[str, Tensor]) -> None:
    pass


def remat(function: Function, *arrays: Tensor) -> Nest:
    return keras.remat(function)(*arrays)


def scan(function: Function, carry: Nest, elements: Nest, length: Tensor) -> tuple[Any, Any]:
    return lax.scan(function, carry, elements, length)


def keep_mask(seed: Tensor, shape: tuple[int, ...], rate: float, site: int) -> Tensor:
    def scramble(x: Tensor) -> Tensor:  # the 32-bit finaliser of MurmurHash3: every input bit reaches every output bit
        x = (x ^ (x >> 16)) * jnp.uint32(0x85EBCA6B)
        x = (x ^ (x >> 13)) * jnp.uint32(0xC2B2AE35)
        return x ^ (x >> 16)

    key = scramble(scramble(seed[0] + jnp.uint32(site * 0x9E3779B9 % 2**32)) ^ seed[1])
    # One key a row, so that an index below 2^32 is enough for any size.
    rows = scramble(lax.broadcasted_iota(jnp.uint32, (*shape[:-1], 1), max(len(shape) - 2, 0)) + key)
    for axis in range(len(shape) - 2):
        rows = scramble(rows ^ lax.broadcasted_iota(jnp.uint32, (*shape[:-1], 1), axis))
    bits = scramble(rows + lax.broadcasted_iota(jnp.uint32, shape, len(shape) - 1))
    return bits >= jnp.uint32(round(rate * 2**32))


def prefers_fused_attention() -> bool:
    return device_kind() != "cpu"  # on CPUs XLA has no such kernel, and its generic form is several times slower


def matmul(x: Tensor, kernel: Tensor) -> Tensor:
    if device_kind() != "cpu" or x.dtype != kernel.dtype:
        return keras.ops.matmul(x, kernel)
    return _matmul_on_cpu(x, kernel)


def _plain(x: Tensor, kernel: Tensor) -> Tensor:
    return keras.ops.matmul(x, kernel)


def _backward(kept: tuple[Tensor, Tensor], gradient: Tensor) -> tuple[Tensor, Tensor]:
    x, kernel = kept
    # Without the barrier XLA would fold the transposition back into the product.
    transposed = lax.optimization_barrier(kernel.T)
    rows, columns = x.reshape(-1, x.shape[-1]), gradient.reshape(-1, gradient.shape[-1])
    return _plain(gradient, transposed), _plain(rows.T, columns)


_matmul_on_cpu = jax.custom_vjp(_plain)
_matmul_on_cpu.defvjp(lambda x, kernel: (_plain(x, kernel), (x, kernel)), _backward)


def train_step(model: keras.Model, *arguments: object) -> Any:
    return keras.Model.train_step(model, *arguments)


def in_place() -> bool:
    return False


def lerp(value: Tensor, target: Tensor, share: float | Tensor) -> Tensor:
    return value + share * (target - value)


def assign_lerp(variable: keras.Variable, target: Tensor, share: float | Tensor) -> Tensor:
    value = lerp(keras.ops.convert_to_tensor(variable), target, share)
    variable.assign(value)
    return value


def assign_sub_product(variable: keras.Variable, change: Tensor, rate: Tensor) -> None:
    variable.assign(variable - rate * change)


def fused_adam(
    variables: list[keras.Variable],
    gradients: list[Tensor],
    means: list[keras.Variable],
    squares: list[keras.Variable],
    step: Tensor | None,
    **settings: object,
) -> list[bool]:
    return [False] * len(variables)  # compiled, the plain formulas are one pass over memory as well
