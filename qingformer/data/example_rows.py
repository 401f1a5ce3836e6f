"""From a row of any table to a labelled text: its cells checked, and what is left out counted."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from qingformer.data.cells import checked_text, is_missing, label_text, listed, plain, quoted, split_labels, strip
from qingformer.data.columns import (
    ClassificationColumns,
    Column,
    Values,
    Wanted,
    find_columns,
    is_header,
    listed_names,
    repeats_names,
)
from qingformer.data.label_studio import flat_row
from qingformer.data.recognition import other_task, tasks_of
from qingformer.errors import DataError

NO_TEXT, NO_LABEL, HEADER = "they have no text", "they have no label", "they hold the names of the columns"
NO_VALUES = frozenset(("-", "nan", "NaN", "NA", "N/A", "#N/A", "<NA>", "null", "NULL", "None"))
REJECTED = 'their "answer" is reject or ignore'


@dataclass(frozen=True, slots=True)
class TextExample:
    """A text, or a pair of texts, and its labels: None if unlabelled, empty if none of several applies.

    `fields` are the other fields of an unlabelled row of a file.
    """

    text: str
    pair: str | None = None
    labels: tuple[str, ...] | None = None
    weight: float = 1.0
    line: int = 0
    fields: Mapping[object, object] | None = field(default=None, compare=False, repr=False)

    @property
    def label(self) -> str | None:
        """The only label; None if unlabelled. Raises `DataError` if there are none or several."""
        if self.labels is None:
            return None
        if len(self.labels) != 1:
            raise DataError(
                f"line {self.line}: {len(self.labels)} labels ({', '.join(self.labels)}) where one is "
                "expected; train with multi-label switched on"
            )
        return self.labels[0]


@dataclass(slots=True)
class LeftOut:
    """Rows that were left out: how many for which reason, and where the first of them stands."""

    total: int = 0
    reasons: dict[str, tuple[int, str]] = field(default_factory=dict)
    doubtful: dict[str, str] = field(default_factory=dict)  # labels that may mean that there is none, and where

    def add(self, reason: str, where: str) -> None:
        """One more."""
        count, first = self.reasons.get(reason, (0, where))
        self.reasons[reason] = count + 1, first

    def notes(self) -> list[str]:
        """A sentence for each reason."""
        return [
            f"{count:,} of {self.total:,} rows were left out: {reason} (first: {first})"
            for reason, (count, first) in self.reasons.items()
        ] + [
            f"the label {label!r} is a class like the others (first: {where}); if it means that there is none, pass "
            "no_label="
            for label, where in self.doubtful.items()
        ]


@dataclass(slots=True)
class ExampleMaker:
    """Turns the rows of one source into examples; most fields are arguments of `read_classification`.

    `unit` is what rows are counted in, "line" or "item": in memory a text may be empty, and a pair may be missing.
    `several` says that a text has any number of labels, so that none at all is a value too. `named` says that the
    columns were named by the caller, so that a first row of names is a header that was overlooked. `found` is set by
    the first row unless it is given.
    """

    name: str
    unit: str
    wanted: Wanted = (None,) * 5
    separator: str | None = None
    several: bool = False
    require: bool = False
    skip_empty: bool = False
    no_label: tuple[Any, ...] = ()
    skip_unlabelled: bool = False
    named: bool = False
    left_out: LeftOut = field(default_factory=LeftOut)
    found: ClassificationColumns | None = None

    def example(self, values: Values, number: int, columns: ClassificationColumns | None = None) -> TextExample | None:
        """The example of row `number`, or None if it is left out."""
        where = f"{self.name}, {self.unit} {number}"
        given, values = values, flat_row(values)
        first = self.left_out.total == 0
        self.left_out.total += 1
        if first and columns is None and self.wanted[0] is None:
            for task in tasks_of(given) & {"reading", "choice"}:
                raise other_task(where, "classification", task, "; text_column= names the text of other rows")
        if columns is None:
            columns = self.found = self.found or find_columns(where, values, self.wanted, self.require)
        if self._is_rejected(values, columns):
            return self._without(REJECTED, number)
        if repeats_names(values) or (first and self.named and is_header(values, columns)):
            return self._without(HEADER, number)
        text = self._text(where, values, columns.text)
        if text is None:
            return self._without(NO_TEXT, number)
        pair = None
        if columns.pair is not None and (self.unit == "line" or not is_missing(values.get(columns.pair))):
            pair = self._text(where, values, columns.pair)
            if pair is None:
                return self._without(NO_TEXT, number)
        labels = None
        if columns.label is not None:
            labels = self._labels(values.get(columns.label), f"{where}, column {columns.label!r}")
            if labels is None and (self.require or self.skip_unlabelled):
                return self._without(NO_LABEL, number)
        fields = self._others(given, columns)
        return TextExample(text, pair, labels, _weight(where, values, columns.weight), number, fields)

    def _others(self, values: Values, columns: ClassificationColumns) -> Values | None:
        """What else a row of a file says, for whoever lays predictions beside it."""
        if self.unit != "line" or self.wanted[2] is not False:
            return None
        return {name: value for name, value in values.items() if name not in (columns.text, columns.pair)} or None

    def nothing_left(self) -> str:
        """What to say where every row was left out, or there was none."""
        what = " and a label" if NO_LABEL in self.left_out.reasons else ""
        return f"{self.name}: no rows with a text{what}; give a file with at least one"

    def _without(self, reason: str, number: int) -> TextExample | None:
        self.left_out.add(reason, f"{self.unit} {number}")
        return None

    def _is_rejected(self, values: Values, columns: ClassificationColumns) -> bool:
        """Whether someone refused the label of this row in Prodigy."""
        answer = values.get("answer")
        return columns.label not in (None, "answer") and isinstance(answer, str) and answer in ("reject", "ignore")

    def _labels(self, value: Any, where: str) -> tuple[str, ...] | None:
        """The labels of a cell; None if it has none, or one that means none."""
        values, separator = listed(value), self.separator if isinstance(value, str) else None
        if values is not None:
            self._check_names(values, where)
        if separator is not None and values is None:
            values = list(split_labels(value, separator))
        elif values is None:
            values = [] if is_missing(value) else [value]
        elif all(map(is_missing, values)):
            values = []
        labels = [label_text(one, where) for one in values]
        if not labels and not self.skip_unlabelled:
            if self.several and (separator is not None or listed(value) is not None):
                return ()
            if self.require:
                raise DataError(
                    f"{where}: no label ({quoted(value)}); fill it in, remove the row, or leave such rows out with "
                    "skip_unlabelled=True"
                )
        nothing = {label_text(one, "no_label") for one in self.no_label}
        kept = tuple(dict.fromkeys(label for label in labels if label not in nothing))
        for label in kept:
            if label in NO_VALUES:
                self.left_out.doubtful.setdefault(label, where)
        return kept or None

    def _check_names(self, values: list[Any], where: str) -> None:
        """Refuse a row of zeros and ones, one for each label: what each stands for is not in the file."""
        numbers = [plain(one) for one in values if not isinstance(one, str)]
        repeated = len(numbers) == len(values) > len(set(map(str, numbers)))
        if self.several and repeated and all(number in (0, 1) for number in numbers):
            raise DataError(
                f"{where}: {quoted(values)} is a zero or one for each label, and their names are not in the file; "
                "write the names of the labels that apply in a list"
            )

    def _text(self, where: str, values: Values, column: Column) -> str | None:
        """The text of a cell; None if it is empty and such rows are left out."""
        value, place = plain(values.get(column)), f"{where}, column {column!r}"
        if isinstance(value, str) and (strip(value) or (self.unit == "item" and not self.skip_empty)):
            return checked_text(place, "text", value)
        if not is_missing(value):
            raise DataError(
                f"{place}: expected a text in quotes, found {type(value).__name__}; correct the file or the column"
            )
        if self.skip_empty:
            return None
        state = "is empty" if isinstance(value, str) else "is missing"
        fields = "" if column in values else f" (there are {listed_names(values)})"
        raise DataError(f"{place}: the text {state}; fill it in, or leave such rows out with skip_empty=True{fields}")


def _weight(where: str, values: Values, column: Column | None) -> float:
    if column is None:
        return 1.0
    try:
        weight = float(values[column])
    except (KeyError, TypeError, ValueError):
        weight = math.nan
    if not 0 <= weight < math.inf:
        raise DataError(
            f"{where}, column {column!r}: expected a weight, a number not below 0, found {quoted(values.get(column))}"
        )
    return weight
