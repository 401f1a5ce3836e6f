"""Texts as rows of tokens with their tags, whatever file they come from, and how they become texts with spans."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from qingformer.data.schemes import Parts, may_follow, scheme_of, split_tag, tags_to_spans
from qingformer.data.spans import Span, trimmed
from qingformer.data.tag_notation import is_iob1, notation_of, why_no_tag
from qingformer.data.tagging_texts import TaggedText, TaggedTexts, join_tokens, joiner_of
from qingformer.errors import DataError

_DIGITS = frozenset("0123456789")
_OUTSIDE = ("O", "")


@dataclass(slots=True)
class Block:
    """The tokens of one text, the line of each, and as many tags if it is labelled."""

    tokens: list[str] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)


def texts_of(
    name: str,
    blocks: Sequence[Block],
    *,
    labelled: bool,
    joiner: str | None = None,
    strict: bool = False,
    digits: bool | None = None,
    notes: Sequence[str] = (),
    unit: str = "line",
) -> TaggedTexts:
    """The texts of the blocks; see `read_tagging` for the options. `unit` is what the source counts its rows by."""
    found = list(notes)
    if digits or (digits is None and _have_digits(blocks)):
        _strip_digits(f"{name}, {unit}", blocks)
        if digits is None:
            found.append(
                f"{name}: every token ends in a segmentation digit, which was taken off (digits=False keeps it)"
            )
    scheme = None
    if labelled:
        found += _translate(name, unit, blocks)
        scheme = scheme_of(tag[0] for block in blocks for tag in block.tags)
        found += _repairs(name, unit, blocks, scheme, strict)
    if joiner is None:
        joiner = joiner_of(token for block in blocks for token in block.tokens)
    pool: dict[tuple[int, int], tuple[int, int]] = {}
    items: list[TaggedText] = []
    for block in blocks:
        text, places = join_tokens(block.tokens, joiner, pool)
        spans = character_spans(text, places, tags_to_spans(block.tags)) if labelled else None
        items.append(TaggedText(text, spans, block.lines[0], places))
    return TaggedTexts(name, items, found, scheme)


def character_spans(text: str, places: Sequence[tuple[int, int]], found: Sequence[Span]) -> tuple[Span, ...]:
    """Spans of tokens, whose characters are at `places`, as spans of characters without blanks at their borders."""
    placed = [Span(*trimmed(text, places[span.start][0], places[span.end - 1][1]), span.label) for span in found]
    return tuple(span for span in placed if span.start < span.end)


def _translate(name: str, unit: str, blocks: Sequence[Block]) -> list[str]:
    """Bring all tags into our notation; a note if they were in another."""
    notation, _ = notation_of(Counter(tag for block in blocks for tag in block.tags))
    ours: dict[str, str] = {}
    for block in blocks:
        for place, tag in enumerate(block.tags):
            if tag not in ours:
                read = notation.read(tag)
                if read is None:
                    raise DataError(f"{name}, {unit} {block.lines[place]}: {why_no_tag(tag)}")
                ours[tag] = read
    changed = [(tag, read) for tag, read in ours.items() if tag != read and read != "O"]
    if not changed:
        return []
    for block in blocks:
        block.tags = [ours[tag] for tag in block.tags]
    return [
        f"{name}: tags of another notation: {', '.join(f'{tag} was read as {read}' for tag, read in changed[:2])}, ..."
    ]


def _repairs(name: str, unit: str, blocks: Sequence[Block], scheme: str, strict: bool) -> list[str]:
    """One note on the tags that cannot stand where they stand, none if there are none."""
    if scheme == "bio" and not strict and is_iob1(block.tags for block in blocks):
        return [f"{name}: tags are of the scheme IOB1: a span begins with I-, and with B- after one of the same label"]
    known = {tag for block in blocks for tag in block.tags} | {"O"}
    parts = {tag: split_tag(tag) or _OUTSIDE for tag in known}
    if "E" in {prefix for prefix, _ in parts.values()} and not {prefix for prefix, _ in parts.values()} & set("BMS"):
        return [
            f"{name}: tags are of the scheme IOE: a span ends with E- where another of its label follows, or always"
        ]
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
                where = f"{unit} {block.lines[place - at_end]}: {found}"
                if strict:
                    raise DataError(
                        f"{name}, {where} is impossible in the scheme {scheme}; correct it, or pass strict=False"
                    )
                first = first or where
            before = tag
    if not count:
        return []
    return [
        f"{name}: {count} tag{'s' * (count > 1)} that cannot follow the tag before in the scheme {scheme} "
        f"(first {first}); repaired: a span begins where the label changes and ends where it stops"
    ]


def _have_digits(blocks: Sequence[Block]) -> bool:
    return all(block.tokens[0][-1] == "0" for block in blocks) and all(
        len(token) > 1 and token[-1] in _DIGITS for block in blocks for token in block.tokens
    )


def _strip_digits(where: str, blocks: Sequence[Block]) -> None:
    pool: dict[str, str] = {}
    for block in blocks:
        for place, token in enumerate(block.tokens):
            if token[-1] not in _DIGITS:
                raise DataError(
                    f"{where} {block.lines[place]}: token {token!r} does not end in a segmentation digit; "
                    "pass digits=False"
                )
            bare = token[:-1] or " "
            block.tokens[place] = pool.setdefault(bare, bare)
