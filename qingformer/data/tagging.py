"""Texts with labelled spans: named entities, slots, words; from any usual file or from Python, and back to files."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from qingformer.data.brat import broken_note, is_brat, read_brat, unmarked_note
from qingformer.data.readers import BlankLines, Path, read_rows
from qingformer.data.schemes import WORD, TagScheme
from qingformer.data.spans import Span
from qingformer.data.tables import rows_of
from qingformer.data.tagging_blocks import Block, texts_of
from qingformer.data.tagging_columns import read_columns
from qingformer.data.tagging_formats import FORMATS, first_lines, format_of
from qingformer.data.tagging_inline import form_of, read_inline
from qingformer.data.tagging_objects import collected
from qingformer.data.tagging_tables import is_named_tsv, raw_texts, read_table
from qingformer.data.tagging_texts import TaggedText, TaggedTexts, join_tokens, joiner_of
from qingformer.data.text_lines import check_file
from qingformer.errors import DataError
from qingformer.types import Config

__all__ = ["TaggedText", "TaggedTexts", "from_rows", "read_tagging", "to_brat", "to_columns", "to_json"]

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
    text_column: str | int | None = None,
    label_column: str | int | None = None,
    segmented: bool | None = None,
) -> TaggedTexts:
    """Read texts with labelled spans; `path` may end in .gz, .xz or .bz2, and "-" is standard input.

    Args:
        format: "bio" (a token a line, its tag in the last column, a blank line after each text; tab or spaces between
            the columns; tags B, I, O and M, E, S), "json" (objects with "text" and "entities", "spans" or "label", see
            below), "csv" (with a header line; a token a row), "words" (a text a line, spaces between the words, which
            become spans "word"), "brat" (a folder of .txt and .ann) or "text" (a text a line, unlabelled). If None it
            is found from the suffix and the first lines.
        labelled: whether every text must have spans; if False, those in the file are not looked at.
        joiner: what stands between the tokens of a text in "bio" and "words"; if None, nothing in Chinese and where
            most tokens are single characters, else a space.
        strict: whether an impossible row of tags is an error; if not, it is read as `tags_to_spans` does and noted.
        digits: whether each token ends in a segmentation digit that is no part of it (Weibo NER); if None, it does if
            all tokens of the file look so.
        encoding: of the file.
        text_column, label_column: of the tokens and of the tags, a number from 1 (from the end below 0) in "bio", a
            name in "csv". If None they are found: a column that numbers the tokens of each text is none of tokens.
        segmented: whether lines that are nothing else may be taken for "words" where `format` is None; if None, they
            are where the file is called .utf8 or the lines have very different numbers of words.

    Tags may be written B-PER, B_PER, PER-B or b-PER, with L and U in place of E and S, or within the line, 李/B-PER.
    JSON spans are {"start": 0, "end": 2, "label": "PER"} ("type" for "label" and the covered "text" are allowed) or
    [0, 2, "PER"], `end` exclusive; or, as in CLUENER, {"PER": {"surface": [[0, 1]]}} with the last character's place.
    The exports of doccano and Label Studio, tokens with tags, and W2NER's form are read too. Spans lose the white space
    and the invisible characters at their borders.

    Raises `DataError` naming file, line and remedy: whatever `read_rows` raises; a missing column; what is not a tag; a
    span outside its text or not covering what it says; an empty text; a text without labels where `labelled`.

    >>> import tempfile, pathlib
    >>> file = pathlib.Path(tempfile.mkdtemp(), "train.txt")
    >>> _ = file.write_text("在 O\\n北 B-LOC\\n京 I-LOC\\n", encoding="utf-8")
    >>> read_tagging(file).items[0].spans
    (Span(start=1, end=3, label='LOC'),)
    """
    chosen = _chosen_format(path, format, labelled, encoding, segmented)
    columns = {"text_column": text_column, "label_column": label_column}
    if chosen not in ("bio", "csv") and any(column is not None for column in columns.values()):
        raise DataError(f"{path}: text_column and label_column are for column and CSV files, not for {chosen}")
    reading: Config = {"labelled": labelled, "encoding": encoding}
    joining: Config = {"joiner": joiner, "strict": strict, "digits": digits}
    if chosen == "brat":
        return _read_brat(path, labelled, encoding)
    if chosen == "words":
        return _read_words(path, labelled, joiner, encoding)
    is_tsv = chosen == "text" and format is None and is_named_tsv(path, encoding)
    if (chosen == "csv" or is_tsv) and not labelled:
        raw = raw_texts(path, encoding, "tsv" if is_tsv else "csv", text_column)
        if raw is not None:
            return TaggedTexts(str(path), raw, [], None)
    if chosen in ("bio", "csv"):
        blocks, notes = _blocks(path, chosen, **reading, **columns)
        return texts_of(str(path), blocks, labelled=labelled, notes=notes, **joining)
    blanks = BlankLines()
    rows = read_rows(path, None if chosen == "auto" else chosen, encoding=encoding, blanks=blanks)
    found = collected(str(path), "line", ((r.values, r.line, r.line) for r in rows), labelled, **joining)
    if not found.items:
        raise DataError(f"{path}: holds no texts{' with annotations' * bool(found.notes)}; give at least one")
    return found if labelled else replace(found, notes=[*found.notes, *blanks.notes()], lines=blanks.lines)


def _chosen_format(path: Path, format: str | None, labelled: bool, encoding: str, segmented: bool | None) -> str:
    """The format that was asked for or, if None, the one that the file has; one of `FORMATS`, or "auto"."""
    chosen = "brat" if format is None and is_brat(path) else format
    if chosen != "brat":
        check_file(path)
    chosen = chosen or format_of(path, labelled, encoding, segmented)
    if chosen not in (*FORMATS, "auto"):
        raise DataError(f"{path}: format {chosen!r} is not known; choose one of {', '.join(FORMATS)}")
    if chosen == "text" and labelled:
        raise DataError(f'{path}: format="text" has no labels; pass labelled=False, or another format')
    return chosen


def from_rows(rows: Iterable[object], name: str = "rows", labelled: bool = True) -> TaggedTexts:
    """The same from Python: `TaggedText`, (text, [(start, end, label), ...]), a JSON object or, unlabelled, a text.

    Raises `DataError` naming `name` and item (from 1) as `read_tagging` does.

    >>> from_rows([("在北京", [(1, 3, "LOC")])]).items[0].spans
    (Span(start=1, end=3, label='LOC'),)
    """
    found = collected(name, "item", ((row, number, 0) for number, row in enumerate(rows_of(rows, name), 1)), labelled)
    if labelled and not found.items:
        raise DataError(f"{name}: holds no texts; give at least one")
    return found


def to_columns(
    text: str, spans: Iterable[Span], tokens: Sequence[tuple[int, int]] | None = None, scheme: str = "bio"
) -> list[str]:
    """Lines "token<tab>tag" of the tokens, by default of all characters but white space.

    Raises `DataError` for spans that overlap, cut a token or cover none.

    >>> to_columns("在北京", [Span(1, 3, "LOC")])
    ['在\\tO', '北\\tB-LOC', '京\\tI-LOC']
    """
    if tokens is None:
        # Without tokens of the file every character is one, as Chinese column files have it.
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


def to_json(text: str, spans: Iterable[Span]) -> Config:
    """The object that `read_tagging` reads from a JSONL line.

    >>> to_json("在北京", [Span(1, 3, "LOC")])
    {'text': '在北京', 'entities': [{'start': 1, 'end': 3, 'label': 'LOC', 'text': '北京'}]}
    """
    entities = [
        {"start": start, "end": end, "label": label, "text": text[start:end]} for start, end, label in sorted(spans)
    ]
    return {"text": text, "entities": entities}


def _blocks(path: Path, chosen: str, **options: Any) -> tuple[Sequence[Block], tuple[str, ...]]:
    if chosen == "csv":
        return read_table(path, **options), ()
    if options["text_column"] is None and options["label_column"] is None:
        form = form_of(first_lines(path, options["encoding"])) if str(path) != "-" else None
        if form is not None:
            return read_inline(path, form, labelled=options["labelled"], encoding=options["encoding"]), ()
    return read_columns(path, **options)


def _read_words(path: Path, labelled: bool, joiner: str | None, encoding: str) -> TaggedTexts:
    blanks = BlankLines()
    read = read_rows(path, "text", encoding=encoding, blanks=blanks)
    rows = [(row.line, row.values["text"].split()) for row in read]
    if joiner is None:
        joiner = joiner_of(word for _, words in rows for word in words)
    items: list[TaggedText] = []
    for line, words in rows:
        text, places = join_tokens(words, joiner)
        spans = tuple(Span(start, end, WORD) for start, end in places) if labelled else None
        items.append(TaggedText(text, spans, line, places))
    if labelled:
        return TaggedTexts(str(path), items, [], "bmes")
    return TaggedTexts(str(path), items, blanks.notes(), None, blanks.lines)


def _read_brat(path: Path, labelled: bool, encoding: str) -> TaggedTexts:
    documents = read_brat(path, labelled, encoding)
    items = [
        TaggedText(each.text, tuple(sorted(set(each.spans.values()))) if labelled else None, source=each.source)
        for each in documents
    ]
    notes = [*broken_note(documents), *(unmarked_note(path) if labelled else ())]
    return TaggedTexts(str(path), items, notes, None)


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
