"""The reversible table between a model's variables and the names under which checkpoint formats store them."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from qingformer.errors import CheckpointError

FORMATS = ("tensorflow", "huggingface")


class Step(Protocol):
    """A reversible change of layout between the file and the model."""

    def load(self, stored: np.ndarray) -> np.ndarray:
        """From the file's layout to ours."""

    def save(self, ours: np.ndarray) -> np.ndarray:
        """From our layout to the file's."""


@dataclass(frozen=True)
class Transpose:
    """Swap the two axes of a matrix: ours is (in, out), PyTorch's linear layers store (out, in)."""

    def load(self, stored: np.ndarray) -> np.ndarray:
        """(out, in) to (in, out)."""
        return stored.T

    def save(self, ours: np.ndarray) -> np.ndarray:
        """(in, out) to (out, in)."""
        return np.ascontiguousarray(ours.T)


TRANSPOSE = Transpose()


@dataclass(frozen=True)
class Unwrap:
    """Drop a leading axis of one entry, which some files keep from convolutions of width 1."""

    def load(self, stored: np.ndarray) -> np.ndarray:
        """(1, in, out) to (in, out)."""
        return stored[0]

    def save(self, ours: np.ndarray) -> np.ndarray:
        """(in, out) to (1, in, out)."""
        return ours[None]


UNWRAP = Unwrap()


@dataclass(frozen=True)
class Row:
    """One variable: its path in the model, and in each format its name (None: no place there) and layout.

    `part` = (index, count): the variable is that part of a stored array whose last axis (in our layout) joins `count`
    equal parts, such as queries, keys and values in one matrix. A table may have several rows for one variable, the
    one to write first, the others to read; and several variables that read one stored array.

    Example:
        Row("pooler/kernel", "bert/pooler/dense/kernel", "bert.pooler.dense.weight", huggingface_steps=(TRANSPOSE,))
    """

    ours: str
    tensorflow: str | None
    huggingface: str | None
    tensorflow_steps: tuple[Step, ...] = ()
    huggingface_steps: tuple[Step, ...] = ()
    part: tuple[int, int] | None = None

    def name(self, layout: str) -> str | None:
        """The stored name in that format."""
        return self.tensorflow if layout == "tensorflow" else self.huggingface

    def steps(self, layout: str) -> tuple[Step, ...]:
        """The changes of layout from that format to ours."""
        return self.tensorflow_steps if layout == "tensorflow" else self.huggingface_steps

    def load(self, stored: np.ndarray, layout: str) -> np.ndarray:
        """The stored array in our layout."""
        for step in self.steps(layout):
            stored = step.load(stored)
        return stored if self.part is None else np.split(stored, self.part[1], axis=-1)[self.part[0]]

    def save(self, ours: np.ndarray, layout: str) -> np.ndarray:
        """Our array in the stored layout."""
        for step in reversed(self.steps(layout)):
            ours = step.save(ours)
        return ours


@dataclass(frozen=True)
class WeightMap:
    """The table of a family: rows, other spellings of stored names, tied copies, and names that carry no weight.

    `spellings[format]` are (pattern, replacement) pairs: each may be applied to a row's name to get a name that older
    files use. `copies[format]` maps a stored name to the one it must equal. `ignored[format]` are patterns of stored
    names that are no weights of ours and may be left over.
    """

    rows: tuple[Row, ...]
    spellings: Mapping[str, tuple[tuple[str, str], ...]] = field(default_factory=dict)
    copies: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    ignored: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def candidates(self, name: str, layout: str) -> list[str]:
        """All spellings of a stored name, the modern one first."""
        names = [name]
        for pattern, replacement in self.spellings.get(layout, ()):
            names += [re.sub(pattern, replacement, known) for known in names if re.search(pattern, known)]
        return names

    def places(self, name: str, layout: str) -> list[str]:
        """All stored names under which a weight may lie: its spellings, then those of its tied copies."""
        names = self.candidates(name, layout)
        for copy, original in self.copies.get(layout, {}).items():
            if original == name:
                names += self.candidates(copy, layout)
        return list(dict.fromkeys(names))


def dense(ours: str, tensorflow: str | None, huggingface: str | None, bias: bool = True) -> list[Row]:
    """The rows of a dense layer: kernel (transposed in Hugging Face files) and bias."""
    kernel = Row(
        f"{ours}/kernel",
        tensorflow and f"{tensorflow}/kernel",
        huggingface and f"{huggingface}.weight",
        huggingface_steps=(TRANSPOSE,),
    )
    offset = Row(f"{ours}/bias", tensorflow and f"{tensorflow}/bias", huggingface and f"{huggingface}.bias")
    return [kernel, offset] if bias else [kernel]


def norm(ours: str, tensorflow: str | None, huggingface: str | None) -> list[Row]:
    """The rows of a layer norm: gain and offset."""
    return [
        Row(f"{ours}/gamma", tensorflow and f"{tensorflow}/gamma", huggingface and f"{huggingface}.weight"),
        Row(f"{ours}/beta", tensorflow and f"{tensorflow}/beta", huggingface and f"{huggingface}.bias"),
    ]


def save_rows(weight_map: WeightMap, layout: str, variables: Iterable[tuple[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The stored names and arrays of a model's variables in that format.

    Errors: `CheckpointError` names a variable that the format has no place for.
    """
    stored: dict[str, np.ndarray] = {}
    parts: dict[str, dict[int, np.ndarray]] = {}
    rows: dict[str, Row] = {}
    for row in weight_map.rows:
        if row.name(layout) is not None:
            rows.setdefault(row.ours, row)
    for path, array in variables:
        if path not in rows:
            raise CheckpointError(
                f"{path} has no name in the {layout} format; save with format='qingformer', which holds everything"
            )
        row = rows[path]
        name = str(row.name(layout))
        if row.part is not None:
            parts.setdefault(name, {})[row.part[0]] = array
            if len(parts[name]) < row.part[1]:
                continue
            array = np.concatenate([parts[name][index] for index in range(row.part[1])], axis=-1)
        array = row.save(array, layout)
        if name in stored and not np.array_equal(stored[name], array):
            raise CheckpointError(
                f"{path}: the {layout} format has one place ({name}) for weights that differ here; "
                "save with format='qingformer', which holds everything"
            )
        stored[name] = array
    return stored
