"""Checks of the counts, learning rate and run directory given to `fit`, before anything is written."""

import math
import os
from numbers import Real
from pathlib import Path
from typing import Any

from qingformer.data.cells import plain
from qingformer.errors import ConfigError
from qingformer.files import is_path
from qingformer.training import holds_run
from qingformer.types import LearningRate


def check_rate(rate: object, owner: str = "learning_rate") -> float:
    """A learning rate as a number.

    Raises:
        ConfigError: not a number, not finite, or not above 0.

    Example:
        >>> check_rate(1e-3)
        0.001
    """
    if isinstance(rate, bool) or not isinstance(rate, Real):
        raise ConfigError(
            f"{owner} is {str(rate)[:80]!r}; expected a number above 0, such as 1e-4; a schedule goes into "
            "optimizer=, for instance qf.optimizers.adamw(schedule)"
        )
    number = float(rate)
    if not (math.isfinite(number) and number > 0):
        raise ConfigError(f"{owner} is {number}; expected a finite number above 0, such as 1e-4")
    return number


def whole_number(value: object, name: str, least: int = 1) -> int:
    """A count given to `fit` as Python's own number; those of NumPy are as good.

    Raises:
        ConfigError: not a whole number, or below `least`.

    Example:
        >>> whole_number(8, "batch_size")
        8
    """
    number = plain(value)
    if isinstance(number, bool) or not isinstance(number, int) or number < least:
        raise ConfigError(f"{name} is {repr(value)[:80]}; expected a whole number, {least} or more")
    return number


def counts(
    epochs: object, batch_size: object, seed: object, save_every: object, patience: object
) -> tuple[int, int, int, int | None, int | None]:
    """The counts given to `fit`, checked by `whole_number`; the last two may be None."""
    return (
        whole_number(epochs, "epochs"),
        whole_number(batch_size, "batch_size"),
        whole_number(seed, "seed", 0),
        None if save_every is None else whole_number(save_every, "save_every", 0),
        None if patience is None else whole_number(patience, "patience"),
    )


def check_rates(learning_rate: LearningRate, optimizer: Any) -> None:
    """Refuse a learning rate that no training can have: the optimizer's own ones, or `learning_rate` without one.

    Raises:
        ConfigError: names the argument.
    """
    if optimizer is None:
        check_rate(learning_rate)
        return
    # Wrappers (averages, accumulation) hold the optimizer that has the rate.
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    schedule = getattr(inner, "_learning_rate", None)
    value = getattr(schedule, "learning_rate", getattr(schedule, "initial_learning_rate", None))
    if schedule is not None and not callable(schedule):
        value = float(inner.learning_rate)
    if isinstance(value, Real) and not 0 <= float(value) < math.inf:
        raise ConfigError(
            f"the learning rate of {type(optimizer).__name__} is {value}; expected a finite number above 0"
        )


def check_run(
    directory: str | os.PathLike[str] | None, save_every: int | None, *, resume: bool, overwrite: bool
) -> None:
    """Refuse a folder that holds another run, unless that is to be continued or replaced.

    Raises:
        ConfigError: says which of `resume` and `overwrite` does what.
    """
    if directory is None:
        if resume or save_every:
            raise ConfigError("resume and save_every need a directory to keep resume points in")
        return
    if not is_path(directory):
        raise ConfigError(f"directory is {repr(directory)[:80]}; expected the path of a folder")
    folder = Path(directory)
    if resume and overwrite:
        raise ConfigError("resume=True continues the run in the directory, overwrite=True replaces it; choose one")
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder}: is a file; choose another directory")
    if hasattr(directory, "begin") or resume or overwrite:
        return
    if holds_run(folder):
        raise ConfigError(
            f"{folder}: holds a run already; continue it with resume=True, replace it with overwrite=True, "
            "or choose another directory"
        )
