"""CSV files of tagged texts: a token a row (Sentence #, Word, POS, Tag), or a text a row with all its tags."""

from collections.abc import Mapping, Sequence
from typing import Any

from qingformer.data.readers import Path, Row, read_rows
from qingformer.data.tagging_blocks import Block
from qingformer.data.tagging_texts import TaggedText
from qingformer.data.text_lines import bare_suffix, open_lines
from qingformer.errors import DataError

_TOKEN = ("word", "words", "token", "tokens", "text", "sentence", "char", "character", "characters", "content")
_RAW = ("text", "sentence", "content")
_TAG = ("tag", "tags", "label", "labels", "ner", "ner_tag", "ner_tags", "entity", "iob", "bio")
_TEXT = ("sentence #", "sentence_id", "sentence id", "sent_id", "sentence_idx", "sentence_number", "doc_id", "text_id")


def read_table(
    path: Path, *, labelled: bool, encoding: str, text_column: object = None, label_column: object = None
) -> list[Block]:
    """The blocks of a CSV file with a header line; the columns are found by their names, unless these are given."""
    rows = list(read_rows(path, "csv", encoding=encoding))
    if not rows:
        raise DataError(f"{path}: holds no texts; give at least one")
    names = [str(name) for name in rows[0].values]
    token = _column(path, names, _TOKEN, "tokens or texts", text_column, "text_column")
    tag = _column(path, names, _TAG, "tags", label_column, "label_column") if labelled else None
    text = next((name for name in names if name.strip().lower() in _TEXT and name not in (token, tag)), None)
    if text is None and any(len(str(row.values[token]).split()) > 1 for row in rows):
        return [_whole(path, row, token, tag) for row in rows]
    return _by_text(rows, token, tag, text)


def raw_texts(path: Path, encoding: str, format: str = "csv", text_column: object = None) -> list[TaggedText] | None:
    """The unlabelled texts of a CSV or TSV file that has one a row, else None, as where a column is called Word."""
    rows = list(read_rows(path, format, encoding=encoding))
    names = list(rows[0].values) if rows else []
    if text_column is None:
        name = next((name for name in names if str(name).strip().lower() in _RAW), None)
    else:
        is_whole = str(text_column).strip().lower() not in _TOKEN or str(text_column).strip().lower() in _RAW
        name = text_column if is_whole and text_column in names else None
    if name is None:
        return None
    return [
        TaggedText(
            str(row.values[name]), line=row.line, fields={key: row.values[key] for key in row.values if key != name}
        )
        for row in rows
    ]


def is_named_tsv(path: Path, encoding: str) -> bool:
    """Whether a file is a TSV file whose first line names a column of texts.

    Raises:
        DataError: a table without such a column, whose lines are no texts.
    """
    if bare_suffix(path) not in (".tsv", ".tab"):
        return False
    with open_lines(path, encoding) as lines:
        names = next((line.rstrip("\r\n").split("\t") for _, line in lines if line.strip()), [])
        others = [line.count("\t") for _, line in lines if line.strip()]
    if len(names) > 1 and any(name.strip().lower() in _RAW for name in names):
        return True
    if len(names) > 1 and others and set(others) == {len(names) - 1}:
        raise DataError(
            f"{path}: has {len(names)} columns with tabs between them, and none is named text; name that of the texts "
            "so in the first line, or pass format= text if each line is one text"
        )
    return False


def _column(path: Path, names: Sequence[str], known: Sequence[str], what: str, given: object, option: str) -> str:
    if given is not None and str(given) in names:
        return str(given)
    found = next((name for one in known for name in names if name.strip().lower() == one), None)
    if found is None or given is not None:
        raise DataError(
            f"{path}: no column of {what} among {', '.join(names)}; name it with {option}=, or write a token and its "
            "tag a line"
        )
    return found


def _whole(path: Path, row: Row, token: str, tag: str | None) -> Block:
    tokens = str(row.values[token]).split()
    tags = [] if tag is None else str(row.values[tag]).split()
    if tag is not None and len(tags) != len(tokens):
        raise DataError(f"{path}, line {row.line}: {len(tokens)} tokens and {len(tags)} tags; give each token one")
    return Block(tokens, [row.line] * len(tokens), tags)


def _by_text(rows: Sequence[Row], token: str, tag: str | None, text: str | None) -> list[Block]:
    """A text begins where its name changes or, without such a column, after a blank line."""
    blocks: list[Block] = []
    current, before = "", rows[0].line - 1
    for row in rows:
        values: Mapping[Any, Any] = row.values
        name = str(values[text]).strip() if text is not None else current
        # Without a column that numbers the texts, a line left out between two rows divides them.
        begins = bool(name) and name != current if text is not None else row.line > before + 1
        blank = not any(str(value).strip() for value in values.values())
        if not blocks or begins or (text is None and blank):
            current = name
            if not blocks or blocks[-1].tokens:
                blocks.append(Block())
        before = row.line
        if blank:
            continue
        blocks[-1].tokens.append(str(values[token]) or " ")
        blocks[-1].lines.append(row.line)
        if tag is not None:
            blocks[-1].tags.append(str(values[tag]).strip())
    return [block for block in blocks if block.tokens]
