"""All values that training changes, as one file of arrays: read back only into the model that they came from."""

import re
import zipfile
from pathlib import Path
from typing import Any

import keras
import numpy as np

from qingformer import backend
from qingformer.optimizers import chain
from qingformer.training.finite import check_values
from qingformer.training.training_errors import TrainingStateError
from qingformer.types import Config

Variables = dict[str, list[Any]]

_RANDOM = "random/"


def variables_of(model: keras.Model) -> Variables:
    """The variables by group: weights, seeds and statistics, optimizer, metrics. All must have been created."""
    return {
        "trainable": list(model.trainable_variables),
        "non_trainable": list(model.non_trainable_variables),
        "optimizer": list(model.optimizer.variables),
        "metrics": list(model.metrics_variables),
    }


def describe(variables: Variables) -> list[Config]:
    """Group, path, shape and dtype of every variable, in order."""
    return [
        {"group": group, "path": v.path, "shape": list(v.shape), "dtype": keras.backend.standardize_dtype(v.dtype)}
        for group, members in variables.items()
        for v in members
    ]


def write_values(path: Path, variables: Variables) -> None:
    """Write the values, and the generators of the process, as an uncompressed `.npz`.

    Raises:
        DivergenceError: a weight is not finite; what is wrong cannot be gone on with.
    """
    arrays = {}
    for group, members in variables.items():
        for number, variable in enumerate(members):
            values = np.asarray(keras.ops.convert_to_numpy(variable.value))
            if group in ("trainable", "non_trainable"):
                check_values(variable.path, values)
            # bfloat16 and float8 are no types of NumPy's own; the bits are kept, the type stands in the description.
            arrays[f"{group}/{number}"] = values if values.dtype.kind in "biuf" else _bits(values)
    arrays |= {_RANDOM + name: values for name, values in backend.random_state().items()}
    np.savez(path, allow_pickle=False, **arrays)


def _bits(values: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(values).view(np.dtype(f"uint{8 * values.dtype.itemsize}"))


def optimizer_name(model: keras.Model) -> str:
    """Class of the optimizer, and in brackets of those inside of it, to any depth."""
    names = [type(optimizer).__name__ for optimizer in chain(model.optimizer)]
    return "(".join(names) + ")" * (len(names) - 1)


def check_same(saved: list[Config], variables: Variables, where: str) -> None:
    """Compare descriptions; the numbers that Keras appends to layer names (`dense_3`) may differ.

    Raises:
        TrainingStateError: names the first variable that differs.
    """
    present = describe(variables)
    for old, new in zip(saved, present):
        if _without_counters(old) != _without_counters(new):
            raise TrainingStateError(
                f"{where}: belongs to another model or optimizer: saved {_name(old)}, here {_name(new)}"
            )
    if len(saved) != len(present):
        longer, which = (saved, "only saved") if len(saved) > len(present) else (present, "only here")
        first = _name(longer[min(len(saved), len(present))])
        raise TrainingStateError(f"{where}: belongs to another model or optimizer: {which}: {first}")


def _without_counters(entry: Config) -> Config:
    path = str(entry["path"])
    if entry["group"] == "optimizer":  # what stands before depends on who created the variables, the first step or we
        path = path.rsplit("/", 1)[-1]
    return entry | {"path": re.sub(r"_\d+(?=[_/]|$)", "", path)}


def _name(entry: Config) -> str:
    return f"{entry['path']} ({entry['group']}, {entry['dtype']}, {tuple(entry['shape'])})"


def read_values(path: Path, variables: Variables, groups: tuple[str, ...]) -> None:
    """Assign the values of `groups`, and the generators of the process; nothing is assigned unless all can be read.

    Raises:
        TrainingStateError: the file is missing, damaged or incomplete.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            values = [
                (variable, _as_type(file[f"{group}/{number}"], variable))
                for group in groups
                for number, variable in enumerate(variables[group])
            ]
            random = {name.removeprefix(_RANDOM): file[name] for name in file.files if name.startswith(_RANDOM)}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as problem:
        raise TrainingStateError(f"{path}: damaged ({problem}); delete its folder and train anew") from None
    for variable, array in values:
        variable.assign(array)
    backend.set_random_state(random)


def _as_type(values: np.ndarray, variable: Any) -> np.ndarray:
    if values.shape != tuple(variable.shape):
        raise ValueError(f"{variable.path} has shape {values.shape}, not {tuple(variable.shape)}")
    name = keras.backend.standardize_dtype(variable.dtype)
    if name.startswith(("bfloat", "float8")) and values.dtype.kind == "u":
        import ml_dtypes

        return values.view(np.dtype(getattr(ml_dtypes, name)))
    return values
