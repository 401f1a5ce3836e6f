"""Updates of variables in place, where that spares passes over memory: what optimizers use."""

from typing import Any

import keras

from qingformer.backend.keras_internals import in_stateless_scope
from qingformer.backend.library import name, without_gradients
from qingformer.types import Tensor


def in_place() -> bool:
    """Whether variables should be updated in place: on torch, unless a `StatelessScope` must keep them untouched.

    Compilers turn pure updates into updates in place by themselves; torch would write each intermediate result out.
    """
    return name() == "torch" and not in_stateless_scope()


def mix(value: Tensor, target: Tensor, share: float | Tensor) -> Tensor:
    """`(1 - share) * value + share * target`, in one pass over memory on torch.

    Example:
        >>> mix(keras.ops.zeros(2), keras.ops.ones(2), 0.1)  # [0.1, 0.1]
    """
    if name() == "torch":
        import torch

        return torch.lerp(value, target, share)
    return value + share * (target - value)


def move(variable: keras.Variable, target: Tensor, share: float | Tensor) -> Tensor:
    """Move `variable` a share (scalar) of the way to `target` (its shape and dtype); returns the new value.

    Example:
        >>> mean = move(slot, gradient, 0.1)  # slot = 0.9 slot + 0.1 gradient
    """
    if in_place():
        with without_gradients():
            return variable.value.lerp_(target, share)
    value = mix(keras.ops.convert_to_tensor(variable), target, share)
    variable.assign(value)
    return value


def subtract_in_place(variable: keras.Variable, change: Tensor, rate: Tensor) -> None:
    """`variable -= rate * change` in one pass (torch only); `rate` is a scalar array, dtypes are equal."""
    with without_gradients():
        variable.value.addcmul_(change, rate, value=-1)


def fused_adam(
    variables: list[keras.Variable],
    gradients: list[Tensor],
    means: list[keras.Variable],
    squares: list[keras.Variable],
    step: Tensor | None,
    **settings: Any,
) -> list[bool]:
    """Adam's update with torch's kernel, one pass over memory for all variables; returns which were updated.

    Left out are variables that the kernel cannot take: of another dtype than their state, or strided. `step` is the
    number of this step from 1, None for no bias correction. `settings` are `lr`, `beta1`, `beta2`, `eps` and
    `weight_decay` (decoupled).
    """
    import torch
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
