"""Texts with labelled spans: named entities, slots, words; from any usual file or from Python, and back to files."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

from qingformer.data.readers import Path, read_rows
from qingformer.data.schemes import WORD, TagScheme, split_tag
from qingformer.data.sources import bare_suffix, check_file, open_lines
from qingformer.data.spans import Span
from qingformer.data.tagging_columns import columns_of, read_columns
from qingformer.data.tagging_json import LABEL_FIELDS, checked_spans, tagged_of
from qingformer.data.tagging_texts import TaggedText, TaggedTexts, join_tokens, joiner_of
from qingformer.errors import DataError

__all__ = ["TaggedText", "TaggedTexts", "from_rows", "read_tagging", "to_brat", "to_columns", "to_json"]

FORMATS = ("bio", "json", "words", "text")
_SUFFIXES = {".json": "json", ".jsonl": "json", ".ndjson": "json", ".conll": "bio", ".bio": "bio", ".bioes": "bio"}
_LOOKED_AT = 200
_ONE_LINE = str.maketrans("\t\r\n", "   ")


def read_tagging(
    path: Path,
    format: str | None = None,
    *,
    labelled: bool = True,
    joiner: str | None = None,
    strict: bool = False,
    digits: bool | None = None,
    encoding: str = "utf-8",
) -> TaggedTexts:
    """Read texts with labelled spans; `path` may end in .gz, .xz or .bz2, and "-" is standard input.

    Args:
        format: "bio" (a token a line, its tag in the last column, a blank line after each text; tab or spaces between
            the columns; tags B, I, O and M, E, S), "json" (objects with "text" and "entities", "spans" or "label", see
            below), "words" (a text a line, spaces between the words, which become spans "word") or "text" (a text a
            line, unlabelled). If None it is found from the suffix and the first lines.
        labelled: whether every text must have spans; if False, those in the file are not looked at.
        joiner: what stands between the tokens of a text in "bio" and "words"; if None, nothing in Chinese and where
            most tokens are single characters, else a space.
        strict: whether an impossible row of tags is an error; if not, it is read as `tags_to_spans` does and noted.
        digits: whether each token ends in a segmentation digit that is no part of it (Weibo NER); if None, it does if
            all tokens of the file look so.
        encoding: of the file.

    JSON spans are {"start": 0, "end": 2, "label": "PER"} ("type" for "label" and the covered "text" are allowed) or
    [0, 2, "PER"], `end` exclusive; or, as in CLUENER, {"PER": {"surface": [[0, 1]]}} with the last character's place.

    Raises `DataError` naming file, line and remedy: whatever `read_rows` raises; a missing column; what is no tag; a
    span outside its text or not covering what it says; an empty text; a text without labels where `labelled`.

    >>> import tempfile, pathlib
    >>> file = pathlib.Path(tempfile.mkdtemp(), "train.txt")
    >>> _ = file.write_text("在 O\\n北 B-LOC\\n京 I-LOC\\n", encoding="utf-8")
    >>> read_tagging(file).items[0].spans
    (Span(start=1, end=3, label='LOC'),)
    """
    check_file(path)
    chosen = format or _format_of(path, labelled, encoding)
    if chosen not in (*FORMATS, "auto"):
        raise DataError(f"{path}: format {chosen!r} is not known; choose one of {', '.join(FORMATS)}")
    if chosen == "text" and labelled:
        raise DataError(f'{path}: format="text" has no labels; pass labelled=False, or another format')
    if chosen == "bio":
        return read_columns(path, labelled=labelled, joiner=joiner, strict=strict, digits=digits, encoding=encoding)
    if chosen == "words":
        return _read_words(path, labelled, joiner, encoding)
    rows = read_rows(path, None if chosen == "auto" else chosen, encoding=encoding)
    items = [replace(tagged_of(f"{path}, line {row.line}", row.values, labelled), line=row.line) for row in rows]
    if not items:
        raise DataError(f"{path}: holds no texts; give at least one")
    return TaggedTexts(str(path), items, [], None)


def from_rows(rows: Iterable[Any], name: str = "rows", labelled: bool = True) -> TaggedTexts:
    """The same from Python: `TaggedText`, (text, [(start, end, label), ...]), a JSON object or, unlabelled, a text.

    Raises `DataError` naming `name` and item (from 1) as `read_tagging` does.

    >>> from_rows([("在北京", [(1, 3, "LOC")])]).items[0].spans
    (Span(start=1, end=3, label='LOC'),)
    """
    if isinstance(rows, str):
        raise DataError(f"{name}: expected a list of texts, found one text; write [text]")
    items = [_item(f"{name}, item {number}", row, labelled) for number, row in enumerate(rows, 1)]
    if labelled and not items:
        raise DataError(f"{name}: holds no texts; give at least one")
    return TaggedTexts(name, items, [], None)


def to_columns(
    text: str, spans: Iterable[Span], tokens: Sequence[tuple[int, int]] | None = None, scheme: str = "bio"
) -> list[str]:
    """Lines "token<tab>tag" of the tokens, by default of all characters but white space.

    Raises `DataError` for spans that overlap, cut a token or cover none.

    >>> to_columns("在北京", [Span(1, 3, "LOC")])
    ['在\\tO', '北\\tB-LOC', '京\\tI-LOC']
    """
    if tokens is None:
        tokens = [(place, place + 1) for place, character in enumerate(text) if not character.isspace()]
    placed = [_token_span(text, Span(*span), tokens) for span in spans]
    names = sorted({span.label for span in placed})
    tags = ["O"] * len(tokens)
    if names:
        numbering = TagScheme(scheme, names)
        tags = [numbering.tags[number] for number in numbering.encode(placed, len(tokens))]
    return [f"{text[start:end].translate(_ONE_LINE)}\t{tag}" for (start, end), tag in zip(tokens, tags)]


def to_brat(text: str, spans: Iterable[Span]) -> str:
    """The spans as a brat annotation file: lines "T1<tab>label start end<tab>covered text".

    >>> to_brat("在北京", [Span(1, 3, "LOC")])
    'T1\\tLOC 1 3\\t北京\\n'
    """
    lines = [
        f"T{number}\t{label} {start} {end}\t{text[start:end].translate(_ONE_LINE)}\n"
        for number, (start, end, label) in enumerate(sorted(spans), 1)
    ]
    return "".join(lines)


def to_json(text: str, spans: Iterable[Span]) -> dict[str, Any]:
    """The object that `read_tagging` reads from a JSONL line.

    >>> to_json("在北京", [Span(1, 3, "LOC")])
    {'text': '在北京', 'entities': [{'start': 1, 'end': 3, 'label': 'LOC', 'text': '北京'}]}
    """
    entities = [
        {"start": start, "end": end, "label": label, "text": text[start:end]} for start, end, label in sorted(spans)
    ]
    return {"text": text, "entities": entities}


def _format_of(path: Path, labelled: bool, encoding: str) -> str:
    suffix = bare_suffix(path)
    if suffix in _SUFFIXES:
        return _SUFFIXES[suffix]
    if str(path) == "-":
        if labelled:
            raise DataError(f"-: the format of standard input is not guessed; pass format= one of {', '.join(FORMATS)}")
        return "auto"
    with open_lines(path, encoding) as lines:
        first = list(islice((line for _, line in lines if line.strip()), _LOOKED_AT))
    if not first:
        raise DataError(f"{path}: is empty; give a file with at least one text")
    begin = first[0].strip()
    if begin.startswith(("{", "[{")) or begin == "[":
        return "json"
    if _is_tagged(first):
        return "bio"
    if labelled and not any(len(line.split()) > 1 for line in first):
        raise DataError(
            f"{path}: no labels found: neither JSON objects, nor lines of token and tag, nor words between spaces; "
            f"pass format= one of {', '.join(FORMATS)}, or labelled=False"
        )
    return "words" if labelled else "text"


def _is_tagged(lines: Sequence[str]) -> bool:
    """Whether most lines end in a tag; a reader of columns then names the few that do not."""
    columns = [columns_of(line) for line in lines if not line.startswith("-DOCSTART-")]
    tagged = sum(len(fields) > 1 and split_tag(fields[-1]) is not None for fields in columns)
    return tagged > len(columns) / 2


def _read_words(path: Path, labelled: bool, joiner: str | None, encoding: str) -> TaggedTexts:
    rows = [(row.line, row.values["text"].split()) for row in read_rows(path, "text", encoding=encoding)]
    if joiner is None:
        joiner = joiner_of(word for _, words in rows for word in words)
    items: list[TaggedText] = []
    for line, words in rows:
        text, places = join_tokens(words, joiner)
        spans = tuple(Span(start, end, WORD) for start, end in places) if labelled else None
        items.append(TaggedText(text, spans, line, places))
    return TaggedTexts(str(path), items, [], "bmes" if labelled else None)


def _item(where: str, row: Any, labelled: bool) -> TaggedText:
    if isinstance(row, TaggedText):
        if labelled and row.spans is None:
            raise DataError(f"{where}: is not labelled; give its spans, or pass labelled=False")
        spans = checked_spans(where, row.text, row.spans) if labelled else None
        return replace(row, spans=spans)
    if isinstance(row, str):
        row = {"text": row}
    elif isinstance(row, tuple | list) and len(row) == 2:
        row = {"text": row[0], "spans": row[1]}
    if not isinstance(row, dict):
        raise DataError(
            f"{where}: expected (text, [(start, end, label), ...]), an object with text and "
            f"{' or '.join(LABEL_FIELDS)}, or a text without labels; found {type(row).__name__}"
        )
    return tagged_of(where, row, labelled)


def _token_span(text: str, span: Span, tokens: Sequence[tuple[int, int]]) -> Span:
    first = bisect_right(tokens, span.start, key=lambda place: place[1])
    last = bisect_left(tokens, span.end, key=lambda place: place[0]) - 1
    if first > last:
        raise DataError(f"span {tuple(span)}, {text[span.start : span.end]!r}, covers no token")
    if tokens[first][0] < span.start or tokens[last][1] > span.end:
        raise DataError(
            f"span {tuple(span)}, {text[span.start : span.end]!r}, cuts a token; a column file cannot say that, "
            "write JSON, or give other tokens"
        )
    return Span(first, last + 1, span.label)
