"""The face of the array library that Keras runs on: gradients, compilation, seeds, recomputation, device, updates.

Everything else in the package is written with `keras.ops`. Each function below means the same on JAX, PyTorch and
TensorFlow; `jax.py`, `torch.py` and `tensorflow.py` hold it three times, and only the one in use is imported.
"""

import importlib
import os
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import keras
import numpy as np

from qingformer.backend.seeds import FixedSeed
from qingformer.types import Nest, Tensor

__all__ = [
    "FixedSeed",
    "assign_lerp",
    "assign_sub_product",
    "check_device",
    "compile",
    "dense",
    "device_kind",
    "enable_compilation_cache",
    "eval_shape",
    "fresh_seed",
    "fused_adam",
    "in_place",
    "keep_freed_memory",
    "keep_mask",
    "known_values",
    "lerp",
    "matmul",
    "name",
    "prefers_fused_attention",
    "random_state",
    "remat",
    "repeated_randomness",
    "scan",
    "set_random_state",
    "train_step",
    "twice_differentiable",
    "value_and_grad",
    "without_gradients",
]

Function = Callable[..., Any]


def name() -> str:
    """The library Keras computes with: "jax", "torch" or "tensorflow"."""
    return keras.backend.backend()


_library = importlib.import_module(f"{__name__}.{name()}")
_library.set_up()


def check_device() -> None:
    """Start the library on its device.

    Raises:
        ConfigError: JAX_PLATFORMS asks for a device that JAX cannot use here.
    """
    _library.check_device()


def device_kind() -> str:
    """Where tensors live by default: "cpu", "gpu" or "tpu".

    Example: `device_kind()` is `"cpu"` on a laptop without an accelerator.
    """
    kind: str = _library.device_kind()
    return kind


def without_gradients() -> AbstractContextManager[Any]:
    """A context in which variables may be assigned in place (`torch.no_grad`; elsewhere nothing is needed)."""
    manager: AbstractContextManager[Any] = _library.without_gradients()
    return manager


# --- gradients --------------------------------------------------------------------------------------------------------


def value_and_grad(function: Function, has_aux: bool = False) -> Function:
    """Turn `function(values, *args) -> loss` into `(values, *args) -> (loss, gradients)`.

    `values` is any nest of float arrays; `gradients` has its structure, shapes and dtypes, with zeros where the loss
    does not depend on a leaf. `loss` is a float scalar. With `has_aux`, `function` returns `(loss, aux)` and the result
    is `((loss, aux), gradients)`. Further arguments may be anything. Calls nest: a function that itself uses
    `value_and_grad` may be differentiated again.

    Example:
        >>> loss, gradients = value_and_grad(lambda w: keras.ops.sum(w[0] ** 2))([keras.ops.ones(3)])
    """
    made: Function = _library.value_and_grad(function, has_aux)
    return made


def eval_shape(function: Callable[[], Any]) -> None:
    """Run `function()` for what it shows while it runs (shapes), not for what it computes.

    On JAX nothing is computed, and inside a compiled function nothing is computed on TensorFlow either; torch computes
    the values and draws the random numbers of the block again afterwards.

    Example:
        >>> shapes = []
        >>> eval_shape(lambda: shapes.append(keras.ops.matmul(keras.ops.ones((2, 3)), keras.ops.ones((3, 4))).shape))
    """
    _library.eval_shape(function)


def twice_differentiable() -> AbstractContextManager[Any]:
    """A context for computing what will be differentiated twice: torch's fused attention kernels can be only once."""
    manager: AbstractContextManager[Any] = _library.twice_differentiable()
    return manager


def dense(array: Tensor) -> Tensor:
    """`array` as a tensor that is not sparse: embedding layers of Keras can give gradients that hold only some rows.

    Example:
        >>> gradients = [dense(g) for g in gradients]
    """
    return _library.dense(array)


def known_values(array: Tensor) -> np.ndarray | None:
    """The values of an array that are at hand in main memory; None while a function is compiled, or on a device.

    Example: `known_values([1, 2])` is `array([1, 2])`
    """
    if isinstance(array, np.ndarray | list | tuple | int):
        return np.asarray(array)
    if isinstance(array, keras.KerasTensor) or not keras.ops.is_tensor(array):
        return None
    return np.asarray(keras.ops.convert_to_numpy(array)) if _library.is_at_hand(array) else None


def remat(function: Function, *arrays: Tensor) -> Nest:
    """Call `function(*arrays)` and recompute it in the backward pass instead of keeping its intermediate results.

    `function` must not change any state: seeds are drawn outside and passed among `arrays` (`fresh_seed`, `FixedSeed`).
    Gradients flow to `arrays` and to the weights that `function` uses. On TensorFlow inside a `StatelessScope` weights
    are plain tensors, to which recomputation gives no gradient; there the function is called as it is.

    Example:
        >>> remat(lambda x, seed: keras.random.dropout(x, 0.1, seed=FixedSeed(seed)), x, fresh_seed(generator))
    """
    return _library.remat(function, *arrays)


# --- programs ---------------------------------------------------------------------------------------------------------


def compile(function: Function, static_argument_names: tuple[str, ...] = ()) -> Function:
    """Compile a pure function of arrays once: `jax.jit`, `tf.function`, and the function itself on torch.

    The result is remembered on the function, so compiling the same function again costs nothing. Arguments named in
    `static_argument_names` are Python values: a new value compiles anew (TensorFlow treats all Python values so).

    Example:
        >>> double = compile(lambda x: 2 * x)
    """
    compiled: Function = _library.compile(function, static_argument_names)
    return compiled


def scan(function: Function, carry: Nest, elements: Nest, length: Tensor) -> tuple[Any, Any]:
    """Call `carry, output = function(carry, element)` for one element after the other, one in memory at a time.

    `elements` is a nest of arrays whose first axis is `length`; an entry may be None. The result is the last carry, and
    the outputs (a nest of arrays) stacked along a new first axis. `carry` keeps its structure, shapes and dtypes. The
    body is compiled once on JAX, twice on TensorFlow, where `length` may be a tensor (1 or more); on torch it is called
    again and again. Unlike `keras.ops.scan`, the outputs need not look like the carry on TensorFlow.

    Example:
        >>> last, sums = scan(lambda total, x: (total + x, total + x), keras.ops.zeros(()), keras.ops.ones(3), 3)
    """
    last, outputs = _library.scan(function, carry, elements, length)
    return last, outputs


def train_step(model: keras.Model, *arguments: object) -> Any:
    """`keras.Model.train_step`, whose optimizer gets dense gradients on TensorFlow too.

    `arguments` are those of Keras' method: `data`, and on JAX `state` before it.

    Example: `train_step` of a model returns `train_step(self, data)`
    """
    return _library.train_step(model, *arguments)


def enable_compilation_cache(directory: str | os.PathLike[str] | None = None) -> Path | None:
    """Keep compiled XLA programs on disk, so that the next process starts fast; returns the folder used.

    For programs such as the command line, not for libraries: it is a setting of the whole process. Only JAX has such a
    cache; on torch and TensorFlow nothing happens and the result is None. The default folder is the user's cache
    folder (`~/.cache/qingformer/xla`, or what the platform uses instead).
    """
    folder = Path(directory) if directory is not None else _user_cache() / "qingformer" / "xla"
    used: Path | None = _library.enable_compilation_cache(folder)
    return used


def keep_freed_memory() -> bool:
    """Let this process keep memory that it has freed, for reuse; returns whether that could be set (glibc only).

    XLA allocates the intermediate results of every step anew; glibc returns so large a block to the system, and the
    system then clears it page by page at the next step. Kept, a training step of a 4-layer model took 0.78 to 0.88 of
    the processor time in three comparisons; prediction did not change clearly. For programs such as the command line,
    not for libraries: it is a setting of the whole process, whose memory then stays at its highest mark.

    Example:
        >>> keep_freed_memory()
    """
    import ctypes

    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False
    trim_threshold, top_pad, mmap_max, arena_max = -1, -2, -4, -8  # names of malloc.h
    # One heap for all threads, never blocks of their own, never shrunk, grown in 64 MiB pieces.
    settings = {arena_max: 1, mmap_max: 0, trim_threshold: 2**31 - 1, top_pad: 2**26}
    accepted = [mallopt(name, value) for name, value in settings.items()]  # all are set, whatever one says
    return all(accepted)


def _user_cache() -> Path:
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local"))
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")


# --- random numbers ---------------------------------------------------------------------------------------------------


def fresh_seed(generator: keras.random.SeedGenerator) -> Tensor:
    """Draw the next seed of `generator` as an array `(2,)`, to be handed to a pure function (see `FixedSeed`)."""
    return generator.next()


def repeated_randomness() -> AbstractContextManager[Any]:
    """A context after which the process draws the random numbers of the block once more.

    On torch, `Dropout` layers made without a seed draw from the generator of the process, which is no variable of the
    model; everywhere else the seeds are state of the model and nothing needs to be done.
    """
    manager: AbstractContextManager[Any] = _library.repeated_randomness()
    return manager


def random_state() -> dict[str, Tensor]:
    """The generators of the process that drive layers without being variables: `{"cpu": (n,) uint8, ...}` on torch.

    Empty on JAX and TensorFlow, where every seed is a variable. `set_random_state` puts it back.
    """
    state: dict[str, Tensor] = _library.random_state()
    return state


def set_random_state(state: dict[str, Tensor]) -> None:
    """Put back what `random_state` returned; devices that are not there are passed over."""
    _library.set_random_state(state)


def keep_mask(seed: Tensor, shape: tuple[int, ...], rate: float, site: int = 0) -> Tensor:
    """A bool array of `shape` that is False with probability `rate`, a pure function of `seed` (2,) and `site`.

    On JAX the bits are a hash of the element's index: unlike the default generator's, they cost a dozen integer
    operations that the compiler fuses into the multiplication they serve, and nothing is stored for the backward pass.

    Example:
        >>> keep_mask(fresh_seed(keras.random.SeedGenerator(0)), (2, 3), 0.1).shape
    """
    return _library.keep_mask(seed, shape, rate, site)


# --- products and updates ---------------------------------------------------------------------------------------------


def prefers_fused_attention() -> bool:
    """Whether the library's attention kernel beats explicit matrix products: on torch, and on accelerators.

    On CPUs XLA has no such kernel, and its generic form is several times slower than the explicit products.
    """
    return bool(_library.prefers_fused_attention())


def matmul(x: Tensor, kernel: Tensor) -> Tensor:
    """`ops.matmul(x, kernel)` for `x` (..., d) and `kernel` (d, e), with a gradient that is fast on JAX on CPUs.

    XLA multiplies by a transposed right-hand side at down to half its usual rate, and the gradient of `x` is such a
    product; here the kernel, the smaller matrix, is first transposed in memory. Gradients of any order work, by
    `value_and_grad`; forward mode (`jax.jvp`) does not.

    Example: `matmul(keras.ops.ones((2, 5, 3)), keras.ops.ones((3, 4))).shape`
    """
    return _library.matmul(keras.ops.convert_to_tensor(x), keras.ops.convert_to_tensor(kernel))


def in_place() -> bool:
    """Whether variables should be updated in place: on torch, unless a `StatelessScope` must keep them untouched.

    Compilers turn pure updates into updates in place by themselves; torch would write each intermediate result out.
    """
    return bool(_library.in_place())


def lerp(value: Tensor, target: Tensor, share: float | Tensor) -> Tensor:
    """`(1 - share) * value + share * target`, in one pass over memory on torch.

    Example:
        >>> lerp(keras.ops.zeros(2), keras.ops.ones(2), 0.1)  # [0.1, 0.1]
    """
    return _library.lerp(value, target, share)


def assign_lerp(variable: keras.Variable, target: Tensor, share: float | Tensor) -> Tensor:
    """Move `variable` a share (scalar) of the way to `target` (its shape and dtype); returns the new value.

    Example:
        >>> mean = assign_lerp(slot, gradient, 0.1)  # slot = 0.9 slot + 0.1 gradient
    """
    return _library.assign_lerp(variable, target, share)


def assign_sub_product(variable: keras.Variable, change: Tensor, rate: Tensor) -> None:
    """`variable -= rate * change`, on torch in one pass; `rate` is a scalar array, dtypes are equal."""
    _library.assign_sub_product(variable, change, rate)


def fused_adam(
    variables: list[keras.Variable],
    gradients: list[Tensor],
    means: list[keras.Variable],
    squares: list[keras.Variable],
    step: Tensor | None,
    **settings: float,
) -> list[bool]:
    """Adam's update with torch's kernel, one pass over memory for all variables; returns which were updated.

    Left out are variables that the kernel cannot take: of another dtype than their state, or strided. `step` is the
    number of this step from 1, None for no bias correction. `settings` are `lr`, `beta1`, `beta2`, `eps` and
    `weight_decay` (decoupled). On other libraries none is updated: compiled, the plain formulas are one pass as well.
    """
    done: list[bool] = _library.fused_adam(variables, gradients, means, squares, step, **settings)
    return done
