"""Which columns of a column file hold the tokens and the tags."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from qingformer.data.cells import strip
from qingformer.data.readers import Path
from qingformer.data.tag_notation import tag_share, why_no_tag
from qingformer.errors import DataError

_HEADER = frozenset(
    "token tokens word words text char character tag tags label labels ner ner_tag ner_tags entity iob bio pos chunk "
    "lemma id index".split()
)
# CoNLL 2000 and 2003 have a column of phrases, tagged B-NP, beside that of the entities.
_CHUNKS = frozenset("NP VP PP ADJP ADVP SBAR PRT CONJP INTJ LST UCP".split())
_WIDE_SPACE = re.compile("(?<=[^\u00a0\u2000-\u200a\u3000])[\u00a0\u2000-\u200a\u3000]+(?=[A-Za-z])")
_LETTERS = frozenset("BIESMLUWO")
_OUTSIDE = frozenset(("O", "", "_", "-"))
_NUMBER = re.compile(r"\d{1,9}")
NO_WORD = re.compile(r"\d+-\d+|\d+\.\d+")  # CoNLL-U: a range of words in one, and what was left unsaid
_NAMED = re.compile(r"(?:^|\|)(?:NER|ner|name|entity|tag)=([^|]+)")

TOKEN_ALONE = (
    "expected a token and its tag, found only '{}'; write both with a tab between them, and leave a line blank after "
    "each text"
)
MOST = 0.5

Line = tuple[int, list[str]]


@dataclass(frozen=True)
class Layout:
    """Which column holds the token and which the tag, counted from 0; `tag` is -1 for the last, None without labels."""

    token: int
    tag: int | None
    kind: int | None = None  # where the tag is a letter alone, the column of its label
    is_named: bool = False  # the tag stands among other things, as in "NER=B-PER|SpaceAfter=No"
    notes: tuple[str, ...] = ()


def columns_of(line: str) -> list[str]:
    """The fields of a line: between tabs if it has any, else between spaces; white space at the start is a token.

    >>> columns_of("中 NN B-LOC"), columns_of("\\tO"), columns_of("  O")
    (['中', 'NN', 'B-LOC'], [' ', 'O'], [' ', 'O'])
    """
    bare = line.rstrip()
    if "\t" in bare:
        first, *others = bare.split("\t")
        return [first.rstrip(" ") or first or " ", *map(strip, others)]
    fields = bare.split(" ") if " " in bare else _WIDE_SPACE.split(bare)
    fields[1:] = map(strip, fields[1:])
    if "" in fields:
        fields = [part for part in fields if part]
    return [line[0], *fields] if len(fields) == 1 and line[0].isspace() else fields


def tag_in(cell: str) -> str:
    """The tag that a cell holds among other things; O if there is none."""
    named = _NAMED.search(cell)
    return named[1] if named else "O"


def has_named(cell: str) -> bool:
    """Whether a cell holds a tag among other things, as in "NER=B-PER|SpaceAfter=No"."""
    return _NAMED.search(cell) is not None


def layout_of(
    path: Path, texts: list[list[Line]], labelled: bool, text_column: object = None, label_column: object = None
) -> Layout:
    """Find the columns of token and tag, unless they are given, counted from 1 or, below 0, from the end."""
    lines = [fields for text in texts for _, fields in text]
    # The usual number of columns: a token that is a blank, or a comment, changes it in single lines.
    width = Counter(map(len, lines)).most_common(1)[0][0] if lines else 0
    tag, is_named = _tag_column(lines, width)
    notes = []
    divided = divided_tags(lines) if labelled and label_column is None else None
    if divided is not None:
        tag, is_named = divided[0], False
        notes.append(f"{path}: tags were joined from columns {divided[0] + 1} and {divided[1] + 1}")
    if label_column is not None:
        tag, is_named = _given(label_column, "label_column"), False
    elif divided is None and tag not in (None, -1):
        notes.append(f"{path}: tags were read from column {(tag or 0) + 1} of {width} (label_column= names another)")
    if labelled and tag is None and lines:
        _refuse(path, *texts[0][0])
    if len(lines) > 1 and tag is not None and all(field.lower() in _HEADER for field in lines[0]):
        del texts[0][0]
    token = _given(text_column, "text_column") if text_column is not None else _token_column(path, texts, width, tag)
    if text_column is None and token > 0:
        notes.append(f"{path}: column {token + 1} was read as the tokens (text_column= names another)")
        if labelled and label_column is None:
            notes += _several(path, lines, width, tag)
    if divided is not None and token in divided:
        divided = None
    kind = None if divided is None else divided[1]
    return Layout(token, tag if labelled else None, kind, is_named, tuple(notes))


def divided_tags(lines: Sequence[list[str]]) -> tuple[int, int] | None:
    """The columns of the letter and of the label where a tag is divided into two, as in "李 PER B" or "李 B PER".

    Both say O, or nothing, in the same lines, and one of them holds single letters alone.

    >>> divided_tags([["李", "PER", "B"], ["雷", "PER", "I"], ["住", "O", "O"]])
    (2, 1)
    """
    width = Counter(map(len, lines)).most_common(1)[0][0] if lines else 0
    # In lines of another width a column is not the column of that number.
    alike = [fields for fields in lines if len(fields) == width]
    for letter in range(width - 1, 0, -1):
        cells = {fields[letter] for fields in alike}
        if "B" not in cells or not cells & _OUTSIDE or not cells <= _LETTERS | _OUTSIDE:
            continue
        for kind in (letter - 1, letter + 1):
            names = {fields[kind] for fields in alike if 0 < kind < width}
            if names - _LETTERS - _OUTSIDE and all(_fit(fields[letter], fields[kind]) for fields in alike):
                return letter, kind
    return None


def _fit(letter: str, label: str) -> bool:
    return (letter in _OUTSIDE) == (label in _OUTSIDE)


def _given(column: Any, name: str) -> int:
    try:
        number = int(column)
    except (TypeError, ValueError):
        number = 0
    if not number:
        raise DataError(
            f"{name}={column!r}: the columns of this file have no names; give a number from 1, or -1 for the last"
        )
    return number - 1 if number > 0 else number


def _tag_column(lines: Sequence[list[str]], width: int) -> tuple[int | None, bool]:
    """The column that holds tags, -1 for the last, and whether they stand among other things in it."""
    last = [fields[-1] for fields in lines if len(fields) > 1]
    if width < 2 or not last:
        return None, False
    # The last column first, as nearly all files have it.
    if tag_share(last) > MOST:
        return -1, False
    if sum(map(has_named, last)) > len(last) * MOST:
        return -1, True
    alike = [fields for fields in lines if len(fields) == width]
    for place in range(width - 2, -1, -1):
        if tag_share(fields[place] for fields in alike) > MOST:
            return place, False
    return None, False


def _several(path: Path, lines: Sequence[list[str]], width: int, tag: int | None) -> list[str]:
    """Say which of several columns of tags was read (GermEval has outer and inner names)."""
    alike = [fields for fields in lines if len(fields) == width]
    chosen = width - 1 if tag in (None, -1) else tag
    notes = []
    for place in range(1, width):
        cells = {fields[place] for fields in alike}
        is_chunk = {cell[2:] for cell in cells} - {""} <= _CHUNKS
        if place != chosen and not is_chunk and tag_share(fields[place] for fields in alike) > MOST:
            notes.append(
                f"{path}: columns {place + 1} and {(chosen or 0) + 1} both hold tags; the latter was read "
                f"(label_column={place + 1} reads the other)"
            )
    return notes


def _token_column(path: Path, texts: Sequence[Sequence[Line]], width: int, tag: int | None) -> int:
    """The first column, or the one after those that number lines or texts."""
    tag = width - 1 if tag == -1 else tag
    place = 0
    while place < width - 1 and place != tag:
        cells = [[fields[place] for _, fields in text if len(fields) > place] for text in texts]
        if not _numbers(cells, width - place > 2):
            break
        place += 1
    if place == tag and place + 1 < width:
        return place + 1  # the tag stands before the token
    if place == tag and place:
        raise DataError(f"{path}: column {place} numbers the lines, and no column is left for the tokens; add them")
    if width > 2 and place == 0 and all(_NUMBER.fullmatch(fields[0]) for text in texts for _, fields in text):
        raise DataError(f"{path}: column 1 holds nothing but numbers; name the column of the tokens with text_column=")
    return place


def _numbers(columns: Sequence[Sequence[str]], may_name: bool) -> bool:
    """Whether the cells count the tokens of each text or of the file from 0 or 1, or name the text they stand in."""
    rows = [[cell for cell in cells if not NO_WORD.fullmatch(cell)] for cells in columns]
    if max(map(len, rows), default=0) < 2:
        return False
    if may_name and all(len(set(cells)) <= 1 for cells in rows):
        return len({cells[0] for cells in rows if cells}) == len(rows) > 1
    if not all(_NUMBER.fullmatch(cell) for cells in rows for cell in cells):
        return False
    numbers = [[int(cell) for cell in cells] for cells in rows if cells]
    # A column that counts from 0 or 1 numbers the tokens; years and prices do not count.
    return numbers[0][0] in (0, 1) and all(b == a + 1 for cells in numbers for a, b in pairwise(cells))


def _refuse(path: Path, number: int, fields: list[str]) -> None:
    if len(fields) < 2:
        raise DataError(f"{path}, line {number}: {TOKEN_ALONE.format(fields[0][:60])}")
    raise DataError(f"{path}, line {number}: no column holds tags; {why_no_tag(fields[-1])}")
