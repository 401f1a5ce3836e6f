"""The one room that knows which array library Keras runs on: gradients, compilation, seeds, checkpointing, device.

Everything else in the package is written with `keras.ops`. Each public function below has the same meaning on JAX,
PyTorch and TensorFlow; the libraries are imported only when their branch is taken.
"""

import functools
import os
import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from typing import Any

import keras
import numpy as np

from qingformer.backend.keras_internals import in_stateless_scope
from qingformer.backend.library import check_device, keep_reads_in_order, name, without_gradients
from qingformer.backend.loops import scan
from qingformer.backend.steps import dense_train_step
from qingformer.backend.updates import fused_adam, in_place, mix, move, subtract_in_place
from qingformer.types import Tensor

__all__ = [
    "FixedSeed",
    "check_device",
    "checkpointed",
    "compile",
    "dense",
    "dense_train_step",
    "device_kind",
    "enable_compilation_cache",
    "fresh_seed",
    "fused_adam",
    "in_place",
    "keep_freed_memory",
    "keep_mask",
    "known_values",
    "mix",
    "move",
    "name",
    "prefers_fused_attention",
    "product",
    "random_state",
    "repeated_randomness",
    "scan",
    "set_random_state",
    "subtract_in_place",
    "traced",
    "twice_differentiable",
    "value_and_grad",
    "without_gradients",
]

Function = Callable[..., Any]

keep_reads_in_order()

_COMPILED = "__qingformer_compiled__"
_nesting = threading.local()  # torch only: how many value_and_grad calls we are inside of


def device_kind() -> str:
    """Where tensors live by default: "cpu", "gpu" or "tpu".

    Example: `device_kind()` is `"cpu"` on a laptop without an accelerator.
    """
    if name() == "jax":
        import jax

        kind = jax.default_backend()
    elif name() == "torch":
        kind = "cpu" if keras.ops.zeros(()).device.type == "cpu" else "gpu"
    else:
        import tensorflow as tf

        kind = next((k.lower() for k in ("TPU", "GPU") if tf.config.list_logical_devices(k)), "cpu")
    return kind if kind in ("cpu", "tpu") else "gpu"


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
    make = {"jax": _jax_value_and_grad, "torch": _torch_value_and_grad, "tensorflow": _tensorflow_value_and_grad}
    return make[name()](function, has_aux)


def traced(function: Callable[[], Any]) -> None:
    """Run `function()` for what it shows while it runs (shapes), not for what it computes.

    On JAX nothing is computed, and inside a compiled function nothing is computed on TensorFlow either; torch computes
    the values and draws the random numbers of the block again afterwards.

    Example:
        >>> shapes = []
        >>> traced(lambda: shapes.append(keras.ops.matmul(keras.ops.ones((2, 3)), keras.ops.ones((3, 4))).shape))
    """
    if name() == "jax":
        import jax

        jax.eval_shape(function)
    elif name() == "torch":
        with without_gradients(), repeated_randomness():
            function()
    else:
        function()


def twice_differentiable() -> AbstractContextManager[Any]:
    """A context for computing what will be differentiated twice: torch's fused attention kernels can be only once."""
    if name() == "torch":
        from torch.nn.attention import SDPBackend, sdpa_kernel

        manager: AbstractContextManager[Any] = sdpa_kernel(SDPBackend.MATH)
        return manager
    return nullcontext()


def dense(array: Tensor) -> Tensor:
    """`array` as a tensor that is not sparse: embedding layers of Keras can give gradients that hold only some rows.

    Example:
        >>> gradients = [dense(g) for g in gradients]
    """
    if name() == "tensorflow":
        import tensorflow as tf

        if isinstance(array, tf.IndexedSlices):
            return tf.convert_to_tensor(array)
    return keras.ops.convert_to_tensor(array, sparse=False)


def known_values(array: Any) -> np.ndarray | None:
    """The values of an array that are at hand in main memory; None while a function is compiled, or on a device.

    Example: `known_values([1, 2])` is `array([1, 2])`
    """
    if isinstance(array, np.ndarray | list | tuple | int):
        return np.asarray(array)
    if isinstance(array, keras.KerasTensor) or not keras.ops.is_tensor(array):
        return None
    if name() == "jax":
        import jax

        known = not isinstance(array, jax.core.Tracer) and next(iter(array.devices())).platform == "cpu"
    elif name() == "torch":
        known = array.device.type == "cpu" and not array.requires_grad
    else:
        known = hasattr(array, "numpy") and "CPU" in array.device
    return np.asarray(keras.ops.convert_to_numpy(array)) if known else None


def _jax_value_and_grad(function: Function, has_aux: bool) -> Function:
    import jax

    return jax.value_and_grad(function, has_aux=has_aux)


def _torch_value_and_grad(function: Function, has_aux: bool) -> Function:
    import torch

    def track(leaf: Tensor, nested: bool) -> Tensor:
        leaf = keras.ops.convert_to_tensor(leaf)
        # An alias, so that other uses of the same tensor stay constants; inside an outer call it keeps the outer graph.
        if nested and leaf.requires_grad:
            return leaf.view_as(leaf)
        return leaf.detach().requires_grad_()

    def wrapped(values: Any, *args: Any, **kwargs: Any) -> Any:
        nested = getattr(_nesting, "depth", 0) > 0
        _nesting.depth = getattr(_nesting, "depth", 0) + 1
        try:
            with torch.enable_grad():
                tracked = keras.tree.map_structure(lambda leaf: track(leaf, nested), values)
                result = function(tracked, *args, **kwargs)
        finally:
            _nesting.depth -= 1
        loss = result[0] if has_aux else result
        leaves = keras.tree.flatten(tracked)
        if loss.requires_grad:
            found = torch.autograd.grad(loss, leaves, create_graph=nested, allow_unused=True)
        else:
            found = [None] * len(leaves)
        gradients = [torch.zeros_like(leaf) if g is None else g for leaf, g in zip(leaves, found)]
        if not nested:
            result = keras.tree.map_structure(lambda x: x.detach() if torch.is_tensor(x) else x, result)
        return result, keras.tree.pack_sequence_as(values, gradients)

    return wrapped


def _tensorflow_value_and_grad(function: Function, has_aux: bool) -> Function:
    import tensorflow as tf

    def wrapped(values: Any, *args: Any, **kwargs: Any) -> Any:
        # The identity is an alias: other uses of the same tensor stay constants.
        tracked = keras.tree.map_structure(lambda leaf: tf.identity(keras.ops.convert_to_tensor(leaf)), values)
        leaves = keras.tree.flatten(tracked)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(leaves)
            result = function(tracked, *args, **kwargs)
        loss = result[0] if has_aux else result
        found = tape.gradient(loss, leaves, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        # An embedding lookup gives a sparse gradient; callers get one kind of array.
        gradients = [tf.convert_to_tensor(g) for g in found]
        return result, keras.tree.pack_sequence_as(values, gradients)

    return wrapped


# --- compilation ------------------------------------------------------------------------------------------------------


def compile(function: Function, static_argument_names: tuple[str, ...] = ()) -> Function:
    """Compile a pure function of arrays once: `jax.jit`, `tf.function`, and the function itself on torch.

    The result is remembered on the function, so compiling the same function again costs nothing. Arguments named in
    `static_argument_names` are Python values: a new value compiles anew (TensorFlow treats all Python values so).

    Example:
        >>> double = compile(lambda x: 2 * x)
    """
    if name() == "torch":
        return function
    remembered = getattr(function, _COMPILED, {})
    if static_argument_names not in remembered:
        if name() == "jax":
            import jax

            compiled = jax.jit(function, static_argnames=static_argument_names or None)
        else:
            import tensorflow as tf

            compiled = tf.function(function, reduce_retracing=True, autograph=False)
        remembered = {**remembered, static_argument_names: compiled}
        with suppress(AttributeError):  # bound methods hold no attributes; jax has its own cache for those
            setattr(function, _COMPILED, remembered)
    return remembered[static_argument_names]


def enable_compilation_cache(directory: str | os.PathLike[str] | None = None) -> Path | None:
    """Keep compiled XLA programs on disk, so that the next process starts fast; returns the folder used.

    For programs such as the command line, not for libraries: it is a setting of the whole process. Only JAX has such a
    cache; on torch and TensorFlow nothing happens and the result is None. The default folder is the user's cache
    folder (`~/.cache/qingformer/xla`, or what the platform uses instead).
    """
    if name() != "jax":
        return None
    import jax

    path = Path(directory) if directory is not None else _user_cache() / "qingformer" / "xla"
    path.mkdir(parents=True, exist_ok=True)
    jax.config.update("jax_compilation_cache_dir", str(path))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)
    return path


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


# --- random seeds and gradient checkpointing --------------------------------------------------------------------------


def fresh_seed(generator: keras.random.SeedGenerator) -> Tensor:
    """Draw the next seed of `generator` as an array `(2,)`, to be handed to a pure function (see `FixedSeed`)."""
    return generator.next()


class FixedSeed(keras.random.SeedGenerator):
    """A seed that is an array: what `keras.random.*(seed=...)` takes inside a pure or recomputed function.

    Keras accepts seed arrays on JAX only. This wraps one for all three: every draw gives the same numbers, nothing is
    counted up, so running the function twice (as `checkpointed` does) drops the same units.

    Example:
        >>> seed = fresh_seed(keras.random.SeedGenerator(0))
        >>> keras.random.dropout(keras.ops.ones(4), 0.5, seed=FixedSeed(seed)).shape
    """

    def __init__(self, seed: Tensor) -> None:  # the parent would create a variable, which a traced function must not
        self.seed = seed
        self._initial_seed = 0  # on torch, dropout ignores generators that were made without a seed

    def next(self, ordered: bool = True) -> Tensor:
        """The seed itself, every time."""
        return self.seed


def repeated_randomness() -> AbstractContextManager[Any]:
    """A context after which the process draws the random numbers of the block once more.

    On torch, `Dropout` layers made without a seed draw from the generator of the process, which is no variable of the
    model; everywhere else the seeds are state of the model and nothing needs to be done.
    """
    if name() == "torch":
        import torch

        return torch.random.fork_rng()
    return nullcontext()


def random_state() -> dict[str, Tensor]:
    """The generators of the process that drive layers without being variables: `{"cpu": (n,) uint8, ...}` on torch.

    Empty on JAX and TensorFlow, where every seed is a variable. `set_random_state` puts it back.
    """
    if name() != "torch":
        return {}
    import torch

    state = {"cpu": torch.get_rng_state().numpy()}
    if torch.cuda.is_available():
        state |= {f"cuda_{i}": s.numpy() for i, s in enumerate(torch.cuda.get_rng_state_all())}
    return state


def set_random_state(state: dict[str, Tensor]) -> None:
    """Put back what `random_state` returned; devices that are not there are passed over."""
    if name() != "torch":
        return
    import torch

    for device, values in state.items():
        tensor = torch.tensor(values, dtype=torch.uint8)
        if device == "cpu":
            torch.set_rng_state(tensor)
        elif torch.cuda.is_available() and int(device.removeprefix("cuda_")) < torch.cuda.device_count():
            torch.cuda.set_rng_state(tensor, int(device.removeprefix("cuda_")))


def checkpointed(function: Function, *arrays: Tensor) -> Any:
    """Call `function(*arrays)` and recompute it in the backward pass instead of keeping its intermediate results.

    `function` must not change any state: seeds are drawn outside and passed among `arrays` (`fresh_seed`, `FixedSeed`).
    Gradients flow to `arrays` and to the weights that `function` uses. On TensorFlow inside a `StatelessScope` weights
    are plain tensors, to which recomputation gives no gradient; there the function is called as it is.

    Example:
        >>> checkpointed(lambda x, seed: keras.random.dropout(x, 0.1, seed=FixedSeed(seed)), x, fresh_seed(generator))
    """
    if name() == "tensorflow" and in_stateless_scope():
        return function(*arrays)
    if name() != "tensorflow":
        return keras.remat(function)(*arrays)
    # TensorFlow asks for the gradient of every argument, so masks and seeds must not be arguments.
    floats = [place for place, array in enumerate(arrays) if array.dtype.is_floating]

    def of_floats(*given: Tensor) -> Any:
        whole = dict(zip(floats, given))
        return function(*(whole.get(place, array) for place, array in enumerate(arrays)))

    return keras.remat(of_floats)(*(arrays[place] for place in floats))


# --- choices that depend on the library -------------------------------------------------------------------------------


def keep_mask(seed: Tensor, shape: tuple[int, ...], rate: float, site: int = 0) -> Tensor:
    """A bool array of `shape` that is False with probability `rate`, a pure function of `seed` (2,) and `site`.

    On JAX the bits are a hash of the element's index: unlike the default generator's, they cost a dozen integer
    operations that the compiler fuses into the multiplication they serve, and nothing is stored for the backward pass.

    Example:
        >>> keep_mask(fresh_seed(keras.random.SeedGenerator(0)), (2, 3), 0.1).shape
    """
    if name() != "jax":
        moved = FixedSeed(seed + keras.ops.convert_to_tensor([site * 7919, 0], dtype=seed.dtype))
        return keras.random.uniform(shape, seed=moved) >= rate
    import jax.numpy as jnp
    from jax import lax

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
    """Whether the library's attention kernel beats explicit matrix products: on torch, and on accelerators.

    On CPUs XLA has no such kernel, and its generic form is several times slower than the explicit products.
    """
    return name() == "torch" or device_kind() != "cpu"


# --- products ---------------------------------------------------------------------------------------------------------


def product(x: Tensor, kernel: Tensor) -> Tensor:
    """`ops.matmul(x, kernel)` for `x` (..., d) and `kernel` (d, e), with a gradient that is fast on JAX on CPUs.

    XLA multiplies by a transposed right-hand side at down to half its usual rate, and the gradient of `x` is such a
    product; here the kernel, the smaller matrix, is first transposed in memory. Gradients of any order work, by
    `value_and_grad`; forward mode (`jax.jvp`) does not.

    Example: `product(keras.ops.ones((2, 5, 3)), keras.ops.ones((3, 4))).shape`
    """
    x, kernel = keras.ops.convert_to_tensor(x), keras.ops.convert_to_tensor(kernel)
    if name() != "jax" or device_kind() != "cpu" or x.dtype != kernel.dtype:
        return keras.ops.matmul(x, kernel)
    return _jax_product()(x, kernel)


@functools.cache
def _jax_product() -> Function:
    import jax

    def plain(x: Tensor, kernel: Tensor) -> Tensor:
        return keras.ops.matmul(x, kernel)

    def backward(kept: tuple[Tensor, Tensor], gradient: Tensor) -> tuple[Tensor, Tensor]:
        x, kernel = kept
        # Without the barrier XLA would fold the transposition back into the product.
        transposed = jax.lax.optimization_barrier(kernel.T)
        rows, columns = x.reshape(-1, x.shape[-1]), gradient.reshape(-1, gradient.shape[-1])
        return plain(gradient, transposed), plain(rows.T, columns)

    faster = jax.custom_vjp(plain)
    faster.defvjp(lambda x, kernel: (plain(x, kernel), (x, kernel)), backward)
    return faster
