"""Texts a line with their tags in the same line: 李/B-PER 雷/I-PER, or all tokens, a tab, and all tags."""

import re
from collections.abc import Sequence

from qingformer.data.readers import Path
from qingformer.data.tag_notation import tag_share
from qingformer.data.tagging_blocks import Block
from qingformer.data.text_lines import open_lines
from qingformer.errors import DataError

_SEPARATORS = "/|_#^\\"
_ROWS = "rows"
_BETWEEN = re.compile(r"[ \x02]+")
_SPEECH = re.compile(r"\S+[/_](?:[a-z]{1,4}|[A-Z]{1,4}[0-9]?)(?:\][a-z]+)?")


def form_of(lines: Sequence[str]) -> str | None:
    """How tags stand in the lines: the separator between token and tag, "rows" for tokens, tab, tags, or None.

    >>> form_of(["李/B-PER 雷/I-PER 住/O"]), form_of(["李 雷 住\\tB-PER I-PER O"]), form_of(["李 B-PER"])
    ('/', 'rows', None)
    """
    rows = [_row(line) for line in lines]
    if any(row and len(row[0]) > 1 for row in rows) and sum(row is not None for row in rows) > len(rows) / 2:
        tags = [tag for row in rows if row for tag in row[1]]
        if tag_share(tags) > 0.5:
            return _ROWS
    chunks = [chunk for line in lines for chunk in line.split()]
    for separator in _SEPARATORS:
        parts = [chunk.rpartition(separator) for chunk in chunks]
        whole = [tag for token, _, tag in parts if token]
        if chunks and len(whole) > len(chunks) / 2 and tag_share(whole) > 0.9 and set(whole) - {"O", "o"}:
            return separator
    return None


def _row(line: str) -> tuple[list[str], list[str]] | None:
    fields = line.strip().split("\t")
    if len(fields) != 2:
        return None
    tokens, tags = (_BETWEEN.split(field.strip(" \x02")) for field in fields)
    return (tokens, tags) if len(tokens) == len(tags) else None


def word_with_speech(lines: Sequence[str]) -> str | None:
    """The first word of lines whose words carry parts of speech (迈向/v), else None."""
    chunks = [chunk for line in lines for chunk in line.split()]
    found = [chunk for chunk in chunks if _SPEECH.fullmatch(chunk)]
    return found[0] if len(found) > len(chunks) / 2 else None


def read_inline(path: Path, form: str, *, labelled: bool, encoding: str) -> list[Block]:
    """The blocks of a file whose lines are of the `form`: a text a line, or a token a line where all are so short."""
    blocks: list[Block] = []
    after_blank: list[bool] = []
    blank = True
    with open_lines(path, encoding) as lines:
        for number, line in lines:
            if not line.strip():
                blank = True
                continue
            row = _row(line) if form == _ROWS else _parts(path, number, line, form)
            if row is None:
                raise DataError(f"{path}, line {number}: expected tokens, a tab and as many tags; correct the line")
            tokens, tags = row
            blocks.append(Block(tokens, [number] * len(tokens), tags if labelled else []))
            after_blank.append(blank)
            blank = False
    if len(blocks) > 1 and all(len(block.tokens) == 1 for block in blocks):
        return _joined(blocks, after_blank)
    return blocks


def _joined(blocks: list[Block], after_blank: list[bool]) -> list[Block]:
    """Blocks of one token each as texts: one begins after each blank line."""
    texts: list[Block] = []
    for block, begins in zip(blocks, after_blank):
        if begins:
            texts.append(Block())
        texts[-1].tokens += block.tokens
        texts[-1].lines += block.lines
        texts[-1].tags += block.tags
    return texts


def _parts(path: Path, number: int, line: str, separator: str) -> tuple[list[str], list[str]]:
    parts = [chunk.rpartition(separator) for chunk in line.split()]
    for token, _, tag in parts:
        if not token:
            raise DataError(
                f"{path}, line {number}: expected token{separator}tag, found {tag[:60]!r}; correct the line"
            )
    return [token for token, _, _ in parts], [tag for _, _, tag in parts]
