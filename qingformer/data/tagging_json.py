"""Labelled spans in JSON objects: our own form, and those of annotation tools and well-known sets."""

from collections.abc import Iterable, Iterator, Mapping
from numbers import Integral
from typing import Any

from qingformer.data.cells import checked_text, clean_name
from qingformer.data.label_studio import finished_annotations
from qingformer.data.spans import Span, trimmed
from qingformer.data.tagging_texts import TaggedText
from qingformer.errors import DataError

TEXT_FIELDS = ("text", "data", "sentence", "content", "sentText", "originalText")
LABEL_FIELDS = ("entities", "spans", "label", "labels", "annotations", "annotation")
_STARTS = ("start", "start_offset", "start_pos", "start_idx", "begin")
_ENDS = ("end", "end_offset", "end_pos", "end_idx")
_LABELS = ("label", "type", "labels", "label_type", "tag", "entity_type", "entity_group")
_SURFACES = ("text", "mention", "surface")

_FORMS = (
    '{"start": 0, "end": 2, "label": "PER"} or [0, 2, "PER"], end exclusive, in a list, '
    'or {"PER": {"surface": [[0, 1]]}}, end inclusive'
)


def tagged_of(where: str, row: Mapping[object, object], labelled: bool) -> TaggedText:
    """The text of an object and, if `labelled`, its spans: None where nobody has annotated the text."""
    if isinstance(row.get("data"), Mapping):
        text, value = _task(where, row, labelled)
    else:
        text = _text(where, row)
        value = _labels(where, row) if labelled else None
    spans = None if value is None else checked_spans(where, text, value)
    return TaggedText(text, spans)


def _text(where: str, row: Mapping[object, object]) -> str:
    name = next((name for name in TEXT_FIELDS if row.get(name) is not None), "text")
    return whole_text(where, row.get(name), name, row)


def whole_text(where: str, text: object, name: str, row: Mapping[object, object]) -> str:
    """`text` if it is one that can be read and written."""
    if not isinstance(text, str) or not text.strip():
        found = "is missing" if text is None else "is empty" if isinstance(text, str) else f"is {shown(text)}"
        fields = "" if text is not None else f" (there are {shown(', '.join(map(str, row)))})"
        raise DataError(f'{where}: the field "{name}" {found}; it must hold the text{fields}')
    return checked_text(where, "text", text)


def _labels(where: str, row: Mapping[object, object]) -> Any:
    """What an object has as its spans."""
    values = [row[name] for name in LABEL_FIELDS if row.get(name) is not None]
    value = next((one for one in values if isinstance(one, list | Mapping) and one), values[0] if values else None)
    if value is None:  # Label Studio names the field as its tag in the settings
        value = next((each for each in row.values() if _is_value_list(each)), None)
    if value is None:
        raise DataError(
            f"{where}: is not labelled: none of {', '.join(LABEL_FIELDS[:3])} is there (there are "
            f"{shown(', '.join(map(str, row)))}); give an empty list if the text has no spans, or pass labelled=False"
        )
    return value["entities"] if isinstance(value, Mapping) and isinstance(value.get("entities"), list) else value


def _is_value_list(value: object) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(one, Mapping) and {"start", "end", "labels"} <= set(one) for one in value)
    )


def _task(where: str, row: Mapping[Any, Any], labelled: bool) -> tuple[str, Any]:
    """Text and spans of a task as Label Studio exports it whole; None for the spans if nobody has finished it."""
    data = row["data"]
    name = next((name for name in (*TEXT_FIELDS, *data) if isinstance(data.get(name), str)), "text")
    text = whole_text(where, data.get(name), f"data.{name}", data)
    if not labelled:
        return text, None
    if not isinstance(row.get("annotations", row.get("completions")), list):
        raise DataError(f"{where}: a task of Label Studio without annotations; export the project as JSON")
    done = finished_annotations(row)
    if not done:
        return text, None
    results = done[0].get("result") or []
    values = [one["value"] for one in results if isinstance(one, Mapping) and isinstance(one.get("value"), Mapping)]
    if values and not any("labels" in value or "start" in value for value in values):
        raise DataError(
            f"{where}: the annotations of Label Studio hold {shown(', '.join(values[0]))}, not spans; "
            "export a project whose labels mark parts of a text"
        )
    if any("startOffset" in value or "globalOffsets" in value for value in values):
        raise DataError(
            f"{where}: the annotations of Label Studio mark parts of HTML, whose places do not count characters of the "
            "text; label plain text (<Text>), or write start, end and label of each"
        )
    return text, [value for value in values if value.get("labels") and "start" in value]


def checked_spans(where: str, text: str, value: object) -> tuple[Span, ...]:
    """The spans that `value` stands for, each once, in order of place."""
    if isinstance(value, Mapping):
        found = _by_type(where, text, value)
    elif isinstance(value, Iterable) and not isinstance(value, str):
        found = (span for entry in value for span in _entry(where, text, entry))
    else:
        raise DataError(f"{where}: the spans are {shown(value)}; write {_FORMS}")
    return tuple(sorted(set(found)))


def first_of(entry: Mapping[object, object], names: Iterable[str]) -> Any:
    """The value of the first of `names` that is there."""
    return next((entry[name] for name in names if entry.get(name) is not None), None)


def _entry(where: str, text: str, entry: object) -> Iterator[Span]:
    start: Any
    end: Any
    label: Any
    surface = None
    if isinstance(entry, Mapping) and "points" in entry:
        for point in entry["points"] or []:  # DataTurks: the place of the last character
            if not isinstance(point, Mapping):
                raise DataError(f"{where}: {shown(entry)} is not a span; write {_FORMS}")
            last: Any = point.get("end")
            end = last + 1 if is_place(last) else last
            for label in _each(entry.get("label")):
                yield _checked(where, text, point.get("start"), end, label, None, f"entity {shown(entry)}")
        return
    if isinstance(entry, Mapping):
        start, end, label = (first_of(entry, names) for names in (_STARTS, _ENDS, _LABELS))
        surface = first_of(entry, _SURFACES)
        surface = entry.get("entity") if surface is None and "end_idx" in entry else surface
        if label is None and isinstance(entry.get("entity"), str) and entry["entity"] != text[start:end]:
            label = entry["entity"]  # Rasa
        if "end_idx" in entry and is_place(end) and is_place(start) and surface == text[start : end + 1]:
            end += 1  # CMeEE: the place of the last character
    elif isinstance(entry, list | tuple) and len(entry) == 3:
        start, end, label = entry
        if isinstance(start, str) and is_place(end):  # the label first
            start, end, label = end, label, start
    else:
        raise DataError(f"{where}: {shown(entry)} is not a span; write {_FORMS}")
    for each in _each(label):
        yield _checked(where, text, start, end, each, surface, f"entity {shown(entry)}")


def _each(label: object) -> list[Any]:
    return label if isinstance(label, list) and label else [label]


def _by_type(where: str, text: str, value: Mapping[object, object]) -> Iterator[Span]:
    for label, surfaces in value.items():
        if not isinstance(surfaces, Mapping):
            raise DataError(f"{where}: type {label!r} holds {shown(surfaces)}; write {_FORMS}")
        for surface, places in surfaces.items():
            entity = f"entity {shown(surface)} of type {label!r}"
            for place in places if isinstance(places, list | tuple) and places else [None]:
                if not isinstance(place, list | tuple) or len(place) != 2:
                    raise DataError(f"{where}: {entity} has the places {shown(places)}; write [[first, last], ...]")
                first, last = place
                end = last + 1 if is_place(last) else last
                yield _checked(where, text, first, end, label, surface, f"{entity} at [{first}, {last}]")


def check_label(where: str, label: object, entity: str) -> str:
    """`label` if it can be one."""
    if is_place(label):
        raise DataError(
            f"{where}: {entity} has the number {label} for its type; export the names (doccano: JSONL with text labels)"
        )
    if not isinstance(label, str) or not label.strip():
        raise DataError(f"{where}: {entity} has the type {shown(label)}; name its type")
    if len(label.splitlines()) > 1:
        raise DataError(f"{where}: {entity} has the type {shown(label)}, with a line break in it; write it on one line")
    return clean_name(checked_text(where, "type of an entity", label))


def _checked(where: str, text: str, start: Any, end: Any, label: Any, surface: Any, entity: str) -> Span:
    label = check_label(where, label, entity)
    if not is_place(start) or not is_place(end):
        raise DataError(f"{where}: {entity} has no whole numbers for its start and end; write {_FORMS}")
    if not 0 <= start < end <= len(text):
        raise DataError(
            f"{where}: {entity} is empty or not inside the text, which has {len(text)} characters, counted from 0"
        )
    there = text[start:end]
    if surface is not None and not same_text(surface, there):
        inclusive = same_text(surface, text[start : end + 1])
        hint = "its end seems to be inclusive, add 1" if inclusive else "correct the places or the text"
        raise DataError(f"{where}: {entity} should be {shown(surface)}, but the text there is {shown(there)}; {hint}")
    start, end = trimmed(text, int(start), int(end))
    if start == end:
        raise DataError(f"{where}: {entity} covers nothing but white space; remove it, or correct its places")
    return Span(start, end, label)


def same_text(surface: object, there: str) -> bool:
    """Whether both are one text but for their white space, which annotation tools collapse or cut off."""
    return isinstance(surface, str) and surface.split() == there.split()


def is_place(value: object) -> bool:
    """Whether `value` can count characters."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def shown(value: object) -> str:
    """A value in a message, not longer than that can bear."""
    text = repr(value[:120] if isinstance(value, str) else value)
    return text if len(text) <= 120 else text[:120] + "..."
