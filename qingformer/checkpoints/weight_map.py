"""The reversible table between a model's variables and the names under which checkpoint formats store them."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

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


@dataclass
class LoadingReport:
    """What a load did: variable paths `loaded`, `missing` (left at their initial values), `resized` (path to old and
    new shape), and stored names `left_over` (known to the family, not part of this model) or `unknown`. `head` is the
    fine-tuned head in the files, if any, and `head_taken` whether a task uses it."""

    source: str
    loaded: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    left_over: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    resized: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = field(default_factory=dict)
    head: Any = None
    head_taken: bool = False

    def summary(self) -> str:
        """One line with the counts."""
        counts = [f"{len(self.loaded)} loaded"]
        for name in ("resized", "missing", "left_over", "unknown"):
            if getattr(self, name):
                counts.append(f"{len(getattr(self, name))} {name.replace('_', ' ')}")
        if self.head is not None:
            counts.append(f"{self.head.described} {'taken' if self.head_taken else 'left out'}")
        return f"{self.source}: {', '.join(counts)}"


class Stored(Protocol):
    """What the map needs of a checkpoint file."""

    def names(self) -> list[str]: ...

    def read(self, name: str) -> np.ndarray: ...


@dataclass(frozen=True)
class Loader:
    """Reads the variables of a model from a checkpoint through a weight map.

    `change` may alter an array on its way in, by variable path (vocabulary surgery); `resize`, where given, brings an
    array of another shape to the wanted one. `may_be_missing` are patterns of variable paths that start anew.
    `allow_left_over` are further patterns of stored names that may stay unread. `advice` ends the messages about names
    that do not fit.
    """

    weight_map: WeightMap
    layout: str
    change: Callable[[str, np.ndarray], np.ndarray] | None = None
    resize: Callable[[str, np.ndarray, tuple[int, ...]], np.ndarray] | None = None
    may_be_missing: tuple[str, ...] = ()
    allow_left_over: tuple[str, ...] = ()
    strict: bool = True
    advice: str = ""

    def find(self, stored: Stored) -> dict[str, tuple[Row, str]]:
        """Variable path to (row, stored name), for all rows that the file holds."""
        there = set(stored.names())
        found = {}
        for row in self.weight_map.rows:
            name = row.name(self.layout)
            if name is None:
                continue
            held = [spelling for spelling in self.weight_map.candidates(name, self.layout) if spelling in there]
            if held and row.ours not in found:
                found[row.ours] = (row, held[0])
        return found

    def load(
        self, stored: Stored, wanted: Mapping[str, tuple[int, ...]], source: str
    ) -> tuple[Iterator[tuple[str, np.ndarray]], LoadingReport]:
        """Check the names, then return the arrays by variable path, read one by one, and the report.

        `wanted` maps variable paths to shapes. Errors: `CheckpointError` for missing and unknown weights at once, for
        a weight of the wrong shape when its turn comes.
        """
        found = self.find(stored)
        report = LoadingReport(source)
        report.loaded = [path for path in wanted if path in found]
        report.missing = [path for path in wanted if path not in found]
        self._sort_left_over(stored, found, report)
        if self.strict:
            self._check(report)
        if not report.loaded:
            raise CheckpointError(
                f"{source}: none of the model's weights is there; is it another family's checkpoint?{self.advice}"
            )
        return self._arrays(stored, found, wanted, report), report

    def _sort_left_over(self, stored: Stored, found: Mapping[str, tuple[Row, str]], report: LoadingReport) -> None:
        known = {name for _, name in found.values()}
        used = {found[path][1] for path in report.loaded}
        copies = self.weight_map.copies.get(self.layout, {})
        patterns = (*self.weight_map.ignored.get(self.layout, ()), *self.allow_left_over)
        for name in stored.names():
            if name in known:
                if name not in used:
                    report.left_over.append(name)
            elif name in copies:
                self._check_copy(stored, name, copies[name], known, report.source)
            elif any(re.search(pattern, name) for pattern in patterns):
                report.left_over.append(name)
            else:
                report.unknown.append(name)

    def _check_copy(self, stored: Stored, name: str, original: str, there: set[str], source: str) -> None:
        same = [known for known in self.weight_map.candidates(original, self.layout) if known in there]
        if same and not np.array_equal(stored.read(name), stored.read(same[0])):
            raise CheckpointError(
                f"{source}: {name} should be a copy of {same[0]} but differs; this model ties the two"
            )

    def _check(self, report: LoadingReport) -> None:
        missing = [path for path in report.missing if not any(re.search(p, path) for p in self.may_be_missing)]
        if report.loaded and missing:
            raise CheckpointError(
                f"{report.source}: {len(missing)} weights are missing ({shorten(missing)}); "
                f"is it another model's checkpoint? strict=False starts them anew{self.advice}"
            )
        if report.loaded and report.unknown:
            raise CheckpointError(
                f"{report.source}: {len(report.unknown)} weights belong to nothing in this model "
                f"({shorten(report.unknown)}); check the configuration, or pass strict=False to leave them out"
                f"{self.advice}"
            )

    def _arrays(
        self,
        stored: Stored,
        found: Mapping[str, tuple[Row, str]],
        wanted: Mapping[str, tuple[int, ...]],
        report: LoadingReport,
    ) -> Iterator[tuple[str, np.ndarray]]:
        for path in report.loaded:
            row, name = found[path]
            array = row.load(stored.read(name), self.layout)
            if self.change is not None:
                array = self.change(path, array)
            if array.shape != wanted[path] and self.resize is not None:
                report.resized[path] = (array.shape, wanted[path])
                array = self.resize(path, array, wanted[path])
            if array.shape != wanted[path]:
                raise CheckpointError(
                    f"{report.source}: {name} has shape {array.shape}, but {path} of the model needs {wanted[path]}; "
                    "the configuration belongs to another checkpoint"
                )
            yield path, array


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


def shorten(names: list[str], count: int = 3) -> str:
    """The first names and how many more there are."""
    more = f", and {len(names) - count} more" if len(names) > count else ""
    return ", ".join(names[:count]) + more
