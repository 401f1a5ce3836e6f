"""Labelled spans in JSON objects."""

from collections.abc import Iterable, Iterator, Mapping
from numbers import Integral
from typing import Any

from qingformer.data.spans import Span, trimmed
from qingformer.data.tagging_texts import TaggedText
from qingformer.errors import DataError

LABEL_FIELDS = ("entities", "spans", "label")


_FORMS = (
    '{"start": 0, "end": 2, "label": "PER"} or [0, 2, "PER"], end exclusive, in a list, '
    'or {"PER": {"surface": [[0, 1]]}}, end inclusive'
)


def tagged_of(where: str, row: Mapping[Any, Any], labelled: bool) -> TaggedText:
    """The text of an object and, if `labelled`, its spans: those of the first of `LABEL_FIELDS` that it has."""
    text = row.get("text")
    if not isinstance(text, str) or not text.strip():
        found = "is missing" if text is None else "is empty" if isinstance(text, str) else f"is {text!r}"
        raise DataError(f'{where}: the field "text" {found}; it must hold the text')
    if not labelled:
        return TaggedText(text)
    value = next((row[name] for name in LABEL_FIELDS if row.get(name) is not None), None)
    if value is None:
        raise DataError(
            f"{where}: is not labelled: none of {', '.join(LABEL_FIELDS)} is there; give an empty list if the text has "
            "no spans, or pass labelled=False"
        )
    return TaggedText(text, checked_spans(where, text, value))


def checked_spans(where: str, text: str, value: Any) -> tuple[Span, ...]:
    """The spans that `value` stands for, each once, in order of place."""
    if isinstance(value, Mapping):
        found = _by_type(where, text, value)
    elif isinstance(value, Iterable) and not isinstance(value, str):
        found = (_entry(where, text, entry) for entry in value)
    else:
        raise DataError(f"{where}: the spans are {value!r}; write {_FORMS}")
    return tuple(sorted(set(found)))


def _entry(where: str, text: str, entry: Any) -> Span:
    surface = None
    if isinstance(entry, Mapping):
        start, end, surface = entry.get("start"), entry.get("end"), entry.get("text")
        label = entry.get("label", entry.get("type"))
    elif isinstance(entry, list | tuple) and len(entry) == 3:
        start, end, label = entry
    else:
        raise DataError(f"{where}: {entry!r} is no span; write {_FORMS}")
    return _checked(where, text, start, end, label, surface, f"entity {shown(entry)}")


def _by_type(where: str, text: str, value: Mapping[Any, Any]) -> Iterator[Span]:
    for label, surfaces in value.items():
        if not isinstance(surfaces, Mapping):
            raise DataError(f"{where}: type {label!r} holds {surfaces!r}; write {_FORMS}")
        for surface, places in surfaces.items():
            entity = f"entity {surface!r} of type {label!r}"
            for place in places if isinstance(places, list | tuple) and places else [None]:
                if not isinstance(place, list | tuple) or len(place) != 2:
                    raise DataError(f"{where}: {entity} has the places {places!r}; write [[first, last], ...]")
                first, last = place
                end = last + 1 if _is_place(last) else last
                yield _checked(where, text, first, end, label, surface, f"{entity} at [{first}, {last}]")


def _checked(where: str, text: str, start: Any, end: Any, label: Any, surface: Any, entity: str) -> Span:
    if not isinstance(label, str) or not label.strip():
        raise DataError(f"{where}: {entity} has the type {label!r}; name its type")
    if not _is_place(start) or not _is_place(end):
        raise DataError(f"{where}: {entity} has no whole numbers for its start and end; write {_FORMS}")
    if not 0 <= start < end <= len(text):
        raise DataError(
            f"{where}: {entity} is empty or not inside the text, which has {len(text)} characters, counted from 0"
        )
    there = text[start:end]
    if surface is not None and not _same(surface, there):
        inclusive = _same(surface, text[start : end + 1])
        hint = "its end seems to be inclusive, add 1" if inclusive else "correct the places or the text"
        raise DataError(f"{where}: {entity} should be {shown(surface)}, but there stands {shown(there)}; {hint}")
    start, end = trimmed(text, int(start), int(end))
    if start == end:
        raise DataError(f"{where}: {entity} covers nothing but white space; remove it, or correct its places")
    return Span(start, end, label)


def _same(surface: Any, there: str) -> bool:
    """Whether both are one text but for their white space, which annotation tools collapse or cut off."""
    return isinstance(surface, str) and surface.split() == there.split()


def _is_place(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def shown(value: Any) -> str:
    """A value in a message, not longer than that can bear."""
    text = repr(value[:120] if isinstance(value, str) else value)
    return text if len(text) <= 120 else text[:120] + "..."
