"""Which task a file is data for, so that one for another task is refused by name."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from typing import Any

from qingformer.data.choice_fields import choices_of
from qingformer.data.columns import LABEL_COLUMNS, TEXT_COLUMNS
from qingformer.data.documents import read_documents
from qingformer.data.readers import Path, read_rows
from qingformer.data.tag_notation import tag_share
from qingformer.data.text_lines import bare_suffix, open_lines
from qingformer.errors import DataError

TRIPLES = ("spo_list", "triple_list", "triples", "triple_list_gold", "relationMentions")
FORMS = {
    "classification": ("labelled texts", '{"text": "...", "label": "..."}'),
    "ner": ("tagged texts", '{"text": "...", "entities": [[0, 2, "PER"]]} or a token and its tag a line'),
    "cws": ("segmented texts", "a text a line with spaces between the words"),
    "relations": ("texts with triples", '{"text": "...", "triples": [["subject", "relation", "object"]]}'),
    "reading": ("questions about texts", '{"context": "...", "question": "...", "answers": ["..."]}'),
    "choice": ("questions with choices", '{"context": "...", "question": "...", "choices": ["..."], "answer": 0}'),
}
_SPANS, _TAGS = ("entities", "spans", "label", "labels"), ("tags", "ner_tags", "labels", "bio", "iob_tags")
# Lines that tell columns of tags from prose: a dozen could all be of one odd text.
_LOOKED_AT = 50


def tasks_of(value: object) -> set[str]:
    """The tasks that a row, or the whole of a JSON file, looks like data for.

    >>> tasks_of({"text": "在北京", "entities": [[1, 3, "LOC"]]}), tasks_of({"context": "下雨了", "question": "天气？"})
    ({'ner'}, {'reading'})
    """
    if isinstance(value, list | tuple):
        is_c3 = 2 <= len(value) <= 3 and all(isinstance(part, list) for part in value[:2])
        return {"choice"} if is_c3 and all(isinstance(row, Mapping) for row in value[1]) else set()
    if not isinstance(value, Mapping):
        return set()
    row = {str(name).strip().lower(): each for name, each in value.items()}
    if any(name.lower() in row for name in TRIPLES):
        return {"relations"}
    question = "question" in row or "query_text" in row
    if ("content" in row and "candidates" in row) or (question and isinstance(choices_of(row)[0], list)):
        return {"choice"}
    nested = any(_holds_objects(row.get(name)) for name in ("data", "paragraphs", "qas"))
    labels = [row[name] for name in LABEL_COLUMNS if name in row]
    asked = question and ("context" in row or "context_text" in row) and not any(map(_is_label, labels))
    if nested or asked:
        return {"reading"}
    found = set()
    tokens = next((row[name] for name in ("tokens", "words", "text") if isinstance(row.get(name), list)), None)
    if any(_holds_spans(row.get(name)) for name in _SPANS):
        found.add("ner")
    if tokens and any(isinstance(row.get(name), list) and len(row[name]) == len(tokens) for name in _TAGS):
        found.add("ner")
    if any(isinstance(row.get(name), str) for name in TEXT_COLUMNS) and any(map(_is_label, labels)):
        found.add("classification")
    return found


def _holds_objects(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(one, Mapping) for one in value)


def _holds_spans(value: object) -> bool:
    if isinstance(value, Mapping):
        return all(isinstance(one, Mapping) for one in value.values())
    return isinstance(value, list) and bool(value) and all(isinstance(one, list | tuple | Mapping) for one in value)


def _is_label(value: object) -> bool:
    parts = value if isinstance(value, list) else [value]
    return bool(parts) and all(isinstance(one, str | int | float) for one in parts)


def other_task(where: str, wanted: str, found: str, else_: str = "") -> DataError:
    """The error for a file of another task than is wanted."""
    return DataError(
        f"{where}: holds {FORMS[found][0]}, which are data for {found}, not for {wanted}; write {FORMS[wanted][1]}, or "
        f"use the task {found}{else_}"
    )


@contextmanager
def naming_other_tasks(path: Path, wanted: str, encoding: str = "utf-8") -> Iterator[None]:
    """Turn what a reader refuses inside into an error that names the other task, if the file is data for one.

    Raises:
        DataError: the reader's own, or that of `other_task`.
    """
    try:
        yield
    except DataError:
        found = tasks_of_file(path, encoding)
        if not found or wanted in found or (wanted == "cws" and "ner" in found):
            raise
        raise other_task(str(path), wanted, min(found)) from None


def tasks_of_file(path: Path, encoding: str = "utf-8") -> set[str]:
    """The tasks that a file looks like data for; none where that is unclear."""
    if str(path) == "-":
        return set()
    try:
        if bare_suffix(path) in (".csv", ".tsv", ".tab"):
            return tasks_of(next(iter(read_rows(path, encoding=encoding))).values)
        with open_lines(path, encoding) as lines:
            head = [line for _, line in islice(lines, _LOOKED_AT) if line.strip()]
        # The first value alone: a file of gigabytes is asked only for its first row.
        if head and head[0].lstrip()[:1] in ("{", "["):
            return tasks_of(_first_value(path, head[0], encoding))
    except (DataError, StopIteration):
        return set()
    cells = [fields[-1] for fields in map(str.split, head) if len(fields) > 1]
    # More than half of the lines have two columns, and more than half of the last ones look like tags.
    return {"ner"} if 2 * len(cells) > len(head) and tag_share(cells) > 0.5 else set()


def _first_value(path: Path, line: str, encoding: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        documents = read_documents(path, encoding)
        return documents[0].value if documents else None
