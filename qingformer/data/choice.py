"""Questions with several choices of which one is right, in the file forms of C3, ChID and flat rows."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from qingformer.data.documents import Sourced, read_documents, text_at
from qingformer.data.readers import Path
from qingformer.data.tables import rows_of
from qingformer.errors import DataError

BLANK = "#idiom#"
OTHER_BLANK = "____"
_BLANKS = re.compile(r"#idiom\d*#")
_CHOICES = ("choices", "choice", "candidates", "options")


@dataclass(frozen=True, slots=True)
class ChoiceQuestion:
    """A question about `context`, at least two `choices`, and the number of the right one: None if unlabelled.

    `question` is empty where the choice fills the place of `BLANK` in the context.
    """

    context: str
    question: str
    choices: tuple[str, ...]
    answer: int | None
    id: str = ""
    line: int = 0


@dataclass(frozen=True)
class ChoiceQuestions(Sourced[ChoiceQuestion]):
    """The questions of a source, as a sequence; see `Sourced`."""


def read_choice(path: Path, *, labelled: bool = True, encoding: str = "utf-8") -> ChoiceQuestions:
    """Read multiple-choice questions from a JSON or JSONL file.

    The forms: C3 ([[lines of the passage], [{question, choice, answer}], id]; the lines are joined by a line end),
    ChID ({content, candidates, answer} with `BLANK` in the content; with several blanks, plain or numbered as
    "#idiom000378#", one question for each, in which the others are `OTHER_BLANK`, and "answer", "answers" or
    "groundTruth" has one entry for each), and rows with "context", "question", "choices", "answer" and "id". An answer
    is the number of a choice, from 0, or its text.

    Args:
        labelled: whether answers are read; if False they are None.
        encoding: of the file.

    Raises:
        DataError: the file is missing, empty or not JSON; a field is missing or of another type; fewer than two
            choices; a content without a blank; an answer that is not among the choices.

    >>> import tempfile, pathlib
    >>> file = pathlib.Path(tempfile.mkdtemp(), "dev.json")
    >>> questions = '[{"question": "天气?", "choice": ["晴", "雨"], "answer": "雨"}]'
    >>> _ = file.write_text(f'[[["男：下雨了。"], {questions}, "1"]]', "utf-8")
    >>> read_choice(file)[0]
    ChoiceQuestion(context='男：下雨了。', question='天气?', choices=('晴', '雨'), answer=1, id='1-0', line=1)
    """
    return _collect(str(path), _from_file(path, encoding), True, labelled)


def choices_from_rows(rows: Iterable[Any], name: str, *, labelled: bool = True) -> ChoiceQuestions:
    """As `read_choice`, from `ChoiceQuestion`s, dictionaries or lists in its forms.

    >>> rows = [{"context": "天空很", "question": "", "choices": ["蓝", "方"], "answer": "蓝"}]
    >>> choices_from_rows(rows, "mine")[0].answer
    0
    """
    return _collect(name, _from_rows(rows, name), False, labelled)


@dataclass(frozen=True, slots=True)
class _Raw:
    """A question as it was found, before its parts are checked."""

    where: str
    context: Any
    question: Any
    choices: Any
    answer: Any
    id: Any
    line: int


def _collect(name: str, raws: Iterator[_Raw], is_file: bool, labelled: bool) -> ChoiceQuestions:
    items, twice = [], []
    for count, raw in enumerate(raws, 1):
        context = text_at(raw.where, raw.context, "context", empty=True)
        question = text_at(raw.where, raw.question, "question", empty=True)
        if not context.strip() and not question.strip():
            raise DataError(f"{raw.where}: context and question are empty; fill in one of them or remove the row")
        choices = _choices(raw)
        if len(set(choices)) < len(choices):
            twice.append(raw.where)
        answer = _answer(raw, choices) if labelled else None
        number = str(count if raw.id is None or raw.id == "" else raw.id)
        items.append(ChoiceQuestion(context, question, choices, answer, number, raw.line))
    if not items:
        raise DataError(f"{name}: no questions; give at least one")
    note = f"{len(twice):,} of {len(items):,} questions have the same choice twice"
    return ChoiceQuestions(name, items, [f"{note} (first: {twice[0]})"] if twice else [], is_file)


def _choices(raw: _Raw) -> tuple[str, ...]:
    if not isinstance(raw.choices, list | tuple) or len(raw.choices) < 2:
        raise DataError(f"{raw.where}: expected a list of at least two choices, found {raw.choices!r}"[:300])
    return tuple(text_at(raw.where, choice, f"choice {number}") for number, choice in enumerate(raw.choices))


def _answer(raw: _Raw, choices: tuple[str, ...]) -> int:
    if raw.answer is None:
        raise DataError(f"{raw.where}: no answer; add it or pass labelled=False")
    if isinstance(raw.answer, str) and raw.answer in choices:
        return choices.index(raw.answer)
    if type(raw.answer) is int and 0 <= raw.answer < len(choices):
        return raw.answer
    raise DataError(
        f"{raw.where}: the answer {raw.answer!r} is not among the {len(choices)} choices ({', '.join(choices)}); "
        f"write one of them or its number, 0 to {len(choices) - 1}"
    )


def _from_file(path: Path, encoding: str) -> Iterator[_Raw]:
    for document in read_documents(path, encoding):
        raws = list(_raws(f"{path}, line {document.line}", document.value, document.line))
        keys = ["question"] if isinstance(document.value, list) else []
        lines = document.lines_of(keys, len(raws)) if keys else [document.line] * len(raws)
        for line, raw in zip(lines, raws):
            yield _Raw(f"{path}, line {line}", raw.context, raw.question, raw.choices, raw.answer, raw.id, line)


def _from_rows(rows: Iterable[Any], name: str) -> Iterator[_Raw]:
    for item, row in enumerate(rows_of(rows, name), 1):
        where = f"{name}, item {item}"
        if isinstance(row, ChoiceQuestion):
            yield _Raw(where, row.context, row.question, row.choices, row.answer, row.id, item)
        else:
            yield from _raws(where, row, item)


def _raws(where: str, value: Any, line: int) -> Iterator[_Raw]:
    if isinstance(value, list | tuple):
        yield from _c3(where, value, line)
    elif not isinstance(value, Mapping):
        raise DataError(f"{where}: expected an object with context, question and choices, found {type(value).__name__}")
    elif "content" in value and "candidates" in value:
        yield from _chid(where, value, line)
    else:
        choices = next((value[key] for key in _CHOICES if key in value), None)
        answer = value.get("answer", value.get("label"))
        yield _Raw(where, value.get("context", ""), value.get("question", ""), choices, answer, value.get("id"), line)


def _c3(where: str, value: Sequence[Any], line: int) -> Iterator[_Raw]:
    if not 2 <= len(value) <= 3 or not all(isinstance(part, list | tuple) for part in value[:2]):
        raise DataError(f"{where}: expected [[lines of the passage], [questions], id], found {value!r}"[:300])
    context = "\n".join(text_at(where, part, "passage", empty=True) for part in value[0])
    number = value[2] if len(value) == 3 else None
    for count, row in enumerate(value[1]):
        if not isinstance(row, Mapping):
            raise DataError(f"{where}: question {count} must be an object with question, choice and answer")
        question = text_at(where, row.get("question"), f"question {count}")
        choices = next((row[key] for key in _CHOICES if key in row), None)
        yield _Raw(where, context, question, choices, row.get("answer"), _numbered(number, count), line)


def _chid(where: str, value: Mapping[str, Any], line: int) -> Iterator[_Raw]:
    contents = value["content"] if isinstance(value["content"], list) else [value["content"]]
    contents = [text_at(where, content, "content") for content in contents]
    blanks = [(content, match) for content in contents for match in _BLANKS.finditer(content)]
    if not blanks or not all(_BLANKS.search(content) for content in contents):
        raise DataError(f"{where}: the content has no blank; write {BLANK} where the choice belongs")
    choices, number = value["candidates"], value.get("id")
    apart = isinstance(choices, list) and bool(choices) and isinstance(choices[0], list)
    answers = next((value[key] for key in ("answer", "answers", "groundTruth") if value.get(key) is not None), None)
    if isinstance(answers, Mapping):
        answers = [answers.get(match.group()) for _, match in blanks]
    elif not isinstance(answers, list):
        answers = [answers] * len(blanks) if answers is None or len(blanks) == 1 else [answers]
    for what, count in (("lists of candidates", len(choices) if apart else len(blanks)), ("answers", len(answers))):
        if count != len(blanks):
            raise DataError(f"{where}: {count} {what} for {len(blanks)} blanks; give one for each")
    for count, (content, match) in enumerate(blanks):
        before, after = content[: match.start()], content[match.end() :]
        context = _BLANKS.sub(OTHER_BLANK, before) + BLANK + _BLANKS.sub(OTHER_BLANK, after)
        label = number if len(blanks) == 1 else _numbered(number, count)
        label = label if match.group() == BLANK else match.group()
        yield _Raw(where, context, "", choices[count] if apart else choices, answers[count], label, line)


def _numbered(number: Any, count: int) -> str | None:
    return None if number is None else f"{number}-{count}"
