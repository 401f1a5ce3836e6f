"""Reads a model's variables from a checkpoint through its family's weight map; every stored weight is accounted for."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from qingformer.checkpoints.loading_report import LoadingReport, shorten
from qingformer.checkpoints.stored_names import beside, looks_like, prefix_of, renamed
from qingformer.checkpoints.weight_map import Row, WeightMap
from qingformer.errors import CheckpointError

# Counters of training code that are tensors: of averaged models, batch norms, steps.
COUNTERS = r"(^|[./])(n_averaged|num_updates|num_batches_tracked|global_step|step|epoch)$"
FLOATS = "fV"  # kinds of NumPy's floats and of the extension types: bfloat16, float8


class Stored(Protocol):
    """What the loader needs of a checkpoint file."""

    def names(self) -> list[str]: ...

    def read(self, name: str) -> np.ndarray: ...


def no_reason(path: str) -> str | None:
    """Every variable may stay unread."""
    return None


def no_advice(path: str, stored: tuple[int, ...], wanted: tuple[int, ...]) -> str | None:
    """Nothing is known of its shape."""
    return None


def no_remedy(paths: list[str]) -> str | None:
    """Nothing is known of what is missing."""
    return None


@dataclass(frozen=True)
class Loader:
    """Reads the variables of a model from a checkpoint through a weight map.

    `change` may alter an array on its way in, by variable path (vocabulary surgery); `resize`, where given, brings an
    array of another shape to the wanted one; `about_shape` may advise on a shape that is not the wanted one,
    `about_missing` on what the file lacks.
    `may_be_missing` are patterns of variable paths that start anew. `allow_left_over` are further patterns of stored
    names that may stay unread. `why_unused` says for a variable of the family that the model does not have what in the
    configuration leaves it out, None where it may stay in the file. `compare_copies`: whether copies of a tied table
    must equal it; a body without output leaves them over. `advice` ends the messages about names that do not fit.
    """

    weight_map: WeightMap
    layout: str
    change: Callable[[str, np.ndarray], np.ndarray] | None = None
    resize: Callable[[str, np.ndarray, tuple[int, ...]], np.ndarray] | None = None
    may_be_missing: tuple[str, ...] = ()
    allow_left_over: tuple[str, ...] = ()
    why_unused: Callable[[str], str | None] = no_reason
    compare_copies: bool = True
    about_shape: Callable[[str, tuple[int, ...], tuple[int, ...]], str | None] = no_advice
    about_missing: Callable[[list[str]], str | None] = no_remedy
    strict: bool = True
    advice: str = ""

    def known(self) -> set[str]:
        """All stored names that mean something to the family, in every spelling."""
        names = {name for row in self.weight_map.rows if (name := row.name(self.layout)) is not None}
        copies = self.weight_map.copies.get(self.layout, {})
        return {spelling for name in (*names, *copies) for spelling in self.weight_map.candidates(name, self.layout)}

    def aliases(self, stored: Stored) -> dict[str, str]:
        """The names as the family knows them, to the stored names."""
        names = stored.names()
        return dict(zip(names, names)) if self.layout == "qingformer" else renamed(names, self.known())

    def find(self, stored: Stored) -> dict[str, tuple[Row, str]]:
        """Variable path to (row, stored name), for all rows that the file holds."""
        there = self.aliases(stored)
        found = {}
        for row in self.weight_map.rows:
            name = row.name(self.layout)
            if name is None or row.ours in found:
                continue
            # A name may have several spellings (TensorFlow's suffixes, old releases); the first one that is there
            # counts.
            held = [place for place in self.weight_map.places(name, self.layout) if place in there]
            if held:
                found[row.ours] = (row, there[held[0]])
        return found

    def load(
        self, stored: Stored, wanted: Mapping[str, tuple[int, ...]], source: str
    ) -> tuple[Iterator[tuple[str, np.ndarray]], LoadingReport]:
        """Check the names, then return the arrays by variable path, read one by one, and the report.

        `wanted` maps variable paths to shapes. Errors: `CheckpointError` for missing, unknown and unused weights at
        once, for a weight of the wrong shape or type when its turn comes.
        """
        found = self.find(stored)
        report = LoadingReport(source)
        report.loaded = [path for path in wanted if path in found]
        report.missing = [path for path in wanted if path not in found]
        unused = self._sort_left_over(stored, found, report)
        if not report.loaded:
            raise CheckpointError(self._none_there(stored, wanted, source))
        if self.strict:
            self._check(report, unused)
        return self._arrays(stored, found, wanted, report), report

    def _sort_left_over(
        self, stored: Stored, found: Mapping[str, tuple[Row, str]], report: LoadingReport
    ) -> dict[str, str]:
        """Enter what is not loaded in the report; returns why, for weights of the body that the model lacks."""
        aliases = self.aliases(stored)
        if self.layout != "qingformer":
            report.prefix = prefix_of(stored.names(), self.known())
        paths: dict[str, list[str]] = {}
        for path, (_, name) in found.items():
            paths.setdefault(name, []).append(path)
        # By stored name: one stored tensor may fill several of ours, as fused projections do.
        used = {found[path][1] for path in report.loaded}
        patterns = (*self.weight_map.ignored.get(self.layout, ()), *self.allow_left_over, COUNTERS)
        unused = {}
        for alias, name in aliases.items():
            original = self._original_of(alias, aliases)
            if name in used:
                continue
            if original is not None and name not in paths:
                self._compare(stored, name, aliases[original], report)
            elif name in paths:
                report.left_over.append(name)
                allowed = any(re.search(pattern, alias) for pattern in self.allow_left_over)
                reasons = [] if allowed else [why for path in paths[name] if (why := self.why_unused(path))]
                if reasons:
                    unused[name] = reasons[0]
            elif any(re.search(pattern, alias) for pattern in patterns):
                report.left_over.append(name)
            else:
                report.unknown.append(name)
        return unused

    def _original_of(self, alias: str, aliases: Mapping[str, str]) -> str | None:
        """The name in the file of the weights that a tied copy repeats."""
        for copy, original in self.weight_map.copies.get(self.layout, {}).items():
            if alias in self.weight_map.candidates(copy, self.layout):
                places = self.weight_map.places(original, self.layout)
                return next((place for place in places if place in aliases and place != alias), None)
        return None

    def _compare(self, stored: Stored, name: str, original: str, report: LoadingReport) -> None:
        if not self.compare_copies:
            report.left_over.append(name)
            return
        if not np.array_equal(stored.read(name), stored.read(original)):
            raise CheckpointError(
                f"{report.source}: {name} should be a copy of {original} but differs; this model ties the two "
                "(tie_word_embeddings)"
            )
        report.copies[name] = original

    def _none_there(self, stored: Stored, wanted: Mapping[str, tuple[int, ...]], source: str) -> str:
        names = stored.names()
        places = dict.fromkeys(row.name(self.layout) for row in self.weight_map.rows if row.ours in wanted)
        expected = [name for name in places if name is not None]
        looks = looks_like(names) or f"is it another family's checkpoint?{self.advice}"
        return (
            f"{source}: none of the model's weights is there; the file has {beside(names)} where "
            f"{beside(expected)} are expected; {looks}"
        )

    def _check(self, report: LoadingReport, unused: Mapping[str, str]) -> None:
        missing = [path for path in report.missing if not any(re.search(p, path) for p in self.may_be_missing)]
        looks = looks_like(report.unknown)
        if missing:
            instead = f"; unknown are {beside(report.unknown)}" if report.unknown else ""
            remedy = self.about_missing(missing)
            looks = f"{remedy or looks}," if remedy or looks else "is it another model's checkpoint?"
            raise CheckpointError(
                f"{report.source}: {len(missing)} weights are missing ({shorten(missing)}){instead}; {looks} "
                f"strict=False starts them anew{self.advice}"
            )
        if unused:
            reason = next(iter(unused.values()))
            raise CheckpointError(
                f"{report.source}: {len(unused)} weights would stay unused ({shorten(list(unused), 2)}); {reason}; "
                "strict=False leaves them out"
            )
        if report.unknown:
            looks = looks or "check the configuration"
            raise CheckpointError(
                f"{report.source}: {len(report.unknown)} weights belong to nothing in this model "
                f"({shorten(report.unknown)}); {looks}, or pass strict=False to leave them out{self.advice}"
            )

    def _arrays(
        self,
        stored: Stored,
        found: Mapping[str, tuple[Row, str]],
        wanted: Mapping[str, tuple[int, ...]],
        report: LoadingReport,
    ) -> Iterator[tuple[str, np.ndarray]]:
        # One after the other, and not all at once: loading takes the memory of one tensor beside the model.
        for path in report.loaded:
            row, name = found[path]
            array = stored.read(name)
            if array.dtype.kind not in FLOATS:
                raise CheckpointError(
                    f"{report.source}: {name} holds {array.dtype} numbers where the model has floats; quantised "
                    "weights cannot be read, save them as float32"
                )
            array = self._in_our_layout(row, array, name, wanted[path], report.source)
            if self.change is not None:
                array = self.change(path, array)
            if array.shape != wanted[path] and self.resize is not None:
                report.resized[path] = (array.shape, wanted[path])
                array = self.resize(path, array, wanted[path])
            if array.shape != wanted[path]:
                advice = self.about_shape(path, array.shape, wanted[path])
                raise CheckpointError(
                    f"{report.source}: {name} has shape {array.shape}, but {path} of the model needs {wanted[path]}; "
                    f"{advice or 'the configuration belongs to another checkpoint'}"
                )
            yield path, array

    def _in_our_layout(
        self, row: Row, array: np.ndarray, name: str, wanted: tuple[int, ...], source: str
    ) -> np.ndarray:
        """The stored array as the row turns and divides it; `CheckpointError` where its shape does not allow that."""
        if not array.size and np.prod(wanted):
            raise CheckpointError(
                f"{source}: {name} is empty where {row.ours} needs {wanted}; DeepSpeed's ZeRO-3 leaves such places: "
                "gather the weights with zero_to_fp32.py, which lies in the folder of its checkpoint"
            )
        try:
            return row.load(array, self.layout)
        except (ValueError, IndexError):
            raise CheckpointError(
                f"{source}: {name} has shape {array.shape}, out of which {row.ours} of the model cannot take {wanted}; "
                "the configuration belongs to another checkpoint"
            ) from None
