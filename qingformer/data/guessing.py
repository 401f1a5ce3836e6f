"""What a text file holds, from its first lines."""

import re
from collections.abc import Sequence

from qingformer.data.columns import is_usual_text_name
from qingformer.data.sources import Path
from qingformer.errors import DataError

_OBJECT = re.compile(r'\s*\{\s*("|\}\s*$)')
_LIST = re.compile(r"\s*\[\s*(\{|$)")


def is_json_list(first: str) -> bool:
    """Whether a first line begins a list of objects, whatever the file is called."""
    return _LIST.match(first) is not None


def guess_format(path: Path, head: Sequence[tuple[int, str]], columns: Sequence[str] | None) -> str:
    """ "jsonl", "json", "tsv" or "text", from the first lines of a file; `columns` are those that the caller named.

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
    return "text"
