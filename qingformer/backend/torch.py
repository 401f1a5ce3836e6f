"""What `qingformer.backend` does on PyTorch."""

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import keras
import torch

from qingformer.backend.keras_internals import in_stateless_scope
from qingformer.backend.seeds import FixedSeed
from qingformer.types import Nest, Tensor

Function = Callable[..., Any]
_nesting = threading.local()  # how many value_and_grad calls we are inside of

# Every public function here stands in `jax.py`, `torch.py` and `tensorflow.py` with the same arguments; its meaning is
# in the docstring of the function of that name in `qingformer.backend`.


def set_up() -> None:
    pass


def check_device() -> None:
    pass


def device_kind() -> str:
    return "cpu" if keras.ops.zeros(()).device.type == "cpu" else "gpu"


def without_gradients() -> AbstractContextManager[Any]:
    return torch.no_grad()


def value_and_grad(function: Function, has_aux: bool) -> Function:
    def track(leaf: Tensor, nested: bool) -> Tensor:
        leaf = keras.ops.convert_to_tensor(leaf)
        # An alias, so that other uses of the same tensor stay constants; inside an outer call it keeps the outer graph.
        if nested and leaf.requires_grad:
            return leaf.view_as(leaf)
        return leaf.detach().requires_grad_()

    def wrapped(values: object, *args: object, **kwargs: object) -> Any:
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


def eval_shape(function: Callable[[], Any]) -> None:
    # Shapes alone cannot be traced through Keras' layers here; computing for nothing must at least not use up seeds.
    with without_gradients(), repeated_randomness():
        function()


def twice_differentiable() -> AbstractContextManager[Any]:
    from torch.nn.attention import SDPBackend, sdpa_kernel

    manager: AbstractContextManager[Any] = sdpa_kernel(SDPBackend.MATH)  # the fused kernels have one derivative
    return manager


def dense(array: Tensor) -> Tensor:
    return keras.ops.convert_to_tensor(array, sparse=False)


def is_at_hand(array: Tensor) -> bool:
    return bool(array.device.type == "cpu" and not array.requires_grad)


def compile(function: Function, static_argument_names: tuple[str, ...]) -> Function:
    return function


def enable_compilation_cache(folder: Path) -> Path | None:
    return None


def repeated_randomness() -> AbstractContextManager[Any]:
    return torch.random.fork_rng()


def random_state() -> dict[str, Tensor]:
    state = {"cpu": torch.get_rng_state().numpy()}
    if torch.cuda.is_available():
        state |= {f"cuda_{i}": s.numpy() for i, s in enumerate(torch.cuda.get_rng_state_all())}
    return state


def set_random_state(state: dict[str, Tensor]) -> None:
    for device, values in state.items():
        tensor = torch.tensor(values, dtype=torch.uint8)
        if device == "cpu":
            torch.set_rng_state(tensor)
        elif torch.cuda.is_available() and int(device.removeprefix("cuda_")) < torch.cuda.device_count():
            torch.cuda.set_rng_state(tensor, int(device.removeprefix("cuda_")))


def remat(function: Function, *arrays: Tensor) -> Nest:
    return keras.remat(function)(*arrays)


def scan(function: Function, carry: Nest, elements: Nest, length: Tensor) -> tuple[Any, Any]:
    outputs = []
    for index in range(length):
        element = keras.tree.map_structure(lambda x: None if x is None else x[index], elements)  # noqa: B023
        carry, output = function(carry, element)
        outputs.append(output)
    return carry, keras.tree.map_structure(lambda *leaves: keras.ops.stack(leaves), *outputs)


def keep_mask(seed: Tensor, shape: tuple[int, ...], rate: float, site: int) -> Tensor:
    return FixedSeed(seed).for_site(site).uniform(shape) >= rate


def prefers_fused_attention() -> bool:
    return True


def matmul(x: Tensor, kernel: Tensor) -> Tensor:
    return keras.ops.matmul(x, kernel)


def train_step(model: keras.Model, *arguments: object) -> Any:
    return keras.Model.train_step(model, *arguments)


def in_place() -> bool:
    return not in_stateless_scope()


def lerp(value: Tensor, target: Tensor, share: float | Tensor) -> Tensor:
    return torch.lerp(value, target, share)


def assign_lerp(variable: keras.Variable, target: Tensor, share: float | Tensor) -> Tensor:
    if in_place():
        with without_gradients():
            return variable.value.lerp_(target, share)
    value = lerp(keras.ops.convert_to_tensor(variable), target, share)
    variable.assign(value)
    return value


def assign_sub_product(variable: keras.Variable, change: Tensor, rate: Tensor) -> None:
    with without_gradients():
        variable.value.addcmul_(change, rate, value=-1)


def fused_adam(
    variables: list[keras.Variable],
    gradients: list[Tensor],
    means: list[keras.Variable],
    squares: list[keras.Variable],
    step: Tensor | None,
    **settings: object,
) -> list[bool]:
    from torch.optim.adamw import adamw

    fits = [
        v.dtype == m.dtype == keras.backend.standardize_dtype(g.dtype) and v.value.is_contiguous()
        for v, m, g in zip(variables, means, gradients)
    ]
    take = lambda items: [x for x, fit in zip(items, fits) if fit]  # noqa: E731
    if any(fits):
        with torch.no_grad():
            # The kernel counts up before it computes. Without correction: the limit of late steps.
            before = torch.full((), 1e9) if step is None else step.detach().to(torch.float32) - 1
            adamw(
                [v.value.detach() for v in take(variables)],
                [g.detach().contiguous() for g in take(gradients)],
                [m.value for m in take(means)],
                [s.value for s in take(squares)],
                [],
                list(before.to(variables[0].value.device).repeat(sum(fits)).unbind()),
                fused=True,
                amsgrad=False,
                maximize=False,
                **settings,
            )
    return fits
