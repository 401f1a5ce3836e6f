"""Column files: a token and its tag a line among other columns, a blank line after each text."""

from collections import Counter

from qingformer.data.cells import clean_name, strip
from qingformer.data.column_layout import NO_WORD, TOKEN_ALONE, Layout, Line, columns_of, layout_of, tag_in
from qingformer.data.readers import Path
from qingformer.data.tag_notation import tag_share
from qingformer.data.tagging_blocks import Block
from qingformer.data.text_lines import open_lines
from qingformer.errors import DataError


def read_columns(
    path: Path, *, labelled: bool, encoding: str, text_column: object = None, label_column: object = None
) -> tuple[list[Block], tuple[str, ...]]:
    """The blocks of a column file, and notes; see `read_tagging`."""
    texts = _without_comments(_texts(path, encoding))
    layout = layout_of(path, texts, labelled, text_column, label_column)
    pool: dict[str, str] = {}
    blocks = []
    for text in texts:
        block = Block()
        for number, fields in text:
            if layout.token != 0 and NO_WORD.fullmatch(fields[0]):
                continue
            token = _cell(path, number, fields, layout.token)
            block.tokens.append(pool.setdefault(token, token))
            block.lines.append(number)
            if layout.tag is not None:
                tag = _tag(path, number, fields, layout)
                block.tags.append(pool.setdefault(tag, tag))
        if block.tokens:
            blocks.append(block)
    if not blocks:
        raise DataError(f"{path}: holds no texts; give lines of a token and its tag")
    return blocks, layout.notes


def _texts(path: Path, encoding: str) -> list[list[Line]]:
    texts: list[list[Line]] = [[]]
    with open_lines(path, encoding) as lines:
        for number, line in lines:
            if not strip(line) or line.startswith("-DOCSTART-"):
                if texts[-1]:
                    texts.append([])
            else:
                texts[-1].append((number, columns_of(line)))
    return texts if texts[-1] else texts[:-1]


def _without_comments(texts: list[list[Line]]) -> list[list[Line]]:
    """The texts without lines of comment, which begin with #.

    A token may begin with # too: its line has as many columns as the others, with a tag or a cell that occurs
    there elsewhere.
    """
    others = [fields for text in texts for _, fields in text if not fields[0].startswith("#")]
    if not others:
        return texts
    width = Counter(map(len, others)).most_common(1)[0][0]
    known = [{fields[place] for fields in others if len(fields) == width} for place in range(width)]
    kept = []
    for text in texts:
        lines: list[Line] = []
        for number, fields in text:
            if fields[0].startswith("#") and fields != ["#"]:
                alike = width == 1 or any(
                    cell in cells or (len(cell) > 2 and tag_share([cell]) == 1)
                    for cell, cells in zip(fields[1:], known[1:])
                )
                if len(fields) != width or not (lines or alike):
                    continue
            lines.append((number, fields))
        if lines:
            kept.append(lines)
    return kept


def _cell(path: Path, number: int, fields: list[str], place: int) -> str:
    if not -len(fields) <= place < len(fields):
        raise DataError(f"{path}, line {number}: {len(fields)} columns; expected one more, for column {place + 1}")
    return fields[place] or " "


def _tag(path: Path, number: int, fields: list[str], layout: Layout) -> str:
    if len(fields) < 2 or layout.tag is None:
        raise DataError(f"{path}, line {number}: {TOKEN_ALONE.format(fields[0][:60])}")
    cell = clean_name(_cell(path, number, fields, layout.tag))
    if layout.kind is not None:
        label = clean_name(_cell(path, number, fields, layout.kind))
        return "O" if cell in ("O", "_", "-", "") else f"{cell}-{label}"
    return tag_in(cell) if layout.is_named else cell
