"""What relation extractors read, what they say, and triples as places among tokens."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import NamedTuple

from qingformer.data.recognition import naming_other_tasks
from qingformer.data.relations import RelationTexts, Triple, place, read_relations, relations_from_rows
from qingformer.data.spans import trimmed
from qingformer.errors import DataError
from qingformer.tasks.windows import Pieces
from qingformer.types import Config

Place = tuple[int, int]


@dataclass(frozen=True, slots=True)
class FoundTriple:
    """A triple with the characters [start, end) of its subject and of its object."""

    subject: str
    relation: str
    object: str
    subject_place: Place
    object_place: Place


@dataclass(frozen=True, slots=True)
class Extraction:
    """What an extractor says about one text: its triples, each pair of names with each relation once."""

    text: str
    found: tuple[FoundTriple, ...]

    def to_dict(self) -> Config:
        """Everything as dictionaries, lists and numbers that JSON can hold."""
        return asdict(self)

    @property
    def triples(self) -> tuple[Triple, ...]:
        """The triples without their places."""
        return tuple(Triple(each.subject, each.relation, each.object) for each in self.found)


class TokenTriple(NamedTuple):
    """A triple by tokens: first and last token of the subject, the number of the relation, those of the object."""

    subject: Place
    relation: int
    object: Place

    @property
    def stretch(self) -> Place:
        """From the first to the last of its tokens."""
        places = (*self.subject, *self.object)
        return min(places), max(places)


def read_texts(
    source: object, name: str, labelled: bool, schema: Sequence[str] | None, **options: object
) -> RelationTexts:
    """Texts from a path, or from a sequence of what `relations_from_rows` takes.

    Raises:
        DataError: what is wrong, with its file and line; no text at all.
    """
    if isinstance(source, RelationTexts):
        bare = next((each for each in source if labelled and each.triples is None), None)
        if bare is not None:
            raise DataError(f"{source.where(bare)}: is not labelled; give its triples, or pass labelled=False")
        return source
    if isinstance(source, str | os.PathLike):
        with naming_other_tasks(source, "relations", str(options.get("encoding", "utf-8"))):
            return read_relations(source, schema=schema, labelled=labelled, **options)  # type: ignore[arg-type]
    return relations_from_rows(source, name, schema=schema, labelled=labelled, **options)  # type: ignore[arg-type]


def token_triples(
    text: str, triples: Iterable[Triple], pieces: Pieces, numbers: dict[str, int]
) -> tuple[list[TokenTriple], list[Triple]]:
    """The triples by tokens, and those that cannot be said so: a border of subject or object lies within a token."""
    kept, lost = [], []
    words = _has_words(text)
    for triple in triples:
        placed = place(text, triple, words=words)
        subject, target = (
            (pieces.tokens_of(*trimmed(text, *each)) for each in (placed[0].subject, placed[0].object))
            if placed
            else (None, None)
        )
        if subject is None or target is None:
            lost.append(triple)
        else:
            kept.append(TokenTriple(subject, numbers[triple.relation], target))
    return kept, lost


def moved(triple: TokenTriple, by: int) -> TokenTriple:
    """The triple `by` tokens further on."""
    subject, target = ((first + by, last + by) for first, last in (triple.subject, triple.object))
    return TokenTriple(subject, triple.relation, target)


def found_triples(
    text: str, pieces: Pieces, triples: Iterable[TokenTriple], relations: Sequence[str]
) -> tuple[FoundTriple, ...]:
    """Triples by tokens as triples of names; of several places of the same names the first."""
    found: dict[Triple, FoundTriple] = {}
    for triple in sorted(set(triples)):
        subject, target = pieces.characters_of(*triple.subject), pieces.characters_of(*triple.object)
        named = Triple(text[slice(*subject)], relations[triple.relation], text[slice(*target)])
        found.setdefault(named, FoundTriple(*named, subject, target))
    return tuple(found.values())


def _has_words(text: str) -> bool:
    """Whether spaces divide the text into words, as in English."""
    letters = sum(character.isascii() and character.isalpha() for character in text)
    return " " in text and 2 * letters > sum(map(str.isalpha, text))
