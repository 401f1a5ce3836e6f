"""Texts and the triples (subject, relation, object) they state, in the file forms of DuIE, CasRel and others."""

import difflib
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from qingformer.data.brat import is_brat, read_brat
from qingformer.data.cells import clean_name
from qingformer.data.documents import Sourced, text_at
from qingformer.data.readers import BlankLines, Path, read_rows
from qingformer.data.relation_layouts import of_brat, text_and_triples
from qingformer.data.relation_schema import read_schema as read_schema
from qingformer.data.spans import trimmed
from qingformer.data.tables import rows_of
from qingformer.data.tagging_json import TEXT_FIELDS, first_of, shown
from qingformer.errors import DataError

TRIPLE_FIELDS = ("spo_list", "triple_list", "triples", "triple_list_gold")
_SHAPE = '["subject", "relation", "object"] or {"subject": ..., "predicate": ..., "object": ...}'


class Triple(NamedTuple):
    """What a text states: `subject` stands in `relation` to `object`."""

    subject: str
    relation: str
    object: str


class PlacedTriple(NamedTuple):
    """A triple whose subject and object are character offsets (start, end) in a text, end exclusive."""

    subject: tuple[int, int]
    relation: str
    object: tuple[int, int]


@dataclass(frozen=True, slots=True)
class RelationText:
    """A text and its triples: None if unlabelled, empty if it states none; `fields` are those of an unlabelled row."""

    text: str
    triples: tuple[Triple, ...] | None
    line: int = 0
    fields: Mapping[object, object] | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class RelationTexts(Sourced[RelationText]):
    """The texts of a source, as a sequence; see `Sourced`."""


def read_relations(
    path: Path,
    *,
    schema: Sequence[str] | None = None,
    labelled: bool = True,
    strict: bool = False,
    format: str | None = None,
    encoding: str = "utf-8",
) -> RelationTexts:
    """Read texts with their triples; each row has "text" and one of `TRIPLE_FIELDS`.

    "spo_list" (DuIE) holds objects with subject, predicate and object, where object is a text or, in DuIE 2, slots:
    "@value" is related by the predicate, another slot by "predicate_slot" (such as "获奖_onDate"). "triple_list"
    (CasRel) holds lists [subject, relation, object], "triples" objects with subject, relation and object; each field
    takes either shape. Names lose the space around them; a triple that repeats in a text is kept once.

    Relations between marked names are read too: exports of doccano and Label Studio, folders of brat, CoType's
    "relationMentions", SpERT's and OpenNRE's objects.

    Args:
        path, format, encoding: as in `read_rows`.
        schema: the relations there are, as from `read_schema`; another one is an error.
        labelled: whether triples are read; if False they are None.
        strict: whether a triple whose subject or object is not in the text is an error; by default it is left out, and
            a note counts them.

    Raises:
        DataError: whatever `read_rows` raises; a text or name that is missing, empty or not text; triples of another
            shape; a relation that is not in `schema`.

    >>> import tempfile, pathlib
    >>> file = pathlib.Path(tempfile.mkdtemp(), "train.json")
    >>> _ = file.write_text('{"text": "桐华写了步步惊心", "triple_list": [["步步惊心", "作者", "桐华"]]}', "utf-8")
    >>> read_relations(file)[0].triples
    (Triple(subject='步步惊心', relation='作者', object='桐华'),)
    """
    rows: Iterator[tuple[Any, int]]
    if format is not None or not is_brat(path):
        blanks = BlankLines()
        read = read_rows(path, format, encoding=encoding, blanks=blanks)
        found = _collect(str(path), ((row.values, row.line) for row in read), True, schema, labelled, strict)
        return found if labelled else replace(found, notes=[*found.notes, *blanks.notes()])
    documents = read_brat(path, labelled, encoding)
    rows = (((each.text, of_brat(each)), number) for number, each in enumerate(documents, 1))
    return _collect(str(path), rows, False, schema, labelled, strict)


def relations_from_rows(
    rows: Iterable[object],
    name: str,
    *,
    schema: Sequence[str] | None = None,
    labelled: bool = True,
    strict: bool = False,
) -> RelationTexts:
    """As `read_relations`, from `RelationText`s, pairs (text, triples), dictionaries, or texts if not `labelled`.

    >>> relations_from_rows([("桐华写了步步惊心", [("步步惊心", "作者", "桐华")])], "mine")[0].triples[0].object
    '桐华'
    """
    numbered = ((row, item) for item, row in enumerate(rows_of(rows, name), 1))
    return _collect(name, numbered, False, schema, labelled, strict)


def _collect(
    name: str,
    rows: Iterator[tuple[Any, int]],
    is_file: bool,
    schema: Sequence[str] | None,
    labelled: bool,
    strict: bool,
) -> RelationTexts:
    if isinstance(schema, str):
        raise DataError(f"schema={schema!r}: pass the names of the relations, such as read_schema({schema!r})")
    known = None if schema is None else dict.fromkeys(schema)
    items, tally = [], _Tally()
    for row, line in rows:
        where = f"{name}, {'line' if is_file else 'item'} {line}"
        text, given = _parts(where, row, labelled)
        if not labelled:
            fields = row if is_file and isinstance(row, Mapping) else None
            items.append(RelationText(text, None, line, fields))
            continue
        if given is None:
            tally.undone.append(where)
            continue
        # Once each, in their order: a text may state the same thing twice.
        found = list(dict.fromkeys(_triples(where, given)))
        for triple in found:
            if known is not None and triple.relation not in known:
                raise DataError(f"{where}: {_unknown(triple.relation, list(known))}")
        items.append(RelationText(text, tuple(_those_in(text, found, where, strict, tally)), line))
    if not items:
        raise DataError(f"{name}: no texts; give at least one")
    return RelationTexts(name, items, tally.notes(), is_file)


@dataclass
class _Tally:
    """How many triples there were, which had a name that is not in the text, and which texts nobody annotated."""

    triples: int = 0
    absent: list[str] = field(default_factory=list)
    undone: list[str] = field(default_factory=list)

    def notes(self) -> list[str]:
        """A sentence for each kind of what was left out."""
        notes = []
        if self.absent:
            notes.append(
                f"{len(self.absent):,} of {self.triples:,} triples were left out: subject or object is not in the text "
                f"(first: {self.absent[0]})"
            )
        if self.undone:
            notes.append(f"{len(self.undone)} texts without annotations were left out (first: {self.undone[0]})")
        return notes


def _those_in(text: str, triples: Iterable[Triple], where: str, strict: bool, tally: _Tally) -> Iterator[Triple]:
    """The triples both of whose names are in the text; the others are counted, or with `strict` an error."""
    for triple in triples:
        tally.triples += 1
        absent = next((part for part in (triple.subject, triple.object) if part not in text), None)
        if absent is None:
            yield triple
        elif strict:
            raise DataError(
                f"{where}: {shown(absent)} of {shown(tuple(triple))} is not in the text; correct one of them"
            )
        else:
            tally.absent.append(f"{where}: {shown(absent)}")


def _parts(where: str, row: object, labelled: bool) -> tuple[str, Any]:
    """The text of a row and its triples as they were given; None for these if it is not annotated."""
    if isinstance(row, RelationText):
        row = {"text": row.text, "triples": row.triples}
    elif isinstance(row, str):
        row = {"text": row}
    elif isinstance(row, tuple | list) and 1 <= len(row) <= 2:
        if len(row) == 2 and isinstance(row[1], str) and not labelled:
            raise DataError(
                f"{where}: two texts, but relations are found in one; give a text alone, or (text, triples)"
            )
        row = dict(zip(("text", "triples"), row))
    if not isinstance(row, Mapping):
        raise DataError(f"{where}: expected (text, triples) or a dictionary, got {shown(row)}")
    found = next((field for field in TRIPLE_FIELDS if row.get(field) is not None), None)
    other = text_and_triples(where, row) if found is None else None
    if other is not None:
        return text_at(where, other[0], "text"), other[1]
    if isinstance(row.get("sentences"), list):
        raise DataError(f"{where}: documents of several sentences are not read; write a text a row, with its triples")
    text = text_at(where, first_of(row, TEXT_FIELDS), "text")
    if labelled and found is None:
        fields = ", ".join(map(str, row))[:120]
        raise DataError(
            f"{where}: no triples (there are the fields {fields}); write them in one of {', '.join(TRIPLE_FIELDS)}, "
            "an empty list if the text states none, or pass labelled=False"
        )
    return text, row[found] if labelled else None


def _triples(where: str, given: object) -> Iterator[Triple]:
    if not isinstance(given, list | tuple | set | frozenset):
        raise DataError(f"{where}: expected a list of triples, found {type(given).__name__}; write [{_SHAPE}, ...]")
    for one in given:
        if isinstance(one, Mapping):
            subject, relation, value = one.get("subject"), one.get("predicate", one.get("relation")), one.get("object")
        elif isinstance(one, list | tuple) and len(one) == 3:
            subject, relation, value = one
        else:
            raise DataError(f"{where}: {shown(one)} is not a triple; write {_SHAPE}")
        relation = clean_name(_bare(text_at(where, relation, "relation of a triple")))
        subject = _bare(text_at(where, subject, f"subject of {relation!r}"))
        slots = value if isinstance(value, Mapping) else {"@value": value}
        if not slots:
            raise DataError(f'{where}: the object of {relation!r} has no slots; write {{"@value": "..."}}')
        for slot, part in slots.items():
            if slot != "@value" and part == "":
                continue
            # DuIE 2.0: an object of several slots (date, place) becomes one relation for each.
            name = relation if slot == "@value" else f"{relation}_{slot}"
            yield Triple(subject, name, _bare(text_at(where, part, f"object of {name!r}")))


def _bare(name: str) -> str:
    """A name without the white space and invisible characters around it."""
    return name[slice(*trimmed(name, 0, len(name)))] or name


def _unknown(relation: str, known: list[str]) -> str:
    # 0.5, as half of a Chinese name of two characters is one of them.
    close = difflib.get_close_matches(relation, known, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(map(repr, close))}?" if close else f"there are {', '.join(known[:8])}, ..."
    return f"the relation {relation!r} is not among the {len(known)} of the schema; {hint}"


def find_all(text: str, part: str) -> list[int]:
    """Where `part` begins in `text`, overlapping occurrences too.

    >>> find_all("哈哈哈", "哈哈")
    [0, 1]
    """
    starts, start = [], text.find(part) if part else -1
    while start >= 0:
        starts.append(start)
        start = text.find(part, start + 1)
    return starts


def place(text: str, triple: Triple, *, words: bool = False) -> list[PlacedTriple]:
    """Where a triple stands in its text: one placement, or none if subject or object is not there.

    Of all occurrences those two are taken that do not overlap, if there are such, and have the fewest characters
    between them; of several, the first. With `words`, occurrences between spaces come before those between other
    signs, and these before those inside a word ("art" in "party").

    >>> place("姚明和姚沁蕾,姚明的女儿", Triple("姚沁蕾", "父亲", "姚明"))
    [PlacedTriple(subject=(3, 6), relation='父亲', object=(0, 2))]
    """
    subjects, objects = (_starts(text, part, words) for part in (triple.subject, triple.object))
    if not subjects or not objects:
        return []
    length, width = len(triple.subject), len(triple.object)
    # Both lists ascend, so the nearest object on either side of a subject is found by bisection.
    near = [pair for start in subjects for pair in _neighbours(start, length, objects, width)]
    subject, target = min(near, default=(0, 0, subjects[0], objects[0]))[2:]
    return [PlacedTriple((subject, subject + length), triple.relation, (target, target + width))]


def _neighbours(start: int, length: int, objects: Sequence[int], width: int) -> Iterator[tuple[int, int, int, int]]:
    """The nearest object before a subject and the nearest after it, neither of which overlaps it.

    Characters between the two, start of the first, start of the subject, start of the object.
    """
    before, after = bisect_right(objects, start - width), bisect_left(objects, start + length)
    if before:
        target = objects[before - 1]
        yield start - target - width, target, start, target
    if after < len(objects):
        target = objects[after]
        yield target - start - length, start, start, target


def _starts(text: str, part: str, words: bool) -> list[int]:
    starts = find_all(text, part)
    if words:
        padded, size = f" {text} ", len(part)
        spaced = [start for start in starts if padded[start].isspace() and padded[start + size + 1].isspace()]
        apart = [
            start
            for start in starts
            if not (padded[start].isalnum() and part[0].isalnum())
            and not (padded[start + size + 1].isalnum() and part[-1].isalnum())
        ]
        # Whole words where there are any; in Chinese, without spaces, any occurrence.
        return spaced or apart or starts
    return starts
