"""Column files: a token and its tag a line, a blank line after each text."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from qingformer.data.readers import Path
from qingformer.data.schemes import Parts, may_follow, scheme_of, split_tag, tags_to_spans
from qingformer.data.sources import open_lines
from qingformer.data.spans import Span
from qingformer.data.tagging_texts import TaggedText, TaggedTexts, join_tokens, joiner_of
from qingformer.errors import DataError

_DIGITS = frozenset("0123456789")
_OUTSIDE = ("O", "")


@dataclass(slots=True)
class _Block:
    """The lines of one text; token i stands on line `line` + i."""

    line: int
    tokens: list[str] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)


def columns_of(line: str) -> list[str]:
    """The fields of a line: between tabs if it has any, else between spaces; white space at the start is a token.

    >>> columns_of("中 NN B-LOC"), columns_of("\\tO"), columns_of("  O")
    (['中', 'NN', 'B-LOC'], [' ', 'O'], [' ', 'O'])
    """
    bare = line.rstrip()
    if "\t" in bare:
        first, *others = bare.split("\t")
        return [first or " ", *(other.strip() for other in others)]
    fields = bare.split(" ")
    if "" in fields:
        fields = [part for part in fields if part]
    return [line[0], *fields] if len(fields) == 1 and line[0].isspace() else fields


def read_columns(
    path: Path, *, labelled: bool, joiner: str | None, strict: bool, digits: bool | None, encoding: str
) -> TaggedTexts:
    """Read a column file; see `read_tagging`."""
    blocks = list(_blocks(path, labelled, encoding))
    if not blocks:
        raise DataError(f"{path}: holds no texts; give lines of a token and its tag")
    notes: list[str] = []
    if digits or (digits is None and _have_digits(blocks)):
        _strip_digits(path, blocks)
        if digits is None:
            notes.append(
                f"{path}: every token ends in a segmentation digit, which was taken off (digits=False keeps it)"
            )
    scheme = None
    if labelled:
        scheme = scheme_of(tag[0] for block in blocks for tag in block.tags)
        notes += _repairs(path, blocks, scheme, strict)
    if joiner is None:
        joiner = joiner_of(token for block in blocks for token in block.tokens)
    pool: dict[tuple[int, int], tuple[int, int]] = {}
    items: list[TaggedText] = []
    for block in blocks:
        text, places = join_tokens(block.tokens, joiner, pool)
        spans = None
        if labelled:
            found = tags_to_spans(block.tags)
            spans = tuple(Span(places[span.start][0], places[span.end - 1][1], span.label) for span in found)
        items.append(TaggedText(text, spans, block.line, places))
    return TaggedTexts(str(path), items, notes, scheme)


def _blocks(path: Path, labelled: bool, encoding: str) -> Iterator[_Block]:
    pool: dict[str, str] = {}
    block: _Block | None = None
    with open_lines(path, encoding) as lines:
        for number, line in lines:
            if not line.strip() or line.startswith("-DOCSTART-"):
                if block is not None:
                    yield block
                block = None
                continue
            fields = columns_of(line)
            block = block or _Block(number)
            block.tokens.append(pool.setdefault(fields[0], fields[0]))
            if labelled:
                block.tags.append(pool.setdefault(fields[-1], _tag(path, number, fields)))
    if block is not None:
        yield block


def _tag(path: Path, line: int, fields: Sequence[str]) -> str:
    if len(fields) < 2:
        raise DataError(
            f"{path}, line {line}: expected a token and its tag, found only {fields[0]!r}; "
            "write both with a tab between them, and leave a line blank after each text"
        )
    if split_tag(fields[-1]) is None:
        raise DataError(
            f"{path}, line {line}: {fields[-1]!r} is no tag; tags look like O, B-PER, I-PER (or M-), E-PER, S-PER, "
            "or B, M, E, S"
        )
    return fields[-1]


def _have_digits(blocks: Sequence[_Block]) -> bool:
    return all(block.tokens[0][-1] == "0" for block in blocks) and all(
        len(token) > 1 and token[-1] in _DIGITS for block in blocks for token in block.tokens
    )


def _strip_digits(path: Path, blocks: Sequence[_Block]) -> None:
    pool: dict[str, str] = {}
    for block in blocks:
        for place, token in enumerate(block.tokens):
            if token[-1] not in _DIGITS:
                raise DataError(
                    f"{path}, line {block.line + place}: token {token!r} does not end in a segmentation digit; "
                    "pass digits=False"
                )
            bare = token[:-1] or " "
            block.tokens[place] = pool.setdefault(bare, bare)


def _repairs(path: Path, blocks: Sequence[_Block], scheme: str, strict: bool) -> list[str]:
    """One note on the tags that cannot stand where they stand, none if there are none."""
    known = {tag for block in blocks for tag in block.tags} | {"O"}
    parts = {tag: split_tag(tag) or _OUTSIDE for tag in known}
    verdicts: dict[tuple[Parts, Parts], bool] = {}
    count, first = 0, ""
    for block in blocks:
        before = "O"
        for place, tag in enumerate([*block.tags, "O"]):
            pair = (parts[before], parts[tag])
            if pair not in verdicts:
                verdicts[pair] = may_follow(*pair, scheme)
            if not verdicts[pair]:
                count += 1
                at_end = place == len(block.tags)
                found = f"{before} at the end" if at_end else f"{tag} after {before if place else 'the start'}"
                where = f"line {block.line + place - at_end}: {found}"
                if strict:
                    raise DataError(
                        f"{path}, {where} is impossible in the scheme {scheme}; correct it, or pass strict=False"
                    )
                first = first or where
            before = tag
    if not count:
        return []
    return [
        f"{path}: {count} tag{'s' * (count > 1)} that cannot follow the tag before in the scheme {scheme} "
        f"(first {first}); repaired: a span begins where the label changes and ends where it stops"
    ]
