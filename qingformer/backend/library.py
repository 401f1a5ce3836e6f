"""Which array library Keras runs on."""

import os
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import keras

from qingformer.errors import ConfigError


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


def check_device() -> None:
    """Start the library on its device.

    Raises:
        ConfigError: JAX_PLATFORMS asks for a device that JAX cannot use here.
    """
    wanted = os.environ.get("JAX_PLATFORMS")
    if name() == "jax" and wanted:
        import jax

        try:
            jax.devices()
        except (RuntimeError, AssertionError) as problem:
            why = str(problem)[:120] or "it is not installed"  # cuda without its plug-in is a bare AssertionError
            raise ConfigError(
                f"JAX_PLATFORMS={wanted[:40]} asks for a device that JAX cannot use here ({why}); for a "
                "GPU pip install 'jax[cuda12]' and check nvidia-smi, or set JAX_PLATFORMS=cpu"
            ) from None
