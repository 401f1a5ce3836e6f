"""Folders of brat's standoff files: a text in NAME.txt, what is marked in it in NAME.ann."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path as FilePath

from qingformer.data.readers import Path
from qingformer.data.spans import Span, trimmed
from qingformer.data.tagging_json import check_label, same_text, shown
from qingformer.data.text_lines import open_lines
from qingformer.errors import DataError

# "T1<tab>PER 0 2<tab>text", or "0 2;5 7" for a span in pieces; nine digits are more than any file has.
_MARK = re.compile(r"(T\S*)\s+(\S+)\s+(\d{1,9} \d{1,9}(?:;\d{1,9} \d{1,9})*)(?:\t(.*))?")
_LINK = re.compile(r"(R\S*)\s+(\S+)\s+\S+?:(T\S+)\s+\S+?:(T\S+)\s*")
# Events, attributes, normalisations, comments and equivalences: nothing that a task here learns from.
_OTHERS = ("E", "A", "M", "N", "#", "*")


@dataclass
class Document:
    """A text, its spans by their names (T1), its relations by the names of two spans, and spans with gaps."""

    source: str
    text: str
    spans: dict[str, Span] = field(default_factory=dict)
    links: list[tuple[str, str, str, int]] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)


def is_brat(path: Path) -> bool:
    """Whether a path is a folder or an annotation file."""
    return (str(path) != "" and FilePath(path).is_dir()) or str(path).lower().endswith(".ann")


def read_brat(path: Path, labelled: bool, encoding: str) -> list[Document]:
    """The documents of a folder (with the folders in it), or that of one `.ann` file.

    Raises `DataError` for a folder without such files, an annotation file without its text, and what does not fit.
    """
    root = FilePath(path)
    if root.is_dir():
        ending = "*.ann" if labelled else "*.txt"
        files = sorted(root.rglob(ending))
        if not files:
            raise DataError(f"{path}: is a folder without {ending} files of brat; name the data file in it")
    else:
        files = [root]
    found = [_document(file, labelled, encoding) for file in files]
    kept = [document for document in found if document.text.strip()]
    if not kept:
        raise DataError(f"{path}: holds no texts; give at least one")
    return kept


def _document(file: FilePath, labelled: bool, encoding: str) -> Document:
    text_file = file.with_suffix(".txt")
    if not text_file.is_file():
        raise DataError(f"{file}: the text that it marks is not beside it; put {text_file.name} into the same folder")
    with open_lines(text_file, encoding) as lines:
        text = "".join(line for _, line in lines)
    if not labelled:
        return Document(str(text_file), text)
    with open_lines(file, encoding) as lines:
        marks = [(number, line.rstrip("\r\n")) for number, line in lines if line.strip()]
    try:
        return _marked(file, text, marks)
    except DataError:
        if "\r\n" not in text:
            raise
        return _marked(file, text.replace("\r\n", "\n"), marks)  # counted by an editor that hides the line ends


def _marked(file: FilePath, text: str, marks: list[tuple[int, str]]) -> Document:
    document = Document(str(file), text)
    for number, line in marks:
        where = f"{file}, line {number}"
        mark, link = _MARK.fullmatch(line), _LINK.fullmatch(line)
        if mark is not None:
            pieces = [tuple(map(int, piece.split(" "))) for piece in mark[3].split(";")]
            # brat cuts a span at the end of a line: pieces with nothing but white space between them are one.
            if any(text[end:start].strip() or end > start for (_, end), (start, _) in pairwise(pieces)):
                document.broken.append(where)
            elif mark[1] in document.spans:
                raise DataError(f"{where}: {mark[1]} occurs twice; give every span a name of its own")
            else:  # in one piece, or cut at the ends of lines
                document.spans[mark[1]] = _span(where, text, pieces[0][0], pieces[-1][1], mark[2], mark[4])
        elif link is not None:
            document.links.append((link[2], link[3], link[4], number))
        elif not line.startswith(_OTHERS):
            raise DataError(f"{where}: {shown(line)} is not a line of brat, such as T1<tab>PER 0 2<tab>text")
    return document


def _span(where: str, text: str, start: int, end: int, label: str, surface: str | None) -> Span:
    entity = f"{label} {start} {end}"
    if not 0 <= start < end <= len(text):
        raise DataError(f"{where}: {entity} is empty or not inside the text, which has {len(text)} characters")
    if surface is not None and not same_text(surface, text[start:end]):
        raise DataError(f"{where}: {entity} should be {shown(surface)}, but the text there is {shown(text[start:end])}")
    # Annotators drag over a blank too much; tokens never cover it, so such a span could not be learnt.
    start, end = trimmed(text, start, end)
    if start == end:
        raise DataError(f"{where}: {entity} covers nothing but white space; remove it")
    return Span(start, end, check_label(where, label, entity))


def unmarked_note(path: Path) -> Iterator[str]:
    """A note on texts without an annotation file, if there are some in a folder."""
    root = FilePath(path)
    alone = [each for each in sorted(root.rglob("*.txt")) if not each.with_suffix(".ann").is_file()]
    if root.is_dir() and alone:
        yield f"{len(alone)} texts without an annotation file were left out (first: {alone[0]})"


def broken_note(documents: list[Document]) -> Iterator[str]:
    """A note on spans with gaps, if there are some."""
    broken = [where for document in documents for where in document.broken]
    if broken:
        yield f"{len(broken)} spans with gaps were left out (first: {broken[0]})"
