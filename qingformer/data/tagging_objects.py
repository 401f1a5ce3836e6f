"""Objects and pairs, from JSON files or from Python, as texts with spans: of characters, of tokens, or by tags."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from qingformer.data.label_studio import finished_annotations
from qingformer.data.spans import Span
from qingformer.data.tag_notation import tag_share
from qingformer.data.tagging_blocks import Block, character_spans, texts_of
from qingformer.data.tagging_json import (
    LABEL_FIELDS,
    check_label,
    checked_spans,
    first_of,
    is_place,
    shown,
    tagged_of,
)
from qingformer.data.tagging_texts import TaggedText, TaggedTexts, join_tokens, joiner_of
from qingformer.errors import DataError

_TOKENS = ("tokens", "words", "token", "chars", "text", "sentence")
_TAGS = ("tags", "ner_tags", "labels", "label", "ner", "tag", "bio", "iob_tags")
_TOKEN_SPANS = ("ner", "entities", "spans", "label", "labels")


class Collector:
    """Takes rows one by one and gives the texts: tags are read in the notation of them all, tokens joined alike.

    Args:
        name, unit: of the source, and how it counts its rows: "line" or "item".
        others: options of `texts_of`.
    """

    def __init__(self, name: str, unit: str, labelled: bool, **others: Any) -> None:
        self._name, self._unit, self._labelled, self._others = name, unit, labelled, others
        self._items: list[TaggedText | None] = []
        self._tagged: list[tuple[int, Block]] = []
        self._spanned: list[tuple[int, Block, list[Span]]] = []
        self._kept: dict[int, Mapping[Any, Any]] = {}
        self._broken: list[str] = []
        self._undone: list[str] = []
        self._rejected: list[str] = []
        self._several: list[str] = []

    def add(self, row: Any, number: int, line: int) -> None:
        """Take a row; `number` is its place, for messages."""
        where = f"{self._name}, {self._unit} {number}"
        if isinstance(row, TaggedText):
            if self._labelled and row.spans is None:
                raise DataError(f"{where}: is not labelled; give its spans, or pass labelled=False")
            spans = checked_spans(where, row.text, row.spans) if self._labelled else None
            self._items.append(replace(row, spans=spans))
            return
        row = _object(where, row, self._labelled)
        if self._labelled and row.get("answer") in ("reject", "ignore"):  # Prodigy
            self._rejected.append(where)
            return
        if self._labelled and len(finished_annotations(row)) > 1:
            self._several.append(where)
        tokens = _tokens(where, row)
        if tokens is not None:
            self._add_tokens(where, row, tokens, number)
            return
        found = tagged_of(where, row, self._labelled)
        if self._labelled and found.spans is None:
            self._undone.append(where)
        else:
            self._items.append(replace(found, line=line, fields=self._fields(row)))

    def _add_tokens(self, where: str, row: Mapping[Any, Any], tokens: list[str], number: int) -> None:
        block = Block(tokens, [number] * len(tokens))
        place = len(self._items)
        self._items.append(None)
        if not self._labelled:
            self._spanned.append((place, block, []))
            self._kept[place] = self._fields(row) or {}
            return
        tags = next((row[name] for name in _TAGS if _is_row(row.get(name), len(tokens))), None)
        # Tags are decoded all together at the end: only the whole file tells which scheme they are of.
        if tags is not None:
            block.tags = tags
            self._tagged.append((place, block))
            return
        name = next((name for name in _TOKEN_SPANS if isinstance(row.get(name), list)), None)
        if name is None or any(is_place(entry) or isinstance(entry, str) for entry in row[name]):
            raise DataError(f"{where}: {_lacking(row, name, len(tokens))}")
        spans = [self._token_span(where, entry, len(tokens)) for entry in row[name]]
        self._spanned.append((place, block, [span for span in spans if span is not None]))

    def _fields(self, row: Mapping[Any, Any]) -> Mapping[Any, Any] | None:
        """The fields of an unlabelled row of a file, for whoever lays predictions beside it."""
        return None if self._labelled or self._unit != "line" else row

    def _token_span(self, where: str, entry: Any, count: int) -> Span | None:
        """A span of tokens; None if it has gaps."""
        index: Any
        start: Any
        end: Any
        label: Any
        if isinstance(entry, Mapping):
            index, start, end = entry.get("index"), entry.get("start"), entry.get("end")
            label = first_of(entry, ("label", "type"))
        elif isinstance(entry, list | tuple) and len(entry) == 3:
            index, (start, end, label) = None, entry
        else:
            index = start = end = label = None
        if isinstance(index, list) and index and all(map(is_place, index)):
            if index != list(range(index[0], index[0] + len(index))):
                self._broken.append(where)
                return None
            start, end = index[0], index[-1] + 1
        if not is_place(start) or not is_place(end) or not 0 <= start < end <= count:
            raise DataError(
                f"{where}: {shown(entry)} is not a span of the {count} tokens; write "
                '{"index": [0, 1], "type": "PER"} or {"start": 0, "end": 2, "type": "PER"}, end exclusive'
            )
        return Span(int(start), int(end), check_label(where, label, f"entity {shown(entry)}"))

    def texts(self) -> TaggedTexts:
        """All that was taken."""
        notes, scheme = [], None
        if self._tagged:
            found = texts_of(
                self._name, [block for _, block in self._tagged], unit=self._unit, labelled=True, **self._others
            )
            notes, scheme = list(found.notes), found.scheme
            for (place, _), item in zip(self._tagged, found.items):
                self._items[place] = item
        joiner = self._others.get("joiner")
        if joiner is None:
            joiner = joiner_of(token for _, block, _ in self._spanned for token in block.tokens)
        for place, block, spans in self._spanned:
            text, places = join_tokens(block.tokens, joiner)
            kept = tuple(sorted(set(character_spans(text, places, spans)))) if self._labelled else None
            self._items[place] = TaggedText(text, kept, block.lines[0], places, fields=self._kept.get(place))
        notes += [
            f"{len(wheres)} {what} left out (first: {wheres[0]})"
            for wheres, what in (
                (self._broken, "spans with gaps were"),
                (self._undone, "texts without annotations were"),
                (self._rejected, 'texts whose "answer" is reject or ignore were'),
            )
            if wheres
        ]
        if self._several:
            notes.append(
                f"{len(self._several)} texts have several annotations; the ground truth or else the first finished one "
                f"was read (first: {self._several[0]})"
            )
        return TaggedTexts(self._name, [item for item in self._items if item is not None], notes, scheme)


def _object(where: str, row: Any, labelled: bool) -> Mapping[Any, Any]:
    if isinstance(row, str):
        row = {"text": row}
    elif isinstance(row, tuple | list) and len(row) == 2:
        if isinstance(row[1], str) and not labelled:
            raise DataError(f"{where}: two texts, but a tagger reads one; give a text alone, or (text, spans)")
        row = {"text": row[0], "spans": row[1]}
        if isinstance(row["spans"], Mapping) and isinstance(row["spans"].get("entities"), list):
            row["spans"] = row["spans"]["entities"]  # spaCy 2
    if not isinstance(row, Mapping):
        raise DataError(
            f"{where}: expected (text, [(start, end, label), ...]), an object with text and "
            f"{' or '.join(LABEL_FIELDS[:3])}, or a text without labels; found {type(row).__name__}"
        )
    return row


def _tokens(where: str, row: Mapping[Any, Any]) -> list[str] | None:
    """The tokens of an object that has some in place of a text."""
    name = next((name for name in _TOKENS if isinstance(row.get(name), list | tuple)), None)
    text = row.get("text")
    if isinstance(text, str):
        name = name if name is not None and _has_tags(row, len(row[name])) else None
        if name is None and _has_tags(row, len(text)):
            return list(text)
    if name is None:
        return None
    tokens = list(row[name])
    if not tokens or not all(isinstance(token, str) for token in tokens):
        raise DataError(
            f'{where}: the field "{name}" is {shown(tokens)}; it must hold the tokens, at least one, as texts'
        )
    # A token that is empty in the file was white space, and must keep its position among the tags.
    return [token or " " for token in tokens]


def _has_tags(row: Mapping[Any, Any], count: int) -> bool:
    """Whether a row has as many tags, and no spans beside them."""
    rows = [row[name] for name in _TAGS if _is_row(row.get(name), count)]
    return bool(rows) and bool(rows[0]) and tag_share(rows[0]) == 1


def _is_row(value: Any, count: int) -> bool:
    return isinstance(value, list) and len(value) == count and all(isinstance(tag, str) for tag in value)


def _lacking(row: Mapping[Any, Any], name: str | None, count: int) -> str:
    """Why tokens have no tags that can be read."""
    values = [(each, row[each]) for each in _TAGS if isinstance(row.get(each), list)]
    for each, value in values:
        if value and all(map(is_place, value)):
            return (
                f'the tags in "{each}" are numbers, and their names are not in the file; write the names '
                f"(of a Hugging Face data set: names = dataset.features[{each!r}].feature.names, then names[number])"
            )
        if value and all(isinstance(tag, str) for tag in value):
            return f'{count} tokens and {len(value)} tags in "{each}"; give each token one'
    return (
        f"is not labelled: tokens without tags or spans (there are {shown(', '.join(map(str, row)))}); write them as "
        '"tags", or pass labelled=False'
    )


def collected(name: str, unit: str, rows: Iterable[tuple[Any, int, int]], labelled: bool, **others: Any) -> TaggedTexts:
    """The texts of rows, which come with their number and their line."""
    collector = Collector(name, unit, labelled, **others)
    for row, number, line in rows:
        collector.add(row, number, line)
    return collector.texts()
