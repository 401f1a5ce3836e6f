"""Questions about a text whose answers are parts of it, in the file forms of SQuAD, CMRC 2018 and flat rows."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from qingformer.data.cells import boolean, checked_text, is_missing, plain, quoted, strip
from qingformer.data.documents import Document, Sourced, read_documents, text_at
from qingformer.data.readers import Path
from qingformer.data.recognition import naming_other_tasks
from qingformer.data.relations import find_all
from qingformer.data.tables import rows_of
from qingformer.errors import DataError
from qingformer.types import Values

_CONTEXT, _QUESTION, _ID = ("context", "context_text"), ("question", "query_text"), ("id", "query_id")
_DIGITS = re.compile(r"\d{1,9}", re.ASCII)
Answer = tuple[int, str]


@dataclass(frozen=True, slots=True)
class Question:
    """A question about `context` and its answers as (first character, text): None if unlabelled.

    `answerable` is False if the context is known not to hold the answer. `references` are the texts of all answers the
    source gives, also of those that are not in the context word for word: what predictions are compared with. `fields`
    are those of an unlabelled question in a file.
    """

    id: str
    context: str
    question: str
    answers: tuple[Answer, ...] | None
    answerable: bool = True
    line: int = 0
    references: tuple[str, ...] = ()
    fields: Mapping[Any, Any] | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Questions(Sourced[Question]):
    """The questions of a source, as a sequence; see `Sourced`."""


def read_reading(path: Path, *, labelled: bool = True, repair: bool = True, encoding: str = "utf-8") -> Questions:
    """Read questions for extractive reading comprehension from a JSON or JSONL file.

    The forms: SQuAD 1 and 2 ("data" with "paragraphs" with "context" and "qas"), the paragraphs alone, CMRC 2018's
    first release (context_text, query_text), and rows with "context", "question", "answers" or "answer" and "id".
    Answers are texts or objects with "text" and "answer_start". A question with "is_impossible" or with an empty list
    of answers is not answerable.

    Args:
        labelled: whether answers are read; if False they are None (a public test set may hold placeholders).
        repair: an answer that does not stand where answer_start says is taken where it stands nearest to that; one that
            is nowhere in the context only stays in `references`; a question that keeps none, or is empty, is left out
            (but an empty one stays if not `labelled`, so that each has its prediction). Notes count all of this. If
            False each of these is an error.
        encoding: of the file.

    Raises:
        DataError: the file is missing, empty or not JSON; a field is missing or of another type; no question is left.

    >>> import tempfile, pathlib
    >>> file = pathlib.Path(tempfile.mkdtemp(), "dev.jsonl")
    >>> _ = file.write_text('{"context": "范廷颂生于1919年", "question": "何时出生?", "answer": "1919年"}', "utf-8")
    >>> read_reading(file)[0].answers
    ((5, '1919年'),)
    """
    with naming_other_tasks(path, "reading", encoding):
        return _collect(str(path), _from_documents(path, read_documents(path, encoding)), True, labelled, repair)


def questions_from_rows(rows: Iterable[Any], name: str, *, labelled: bool = True, repair: bool = True) -> Questions:
    """As `read_reading`, from `Question`s, dictionaries, tuples (context, question, answer or answers), or pairs.

    >>> questions_from_rows([("范廷颂生于1919年", "何时出生?", "1919年")], "mine")[0].id
    '1'
    """
    return _collect(name, _from_rows(rows, name), False, labelled, repair)


@dataclass(frozen=True, slots=True)
class _Raw:
    """A question as it was found, before its parts are checked."""

    where: str
    context: Any
    row: Values
    line: int


@dataclass(slots=True)
class _Tally:
    """How many answers and questions were repaired or left out, and where first."""

    answers: int = 0
    questions: int = 0
    moved: list[str] = field(default_factory=list)
    nowhere: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)

    def notes(self) -> list[str]:
        found = (
            (self.moved, "answers did not stand where answer_start says and were found elsewhere", self.answers),
            (self.nowhere, "answers are not in their context; they are kept for comparison only", self.answers),
            (self.dropped, "questions were left out: none of their answers is in the context", self.questions),
            (self.empty, "questions were left out: they are empty", self.questions),
        )
        return [f"{len(where):,} of {total:,} {what} (first: {where[0]})" for where, what, total in found if where]


def _collect(name: str, raws: Iterator[_Raw], is_file: bool, labelled: bool, repair: bool) -> Questions:
    items, tally = [], _Tally()
    for count, raw in enumerate(raws, 1):
        number = _first(raw.row, _ID)
        where = f"{raw.where} ({number})" if number is not None else raw.where
        context = text_at(where, raw.context, "context")
        question = text_at(where, _first(raw.row, _QUESTION), "question", empty=repair)
        parts = (checked_text(where, "id", str(count if number is None else number)), context, question)
        tally.questions += 1
        # Crowd-sourced sets hold questions that were never written (DuReader); there is nothing to learn from them.
        if labelled and not question.strip():
            tally.empty.append(where)
            continue
        if not labelled:
            items.append(Question(*parts, None, True, raw.line, fields=raw.row if is_file else None))
            continue
        given = _answers(where, raw.row)
        placed = tuple(_placed(where, context, given, tally, repair))
        if given and not placed:
            tally.dropped.append(where)
            continue
        items.append(Question(*parts, placed, bool(given), raw.line, tuple(text for _, text in given)))
    if not items:
        raise DataError(
            f"{name}: no question is left" + "".join(f"; {note}" for note in tally.notes()[-1:]) + "; "
            "give at least one, or pass labelled=False for a test set without real answers"
        )
    return Questions(name, items, tally.notes(), is_file)


def _placed(
    where: str, context: str, given: list[tuple[int | None, str]], tally: _Tally, repair: bool
) -> Iterator[Answer]:
    for start, text in given:
        tally.answers += 1
        if start is not None and start >= 0 and context.startswith(text, start):
            yield start, text
            continue
        found = find_all(context, text)
        # Answers are copied with the blanks around them more often than not.
        if not found and strip(text) != text:
            text = strip(text)
            found = find_all(context, text)
        if not repair and (start is not None or not found):
            stands = f"stands at {', '.join(map(str, found[:5]))}" if found else "is nowhere in the context"
            raise DataError(
                f"{where}: the answer {quoted(text)} is not at {start} but {stands}; correct it or pass repair=True"
            )
        if not found:
            tally.nowhere.append(where)
            continue
        if start is not None and start not in found:
            tally.moved.append(where)
        # The nearest one: offsets of older releases are off by a few characters, where the text was cleaned later.
        yield min(found, key=lambda one: abs(one - (start or 0))), text


def _answers(where: str, row: Values) -> list[tuple[int | None, str]]:
    """The start (None if not stated) and text of each answer of a row; none if it is not answerable."""
    # SQuAD 2.0; "plausible_answers" beside it are no answers.
    if boolean(where, "is_impossible", row.get("is_impossible")):
        return []
    if "answers" not in row and "answer" not in row:
        raise DataError(f'{where}: no field "answers"; add it, empty if there is no answer, or pass labelled=False')
    given = _given(row)
    if isinstance(given, Mapping) and isinstance(given.get("text"), list):
        texts, starts = given["text"], given.get("answer_start") or [None] * len(given["text"])
        if not isinstance(starts, list) or len(starts) != len(texts):
            raise DataError(f"{where}: {len(texts)} texts of answers need as many numbers in answer_start")
        given = [{"text": text, "answer_start": start} for text, start in zip(texts, starts)]
    if getattr(given, "ndim", 0) == 1:
        given = given.tolist()
    if given is None or (not isinstance(given, list | tuple | Mapping) and is_missing(given)):
        return []
    answers: list[tuple[int | None, str]] = []
    for one in given if isinstance(given, list | tuple) else [given]:
        start, text = _answer(where, one)
        # An empty text is how some sets write that there is no answer.
        if text.strip():
            answers.append((start, text))
    return answers


def _given(row: Values) -> Any:
    """What a row has as its answers; a text may have its place beside it."""
    given = row.get("answers")
    if given is None or (isinstance(given, list | str) and not given):
        given = row.get("answer", given)
    if isinstance(given, str) and not is_missing(row.get("answer_start")):
        return {"text": given, "answer_start": row["answer_start"]}
    return given


def _answer(where: str, one: Any) -> tuple[int | None, str]:
    if isinstance(one, tuple) and len(one) == 2:
        one = {"answer_start": one[0], "text": one[1]}
    if not isinstance(one, Mapping):
        return None, text_at(where, one, "answer", empty=True)
    start = plain(one.get("answer_start"))
    if is_missing(start):
        start = None
    if isinstance(start, str) and _DIGITS.fullmatch(strip(start)):  # a cell of a table, or DRCD
        start = int(strip(start))
    if start is not None and type(start) is not int:
        raise DataError(f"{where}: answer_start is {quoted(start)}; expected the number of a character, from 0")
    return start, text_at(where, one.get("text"), "text of the answer", empty=True)


def _first(row: Values, keys: Sequence[str]) -> Any:
    return next((row[key] for key in keys if row.get(key) is not None), None)


def _from_documents(path: Path, documents: list[Document]) -> Iterator[_Raw]:
    for document in documents:
        found = list(_nested(f"{path}, line {document.line}", document.value))
        for line, (context, row) in zip(document.lines_of(_QUESTION, len(found)), found):
            yield _Raw(f"{path}, line {line}", context, row, line)


def _from_rows(rows: Iterable[Any], name: str) -> Iterator[_Raw]:
    for item, row in enumerate(rows_of(rows, name), 1):
        where = f"{name}, item {item}"
        if isinstance(row, Question):
            given = list(row.references or (text for _, text in row.answers or ()))
            placed = {text: start for start, text in row.answers or ()}
            answers = None if row.answers is None else [{"text": t, "answer_start": placed.get(t)} for t in given]
            row = {"context": row.context, "question": row.question, "id": row.id} | (
                {} if answers is None else {"answers": answers}
            )
        elif isinstance(row, tuple | list) and 2 <= len(row) <= 3:
            row = dict(zip(("context", "question", "answers"), row))
        for context, values in _nested(where, row):
            yield _Raw(where, context, values, item)


def _nested(where: str, value: Any) -> Iterator[tuple[Any, Values]]:
    """The context and fields of each question in a value of any of the forms."""
    if not isinstance(value, Mapping):
        raise DataError(f'{where}: expected an object with "context" and "question", found {type(value).__name__}')
    for key in ("data", "paragraphs"):
        if key in value:
            if not isinstance(value[key], list):
                raise DataError(f'{where}: "{key}" is {type(value[key]).__name__}; expected a list')
            for one in value[key]:
                yield from _nested(where, one)
            return
    context = _first(value, _CONTEXT)
    if "qas" not in value:
        yield context, value
        return
    for row in value["qas"] if isinstance(value["qas"], list) else [None]:
        if not isinstance(row, Mapping):
            raise DataError(f'{where}: "qas" must be a list of objects with "question" and "answers"')
        yield context, row
