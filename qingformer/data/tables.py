"""What a user has in memory, as rows: lists, generators, arrays, dictionaries of columns, data frames."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from qingformer.data.cells import quoted
from qingformer.errors import DataError

WHOLE = ("data", "paragraphs", "qas")  # keys of a dictionary that is a document by itself


def rows_of(source: Any, name: str) -> Iterable[Any]:
    """The rows of `source`: a sequence or generator of them, a table, a dictionary of columns, or one dictionary.

    A table is whatever has `columns` (pandas, polars) or `column_names` (pyarrow, datasets).

    Raises:
        DataError: a text, bytes or a number in the place of rows; a set, which has no order; columns of unequal length.

    >>> list(rows_of({"text": ["今天", "明天"], "label": [1, 0]}, "data"))
    [{'text': '今天', 'label': 1}, {'text': '明天', 'label': 0}]
    >>> rows_of({"text": "今天"}, "data")
    [{'text': '今天'}]
    """
    if isinstance(source, str | bytes | bytearray):
        raise DataError(f"{name}: expected a list, found one text; write [{quoted(source)}]")
    if isinstance(source, Mapping):
        return _of_mapping(source, name)
    if isinstance(source, set | frozenset):
        raise DataError(f"{name}: a set has no order, so results could not be told apart; pass a list")
    if hasattr(source, "read"):
        raise DataError(f"{name}: is an open file; pass its path")
    if hasattr(source, "columns") or hasattr(source, "column_names"):
        return _of_table(source, name)
    if _is_numbered(source):
        return (source[number] for number in range(len(source)))
    if not isinstance(source, Iterable) or getattr(source, "ndim", 1) == 0:
        raise DataError(f"{name}: expected a path or a sequence of rows, got {type(source).__name__}")
    if getattr(source, "ndim", 1) > 1 and hasattr(source, "tolist"):
        rows: list[Any] = source.tolist()
        return rows
    return source


def is_table(source: object) -> bool:
    """Whether `source` is a table or a dictionary, whose cells hold what cells of files hold."""
    return isinstance(source, Mapping) or hasattr(source, "columns") or hasattr(source, "column_names")


def is_empty(source: Any) -> bool:
    """Whether `source` is known to hold no rows."""
    if isinstance(source, Mapping) and not hasattr(source, "columns"):
        return not source
    try:
        return len(source) == 0
    except TypeError:
        return False


def _of_mapping(source: Mapping[Any, Any], name: str) -> Iterable[Any]:
    tokens = source.get("tokens", source.get("words"))
    is_row = isinstance(tokens, list | tuple) and bool(tokens) and isinstance(tokens[0], str)
    if is_row or not source or any(key in source for key in WHOLE) or not all(map(_is_column, source.values())):
        return [source]
    return _rows({key: list(column) for key, column in source.items()}, name)


def _is_column(value: object) -> bool:
    if isinstance(value, str | bytes | Mapping):
        return False
    return isinstance(value, Sequence) or (getattr(value, "ndim", 0) > 0 and hasattr(value, "__len__"))


def _of_table(source: Any, name: str) -> Iterable[Any]:
    columns = getattr(source, "column_names", None)
    columns = getattr(source, "columns", None) if columns is None else columns
    if isinstance(columns, Mapping) and not hasattr(source, "__getitem__"):
        return _rows({key: list(column) for key, column in columns.items()}, name)
    if columns is None or isinstance(columns, str) or not isinstance(columns, Iterable):
        raise DataError(
            f"{name}: a {type(source).__name__} is not a table that can be read; pass a list of dictionaries"
        )
    names = list(columns)
    if len(set(names)) < len(names):
        raise DataError(f"{name}: the table has two columns of one name; rename one of them")
    try:
        found = {key: _values(source[key]) for key in names}
    except (KeyError, IndexError, TypeError):
        raise DataError(f"{name}: the columns of a {type(source).__name__} cannot be read; pass a list of dictionaries"
                        ) from None  # fmt: skip
    return _rows(found, name)


def _values(column: Any) -> list[Any]:
    for convert in ("to_pylist", "to_list", "tolist"):
        if hasattr(column, convert):
            return list(getattr(column, convert)())
    return list(column)


def _rows(columns: dict[Any, list[Any]], name: str) -> Iterator[dict[Any, Any]]:
    lengths = {str(key): len(column) for key, column in columns.items()}
    if len(set(lengths.values())) > 1:
        shown = ", ".join(f"{key} {length}" for key, length in lengths.items())
        raise DataError(f"{name}: the columns have different lengths ({shown}); give each one value for each row")
    return (dict(zip(columns, values)) for values in zip(*columns.values()))


def _is_numbered(source: object) -> bool:
    """Whether rows are had by their numbers alone, as from PyTorch's data sets: a length and items, no iteration."""
    return not isinstance(source, Iterable | type) and hasattr(source, "__getitem__") and hasattr(source, "__len__")
