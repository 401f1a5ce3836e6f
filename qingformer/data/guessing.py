"""What a text file holds, from its first lines."""

import re
from collections.abc import Sequence

from qingformer.data.columns import is_usual_text_name
from qingformer.data.text_lines import Path
from qingformer.errors import DataError

_OBJECT = re.compile(r'\s*\{\s*("|\}\s*$)')
_NAME = re.compile(r'"?\w[\w #]{0,30}"?')
_LIST = re.compile(r"\s*\[\s*(\{|$)")


def is_json_list(first: str) -> bool:
    """Whether a first line begins a list of objects, whatever the file is called."""
    return _LIST.match(first) is not None


def guess_format(path: Path, head: Sequence[tuple[int, str]], columns: Sequence[str] | None) -> str:
    """ "jsonl", "json", "csv", "tsv" or "text", from its first lines; `columns` are those that the caller named.

    Raises:
        DataError: lines of several columns that nobody named: which of them is the text cannot be known.

    >>> guess_format("a.txt", [(1, '{"text": "今天"}')], None), guess_format("a.txt", [(1, "今天")], None)
    ('jsonl', 'text')
    """
    number, first = head[0]
    if _OBJECT.match(first):
        return "jsonl"
    if is_json_list(first):
        return "json"
    tabs = {line.count("\t") for _, line in head if line.strip()}
    if columns is not None:
        if len(columns) > 1 and tabs == {0}:
            raise DataError(
                f"{path}, line {number}: has no tabs between {len(columns)} columns; pass format= csv if commas divide "
                "them, or leave out columns="
            )
        return "tsv"
    if len(tabs) == 1 and 0 not in tabs:
        if any(map(is_usual_text_name, first.split("\t"))):
            return "tsv"
        count = tabs.pop() + 1
        raise DataError(
            f'{path}, line {number}: has {count} columns with tabs between them; name them with format="tsv" and '
            f'columns= {"text,label" if count == 2 else "text,pair,label"} in their order, or pass format="text" if '
            "each line is one text"
        )
    return "csv" if _is_header_of_csv(head) else "text"


def _is_header_of_csv(head: Sequence[tuple[int, str]]) -> bool:
    """Whether the first line names columns, one of them that of the texts, and the others have as many commas."""
    names, rest = head[0][1].strip().split(","), [line for _, line in head[1:] if line.strip()]
    has_names = any(map(is_usual_text_name, names)) and all(map(_NAME.fullmatch, names))
    return len(names) > 1 and has_names and bool(rest) and all(line.count(",") >= len(names) - 1 for line in rest)
