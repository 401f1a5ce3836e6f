"""Objects with relations as annotation tools and well-known sets write them, brought to a text and its triples."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from qingformer.data.brat import Document
from qingformer.data.label_studio import finished_annotations
from qingformer.data.spans import Span
from qingformer.data.tagging_json import LABEL_FIELDS, TEXT_FIELDS, first_of, is_place, shown
from qingformer.data.tagging_texts import join_tokens, joiner_of
from qingformer.errors import DataError

_NO_RELATION = ("None", "NA")  # New York Times and its kin: a pair of names without a relation

Given = list[tuple[Any, Any, Any]]  # checked where all triples are


def text_and_triples(where: str, row: Mapping[Any, Any]) -> tuple[Any, Given | None] | None:
    """The text and the triples of an object in one of these layouts, None for the triples if nobody annotated it.

    None altogether if the object is of no such layout.
    """
    if isinstance(row.get("data"), Mapping) and isinstance(row.get("annotations"), list):
        return _label_studio(where, row)
    text = first_of(row, TEXT_FIELDS)
    if isinstance(row.get("relationMentions"), list):
        return text, list(_mentions(where, row["relationMentions"]))
    if isinstance(row.get("relations"), list) and isinstance(row.get("tokens"), list):
        return _by_tokens(where, row)
    entities = first_of(row, LABEL_FIELDS)
    if isinstance(row.get("relations"), list) and isinstance(entities, list) and isinstance(text, str):
        return text, list(_by_name(where, text, entities, row["relations"]))
    if isinstance(row.get("h"), Mapping) and isinstance(row.get("t"), Mapping) and "relation" in row:
        relation = row["relation"]
        names = row["h"].get("name"), relation, row["t"].get("name")
        return text, [] if relation in _NO_RELATION else [names]
    return None


def of_brat(document: Document) -> Given:
    """The triples of a document of brat; those of spans with gaps are left out with these."""
    spans, text = document.spans, document.text
    for relation, first, second, line in document.links:
        for name in (first, second):
            if name not in spans and not document.broken:
                raise DataError(f"{document.source}, line {line}: {relation} is of {name}, which is not marked")
    return [
        (_part(text, spans[first]), relation, _part(text, spans[second]))
        for relation, first, second, _ in document.links
        if first in spans and second in spans
    ]


def _part(text: str, span: Span) -> str:
    return text[span.start : span.end]


def _mentions(where: str, mentions: Sequence[object]) -> Iterator[tuple[Any, Any, Any]]:
    """CoType."""
    for one in mentions:
        if not isinstance(one, Mapping):
            raise DataError(
                f'{where}: {shown(one)} is not a relation; write {{"em1Text": ..., "em2Text": ..., "label": ...}}'
            )
        if one.get("label") not in _NO_RELATION:
            yield one.get("em1Text"), one.get("label"), one.get("em2Text")


def _two(one: object, first: Sequence[str], second: Sequence[str]) -> tuple[Any, Any]:
    """Two values of an object, each under one of several names."""
    return (first_of(one, first), first_of(one, second)) if isinstance(one, Mapping) else (None, None)


def _by_name(
    where: str, text: str, entities: Sequence[Any], relations: Sequence[Any]
) -> Iterator[tuple[Any, Any, Any]]:
    """Doccano: entities with an id, and relations between two of these."""
    names: dict[Any, str] = {}
    for one in entities:
        start, end = _two(one, ("start_offset", "start"), ("end_offset", "end"))
        if not is_place(start) or not is_place(end) or not 0 <= start < end <= len(text):
            raise DataError(f"{where}: entity {shown(one)} has no place in the text of {len(text)} characters")
        names[one.get("id")] = text[start:end]
    for one in relations:
        relation = one.get("type", one.get("label")) if isinstance(one, Mapping) else None
        ends = _two(one, ("from_id",), ("to_id",))
        if not all(isinstance(end, int | str) and end in names for end in ends):
            raise DataError(f"{where}: relation {shown(one)} is not between two of the entities; correct its ids")
        yield names[ends[0]], relation, names[ends[1]]


def _by_tokens(where: str, row: Mapping[Any, Any]) -> tuple[str, Given]:
    """SpERT: tokens, entities by tokens, and relations between the numbers of two entities."""
    tokens = [str(token) for token in row["tokens"]]
    text, places = join_tokens(tokens, joiner_of(tokens))
    names = []
    for one in row.get("entities") or []:
        start, end = _two(one, ("start",), ("end",))
        if not is_place(start) or not is_place(end) or not 0 <= start < end <= len(tokens):
            raise DataError(f"{where}: entity {shown(one)} is not among the {len(tokens)} tokens")
        names.append(text[places[start][0] : places[end - 1][1]])
    found = []
    for one in row["relations"]:
        head, tail = _two(one, ("head",), ("tail",))
        if not all(is_place(end) and 0 <= end < len(names) for end in (head, tail)):
            raise DataError(f"{where}: relation {shown(one)} is not between two of the {len(names)} entities")
        found.append((names[head], one.get("type"), names[tail]))
    return text, found


def _label_studio(where: str, row: Mapping[Any, Any]) -> tuple[Any, Given | None]:
    """A whole task of Label Studio; without a finished annotation its triples are None."""
    text = next(
        (row["data"][name] for name in (*TEXT_FIELDS, *row["data"]) if isinstance(row["data"].get(name), str)), None
    )
    done = finished_annotations(row)
    if not done or not isinstance(text, str):
        return text, None
    results = [one for one in done[0].get("result") or [] if isinstance(one, Mapping)]
    entities = [{**one["value"], "id": one.get("id")} for one in results if isinstance(one.get("value"), Mapping)]
    relations = []
    for one in results:
        if one.get("type") != "relation":
            continue
        if not one.get("labels"):
            raise DataError(f"{where}: a relation of Label Studio without a label; give every relation one")
        ends = {"from_id": one.get("from_id"), "to_id": one.get("to_id")}
        back = {"from_id": ends["to_id"], "to_id": ends["from_id"]}
        # Label Studio draws an arrow either way, or both.
        ways = {"left": [back], "bi": [ends, back]}.get(str(one.get("direction")), [ends])
        relations += [{**way, "type": label} for label in one["labels"] for way in ways]
    return text, list(_by_name(where, text, [one for one in entities if "start" in one], relations))
