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


def keep_reads_in_order() -> None:
    """On TensorFlow, switch off the one graph optimisation that can let an assignment overtake an earlier read.

    TensorFlow marks that a variable is read before it is assigned; its "dependency optimization" drops some of these
    marks, and the read then finds, now and then, the value after. An optimizer that compares weights before and
    after its step is wrong in such a step (measured for `LowRankUpdates`: 1 training of 4 steps in 20). Nothing else
    happens.
    """
    if name() == "tensorflow":
        import tensorflow as tf

        tf.config.optimizer.set_experimental_options({"dependency_optimization": False})
