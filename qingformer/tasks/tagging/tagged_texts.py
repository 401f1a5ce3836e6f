"""What taggers read and say: texts with spans, and entities with the characters they cover."""

import inspect
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from qingformer.data.documents import TABLES
from qingformer.data.recognition import naming_other_tasks, other_task, tasks_of_file
from qingformer.data.schemes import WORD
from qingformer.data.spans import Span, is_blank
from qingformer.data.tagging import from_rows, read_tagging
from qingformer.data.tagging_texts import TaggedText, TaggedTexts
from qingformer.data.text_lines import bare_suffix
from qingformer.errors import DataError
from qingformer.tasks.windows import TokenizedText
from qingformer.types import Config


@dataclass(frozen=True, slots=True)
class Entity:
    """A span of a text: characters [start, end), its label, and the text it covers."""

    start: int
    end: int
    label: str
    text: str


@dataclass(frozen=True, slots=True)
class Tagging:
    """What a tagger says about one text: its entities in order. `words` covers a segmented text without gaps."""

    text: str
    entities: tuple[Entity, ...]

    def to_dict(self) -> Config:
        """Everything as dictionaries, lists and numbers that JSON can hold."""
        return asdict(self)

    @property
    def spans(self) -> tuple[Span, ...]:
        """The entities without their texts."""
        return tuple(Span(entity.start, entity.end, entity.label) for entity in self.entities)

    @property
    def words(self) -> list[str]:
        """The entities' texts and what lies between them, both cut at white space: a segmentation of the text.

        >>> Tagging("今天 好 吗", (Entity(0, 2, "word", "今天"),)).words
        ['今天', '好', '吗']
        """
        return [self.text[start:end] for start, end in words_between(self.text, self.spans)]


def words_between(text: str, spans: Iterable[Span]) -> list[tuple[int, int]]:
    """The places of disjoint spans and of what lies between them, cut at white space.

    Invisible characters are no words of their own: they go with the word before them, or else with the next.

    >>> words_between("今天\u200b真 好", [Span(0, 2, "word")])
    [(0, 3), (3, 4), (5, 6)]
    """
    places: list[tuple[int, int]] = []
    position = 0
    for start, end in [*((span.start, span.end) for span in sorted(spans)), (len(text), len(text))]:
        for from_, to in ((position, start), (start, end)):
            for match in re.finditer(r"\S+", text[from_:to]):
                _add_word(text, places, (from_ + match.start(), from_ + match.end()))
        position = max(position, end)
    return places


def _add_word(text: str, places: list[tuple[int, int]], place: tuple[int, int]) -> None:
    while place[0] < place[1] and is_blank(text[place[0]]) and places and places[-1][1] == place[0]:
        places[-1] = (places[-1][0], place[0] + 1)
        place = (place[0] + 1, place[1])
    # Nothing but invisible characters, which have gone to the word before.
    if place[0] == place[1]:
        return
    if places and places[-1][1] == place[0] and all(map(is_blank, text[slice(*places[-1])])):
        place = (places.pop()[0], place[1])
    places.append(place)


class TaggedExamples(Sequence[TaggedText]):
    """Texts with the name of their source, for messages, and what to tell the user about it."""

    def __init__(self, texts: TaggedTexts, is_file: bool) -> None:
        self.name, self.items, self.notes, self.scheme = texts.name, texts.items, texts.notes, texts.scheme
        self.is_file, self.lines = is_file, texts.lines

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: Any) -> Any:
        return self.items[index]

    def __iter__(self) -> Iterator[TaggedText]:
        return iter(self.items)

    def where(self, number: int) -> str:
        """The place of example `number` in words."""
        if self[number].source:
            return self[number].source
        return f"{self.name}, line {self[number].line}" if self.is_file else f"{self.name}, item {number + 1}"


def with_gaps(words: Sequence[Span], tokenized: TokenizedText, text: str) -> list[Span]:
    """The words, by tokens, and one word for every run of tokens between them that white space does not part.

    >>> tokenized = TokenizedText([7] * 4, [(0, 1), (1, 2), (2, 3), (3, 4)])
    >>> [span[:2] for span in with_gaps([Span(1, 2, "word")], tokenized, "今天真好")]
    [(0, 1), (1, 2), (2, 4)]
    """
    inside = {token for start, end, _ in words for token in range(start, end)}
    found: list[Span] = []
    for token, (start, end) in enumerate(tokenized.offsets):
        if token in inside:
            continue
        joined = bool(found) and found[-1].end == token and tokenized.offsets[token - 1][1] >= start
        if joined and not text[start:end].isspace() and not text[slice(*tokenized.offsets[token - 1])].isspace():
            found[-1] = found[-1]._replace(end=token + 1)
        else:
            found.append(Span(token, token + 1, WORD))
    return sorted([*words, *found])


def read_tagged(source: Any, name: str, labelled: bool, **options: Any) -> TaggedExamples:
    """Texts from a path, or from a sequence of what `qingformer.data.tagging.from_rows` takes.

    Raises:
        DataError: what is wrong, with its file and line; no text at all.
        TypeError: an option that `read_tagging` does not have.
    """
    unknown = sorted(set(options) - set(inspect.signature(read_tagging).parameters))
    if unknown:
        raise TypeError(f"{name}: there is no option {unknown[0]!r}, neither here nor of the reader")
    if isinstance(source, TaggedExamples):
        return source
    if isinstance(source, str | os.PathLike):
        wanted = "cws" if options.get("segmented") else "ner"
        with naming_other_tasks(source, wanted, options.get("encoding", "utf-8")):
            found = read_tagging(source, labelled=labelled, **options)
        if labelled and wanted == "cws" and bare_suffix(source) in TABLES and "classification" in tasks_of_file(source):
            raise other_task(str(source), wanted, "classification")
        return TaggedExamples(found, True)
    rows = from_rows(source, name, labelled)
    if not rows.items:
        raise DataError(f"{name}: no texts in it; expected at least one")
    return TaggedExamples(rows, False)


def entities_of(text: str, spans: Iterable[Span]) -> tuple[Entity, ...]:
    """The spans in order, each with the text it covers."""
    return tuple(Entity(span.start, span.end, span.label, text[span.start : span.end]) for span in sorted(set(spans)))
