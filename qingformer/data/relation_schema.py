"""The names of the relations that a data set knows, in the file forms of DuIE, CasRel and others."""

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from qingformer.data.documents import read_documents, text_at
from qingformer.data.readers import Path
from qingformer.data.text_lines import open_lines
from qingformer.errors import DataError


def read_schema(path: Path, *, encoding: str = "utf-8") -> list[str]:
    """Read the names of the relations, in the order of their numbers or else of the file, each once.

    The file holds a JSON list of names, a DuIE schema (an object a line with "predicate" and "object_type"; a slot of
    the type other than "@value" is the relation "predicate_slot"), CasRel's rel2id ([{name: number}] or
    [{number: name}, {name: number}], with or without the list), or a name a line.

    Raises `DataError` naming the file: whatever `open_lines` raises; wrong JSON; another shape; numbers that repeat.

    >>> import tempfile, pathlib
    >>> file = pathlib.Path(tempfile.mkdtemp(), "schema.json")
    >>> _ = file.write_text('{"predicate": "获奖", "object_type": {"@value": "奖项", "onDate": "Date"}}', "utf-8")
    >>> read_schema(file)
    ['获奖', '获奖_onDate']
    """
    with open_lines(path, encoding) as lines:
        start = "".join(line.lstrip() for _, line in islice(lines, 20))[:1]
    if start not in ("[", "{"):
        with open_lines(path, encoding) as lines:
            names = [line.strip() for _, line in lines if line.strip()]
    else:
        names = []
        for document in read_documents(path, encoding):
            names += _names(f"{path}, line {document.line}", document.value)
    if not names:
        raise DataError(f"{path}: no relations in it; write a name on each line")
    return list(dict.fromkeys(names))


def _names(where: str, value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield text_at(where, value, "relation").strip()
    elif isinstance(value, Mapping) and "predicate" in value:
        predicate = text_at(where, value["predicate"], "predicate").strip()
        slots = value.get("object_type")
        for slot in slots if isinstance(slots, Mapping) else ("@value",):
            yield predicate if slot == "@value" else f"{predicate}_{slot}"
    elif isinstance(value, Mapping) and value and all(type(number) is int for number in value.values()):
        yield from _by_number(where, [(number, name) for name, number in value.items()])
    elif isinstance(value, Mapping) and value and all(key.isdecimal() and len(key) < 10 for key in value):
        yield from _by_number(where, [(int(key), name) for key, name in value.items()])
    else:
        raise DataError(
            f'{where}: expected a name, {{"predicate": ...}}, {{name: number}} or {{number: name}}, found {value!r}'[
                :300
            ]
        )


def _by_number(where: str, pairs: list[tuple[int, Any]]) -> Iterator[str]:
    numbers = {number for number, _ in pairs}
    if len(numbers) < len(pairs):
        raise DataError(f"{where}: two relations have the same number; give each its own")
    for _, name in sorted(pairs, key=lambda pair: pair[0]):
        yield text_at(where, name, "relation").strip()
