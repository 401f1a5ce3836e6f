"""Which column of a table is the text, which the label: usual names, header lines, and what was asked for."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from qingformer.data.cells import strip
from qingformer.errors import DataError
from qingformer.types import Config

Column = str | int
TEXT_COLUMNS = (
    "text",
    "sentence",
    "sentence1",
    "text_a",
    "text1",
    "text_1",
    "sentence_a",
    "content",
    "review",
    "comment",
    "query",
    "question",
    "question1",
    "title",
    "abstract",
    "premise",
    "utterance",
    "文本",
    "内容",
    "句子",
    "评论",
    "标题",
    "data",
)
LABEL_COLUMNS = (
    "label",
    "labels",
    "label_desc",
    "label_des",
    "category",
    "categories",
    "cat",
    "cats",
    "tag",
    "tags",
    "class",
    "intent",
    "sentiment",
    "target",
    "topic",
    "choice",
    "choices",
    "标签",
    "类别",
    "分类",
    "情感",
)
PAIRS = {
    "text": ("pair", "text_pair", "text2"),
    "sentence": ("sentence2",),
    "sentence1": ("sentence2",),
    "text_a": ("text_b",),
    "text1": ("text2",),
    "text_1": ("text_2",),
    "sentence_a": ("sentence_b",),
    "query": ("title",),
    "question": ("question2",),
    "question1": ("question2",),
    "premise": ("hypothesis",),
}

Wanted = tuple[Column | Literal[False] | None, ...]
Values = Mapping[Any, Any]


@dataclass(frozen=True, slots=True)
class ClassificationColumns:
    """Which column of a file holds what; None where there is none."""

    text: Column
    pair: Column | None
    label: Column | None
    weight: Column | None = None
    group: Column | None = None


def header_detector(wanted: Wanted) -> Callable[[Sequence[str]], bool]:
    """A line is taken for names if one of them is usual or asked for, or if nothing says that positions are meant."""
    usual = {*TEXT_COLUMNS, *LABEL_COLUMNS, *(name for names in PAIRS.values() for name in names)}
    given = [column for column in wanted if column is not None and column is not False]
    # Columns that were named can only be found in a header.
    if not all(str(column).isdigit() for column in given):
        return lambda fields: True
    return lambda fields: not given or any(field.strip().lower() in usual for field in fields)


def is_usual_text_name(name: str) -> bool:
    """Whether a column of this name is found to be the text by itself."""
    return _name(name) in TEXT_COLUMNS


def repeats_names(values: Values) -> bool:
    """Whether a row says the names of its columns once more, as where two files were joined.

    >>> repeats_names({"text": "text", "label": "label"}), repeats_names({"text": "今天", "label": "label"})
    (True, False)
    """
    return len(values) > 1 and all(_name(value) == _name(column) for column, value in values.items())


def is_header(values: Values, found: ClassificationColumns) -> bool:
    """Whether the first row of a file whose columns were named is a line of names after all.

    >>> is_header({"text": "text_a", "label": "y"}, ClassificationColumns("text", None, "label"))
    True
    """
    pairs = {name for names in PAIRS.values() for name in names}
    if _name(values.get(found.text)) in {*TEXT_COLUMNS, _name(found.text)}:
        return True
    usual = {*TEXT_COLUMNS, *LABEL_COLUMNS, *pairs, *map(_name, values)}
    return len(values) > 1 and all(_name(value) in usual for value in values.values())


def _name(value: object) -> str:
    return strip(str(value)).casefold()


def find_columns(where: str, values: Values, wanted: Wanted, require_labels: bool = False) -> ClassificationColumns:
    """Say which columns hold what, from a first row at `where`; raises `DataError` that lists the columns there are.

    >>> find_columns("a.jsonl, line 1", {"sentence": "放首歌", "label": "音乐"}, (None,) * 5).label
    'label'
    """
    # Reversed, so that of two columns of one name the first is kept.
    names = {_name(name): name for name in reversed(values)}
    _check_alike(where, values, wanted)
    text, pair, label, weight, group = (_given(where, values, column) for column in wanted)
    if text is None:
        text = next((names[name] for name in TEXT_COLUMNS if name in names and names[name] != label), None)
        if text is None:
            raise DataError(
                f"{where}: no column has a usual name for a text (there are {listed_names(values)}); name it with "
                "text_column=, or name all with columns= if the file has no header"
            )
    if pair is None and wanted[1] is None:
        partners = PAIRS.get(_name(text), ())
        pair = next((names[name] for name in partners if name in names and names[name] != label), None)
    if label is None and wanted[2] is None:
        label = next((names[name] for name in LABEL_COLUMNS if name in names and names[name] not in (text, pair)), None)
        if label is None and require_labels:
            raise DataError(_no_label_column(where, values))
    return ClassificationColumns(text, pair, label, weight, group)


def _check_alike(where: str, values: Values, wanted: Wanted) -> None:
    """Refuse two columns whose usual names differ by case or space alone, unless one is asked for."""
    seen: Config = {}
    for name in values:
        usual = _name(name)
        other = seen.setdefault(usual, name)
        alike = usual in LABEL_COLUMNS or usual in TEXT_COLUMNS
        if other != name and alike and other not in wanted and name not in wanted:
            raise DataError(
                f"{where}: the columns {str(other)!r} and {str(name)!r} have one name; say which is meant with "
                "text_column= or label_column="
            )


def _no_label_column(where: str, values: Values) -> str:
    if list(values) == ["text"]:
        return (
            f"{where}: only texts are there, no labels; a table whose columns are named is read with "
            'format="tsv" and columns=text,label'
        )
    return (
        f"{where}: no column has a usual name for a label (there are {listed_names(values)}); name it with "
        "label_column="
    )


def _given(where: str, values: Values, column: Column | Literal[False] | None) -> Column | None:
    """The column that was asked for, by name or by position."""
    if column is None or column is False:
        return None
    if column in values:
        return column
    names = list(values)
    if str(column).isdecimal() and int(column) < len(names):
        found: Column = names[int(column)]
        return found
    raise DataError(f"{where}: no column {column!r}; there are {listed_names(values)}")


def listed_names(values: Values) -> str:
    """The names of the columns, long ones cut."""
    names = [str(name) for name in values]
    shown = [f"{name[:20]}..." if len(name) > 24 else name for name in names[:12]]
    return ", ".join(shown + [f"... ({len(names)} in all)"] * (len(names) > 12)) or "none"
