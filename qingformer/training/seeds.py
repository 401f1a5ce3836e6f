"""One seed for everything."""

import keras


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and the backend, so that the same script on the same machine and backend does the same.

    Call it before layers are made: their initial weights and dropout seeds are drawn when they are. The order of
    `PaddedBatches` depends on its own seed alone. Equal seeds give other numbers on another backend; on JAX and torch
    on the CPU two runs agree to the bit.

    Example:
        >>> seed_everything(42)
    """
    keras.utils.set_random_seed(seed)
