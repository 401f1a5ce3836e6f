"""Text tables whose columns stay straight with Chinese names in them."""

import unicodedata
from collections.abc import Sequence


def display_width(text: str) -> int:
    """Number of terminal cells that `text` takes: 2 for wide characters, 0 for combining ones.

    >>> display_width("天气 ok")
    7
    """
    return sum(0 if unicodedata.combining(char) else 1 + (unicodedata.east_asian_width(char) in "WF") for char in text)


def align(rows: Sequence[Sequence[str]]) -> str:
    """The rows as lines, first column flush left, the others flush right.

    >>> print(align([["", "F1"], ["天气", "0.5"]]))
           F1
    天气  0.5
    """
    widths = [max(display_width(cell) for cell in column) for column in zip(*rows)]
    lines = []
    for first, *others in rows:
        cells = [first + " " * (widths[0] - display_width(first))]
        cells += [" " * (width - display_width(cell)) + cell for cell, width in zip(others, widths[1:])]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
