"""Which array library Keras runs on."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import keras


def name() -> str:
    """The library Keras computes with: "jax", "torch" or "tensorflow"."""
    return keras.backend.backend()


def without_gradients() -> AbstractContextManager[Any]:
    """A context in which variables may be assigned in place (`torch.no_grad`; elsewhere nothing is needed)."""
    if name() == "torch":
        import torch

        return torch.no_grad()
    return nullcontext()
