"""Questions with several choices of which one is right, in the file forms of C3, ChID and flat rows."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from qingformer.data.cells import checked_text, quoted
from qingformer.data.choice_answers import NUMBERED_BLANK, answers_beside, is_answers, read_answers
from qingformer.data.choice_fields import answer_of, by_lower_name, choices_of, flat_parts
from qingformer.data.documents import Sourced, read_documents, text_at
from qingformer.data.readers import Path
from qingformer.data.recognition import naming_other_tasks
from qingformer.data.tables import rows_of
from qingformer.data.text_lines import check_file
from qingformer.errors import DataError
from qingformer.types import Values

# The mark of ChID; its later releases number the blanks (#idiom000381#).
BLANK = "#idiom#"
OTHER_BLANK = "____"
_BLANKS = re.compile(r"#idiom\d*#")


@dataclass(frozen=True, slots=True)
class ChoiceQuestion:
    """A question about `context`, at least two `choices`, and the number of the right one: None if unlabelled.

    `question` is empty where the choice fills the place of `BLANK` in the context; `fields` are those of an unlabelled
    question in a file.
    """

    context: str
    question: str
    choices: tuple[str, ...]
    answer: int | None
    id: str = ""
    line: int = 0
    fields: Mapping[Any, Any] | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class ChoiceQuestions(Sourced[ChoiceQuestion]):
    """The questions of a source, as a sequence; see `Sourced`."""


def read_choice(
    path: Path, *, labelled: bool = True, answers: Path | None = None, encoding: str = "utf-8"
) -> ChoiceQuestions:
    """Read multiple-choice questions from a JSON or JSONL file.

    The forms: C3 ([[lines of the passage], [{question, choice, answer}], id]; the lines are joined by a line end),
    ChID ({content, candidates, answer} with `BLANK` in the content; with several blanks, plain or numbered as
    "#idiom000378#", one question for each, in which the others are `OTHER_BLANK`, and "answer", "answers" or
    "groundTruth" has one entry for each, or they are in a file beside this one, such as train_answer.json), and rows of
    JSON, CSV or TSV with "context", "question", "choices", "answer" and "id", where the choices may be fields of their
    own: A, B, C, D or option_1, option_2, .... An answer is the text of a choice, its number, from 0, or its letter.

    Args:
        labelled: whether answers are read; if False they are None.
        answers: the file with the answers of ChID, if it is not found by its name.
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
    given = None
    check_file(path)
    with naming_other_tasks(path, "choice", encoding):
        if labelled:
            given = (
                answers_beside(path, encoding) if answers is None else (str(answers), read_answers(answers, encoding))
            )
        return _collect(str(path), _from_file(path, encoding), True, labelled, given)


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
    marks: Sequence[str] = ()
    fields: Mapping[Any, Any] | None = None


def _collect(
    name: str,
    raws: Iterator[_Raw],
    is_file: bool,
    labelled: bool,
    answers: tuple[str, Values] | None = None,
) -> ChoiceQuestions:
    items, twice, beside = [], [], 0
    for count, raw in enumerate(raws, 1):
        context = text_at(raw.where, raw.context, "context", empty=True)
        question = text_at(raw.where, raw.question, "question", empty=True)
        if not context.strip() and not question.strip():
            raise DataError(f"{raw.where}: context and question are empty; fill in one of them or remove the row")
        choices = _choices(raw)
        if len(set(choices)) < len(choices):
            twice.append(raw.where)
        answer = answer_of(raw.where, raw.answer, choices, raw.marks) if labelled else None
        if labelled and answer is None:
            answer, beside = _answer_beside(raw, choices, answers), beside + 1
        number = checked_text(raw.where, "id", str(count if raw.id is None or raw.id == "" else raw.id))
        fields = raw.fields if is_file and not labelled else None
        items.append(ChoiceQuestion(context, question, choices, answer, number, raw.line, fields))
    if not items:
        raise DataError(f"{name}: no questions; give at least one")
    note = f"{len(twice):,} of {len(items):,} questions have the same choice twice"
    notes = [f"{note} (first: {twice[0]})"] if twice else []
    if beside and answers is not None:
        notes.append(f"the answers to {beside:,} of {len(items):,} questions were read from {answers[0]}")
    return ChoiceQuestions(name, items, notes, is_file)


def _choices(raw: _Raw) -> tuple[str, ...]:
    if not isinstance(raw.choices, list | tuple) or len(raw.choices) < 2:
        raise DataError(f"{raw.where}: expected a list of at least two choices, found {quoted(raw.choices)}")
    return tuple(text_at(raw.where, choice, f"choice {number}") for number, choice in enumerate(raw.choices))


def _answer_beside(raw: _Raw, choices: tuple[str, ...], answers: tuple[str, Values] | None) -> int:
    """The answer to a question that has none of its own, from the file of answers."""
    numbered = isinstance(raw.id, str) and NUMBERED_BLANK.fullmatch(raw.id) is not None
    if answers is None or not numbered:
        hint = ", put them into a file such as train_answer.json beside train.json," if numbered else ""
        raise DataError(f"{raw.where}: no answer; add it{hint} or pass labelled=False")
    answer = answer_of(f"{answers[0]}, {raw.id}", answers[1].get(raw.id), choices, ())
    if answer is None:
        raise DataError(f"{raw.where}: no answer to {raw.id}, neither here nor in {answers[0]}; add it there")
    return answer


def _from_file(path: Path, encoding: str) -> Iterator[_Raw]:
    for document in read_documents(path, encoding):
        raws = list(_raws(f"{path}, line {document.line}", document.value, document.line))
        keys = ["question"] if isinstance(document.value, list) else []
        lines = document.lines_of(keys, len(raws)) if keys else [document.line] * len(raws)
        for line, raw in zip(lines, raws):
            yield replace(raw, where=f"{path}, line {line}", line=line)


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
    elif is_answers(value):
        raise DataError(f"{where}: holds the answers of ChID; pass the file of the texts, with this one beside it")
    elif not isinstance(value, Mapping):
        raise DataError(f"{where}: expected an object with context, question and choices, found {type(value).__name__}")
    elif "content" in value and "candidates" in value:
        yield from _chid(where, value, line)
    else:
        context, question, choices, marks, answer, number = flat_parts(value)
        yield _Raw(where, context, question, choices, answer, number, line, marks, value)


def _c3(where: str, value: Sequence[Any], line: int) -> Iterator[_Raw]:
    if not 2 <= len(value) <= 3 or not all(isinstance(part, list | tuple) for part in value[:2]):
        raise DataError(f"{where}: expected [[lines of the passage], [questions], id], found {quoted(value)}")
    context = "\n".join(text_at(where, part, "passage", empty=True) for part in value[0])
    number = value[2] if len(value) == 3 else None
    for count, row in enumerate(value[1]):
        if not isinstance(row, Mapping):
            raise DataError(f"{where}: question {count} must be an object with question, choice and answer")
        question = text_at(where, row.get("question"), f"question {count}")
        choices, marks = choices_of(by_lower_name(row))
        yield _Raw(where, context, question, choices, row.get("answer"), _numbered(number, count), line, marks, row)


def _chid(where: str, value: Mapping[str, Any], line: int) -> Iterator[_Raw]:
    contents = value["content"] if isinstance(value["content"], list) else [value["content"]]
    contents = [text_at(where, content, "content") for content in contents]
    blanks = [(content, match) for content in contents for match in _BLANKS.finditer(content)]
    if not blanks or not all(_BLANKS.search(content) for content in contents):
        raise DataError(f"{where}: the content has no blank; write {BLANK} where the choice belongs")
    choices, number = value["candidates"], value.get("id")
    apart = isinstance(choices, list) and bool(choices) and isinstance(choices[0], list)
    answers = next((value[key] for key in ("answer", "answers", "groundTruth") if value.get(key) is not None), None)
    # Test files keep the field and leave it empty.
    if answers in ("", []):
        answers = None
    if isinstance(answers, Mapping):
        answers = [answers.get(match.group()) for _, match in blanks]
    elif not isinstance(answers, list):
        answers = [answers] * len(blanks) if answers is None or len(blanks) == 1 else [answers]
    for what, count in (("lists of candidates", len(choices) if apart else len(blanks)), ("answers", len(answers))):
        if count != len(blanks):
            raise DataError(f"{where}: {count} {what} for {len(blanks)} blanks; give one for each")
    for count, (content, match) in enumerate(blanks):
        before, after = content[: match.start()], content[match.end() :]
        # One question for each blank: the others are blanks to read past, not the one that is asked for.
        context = _BLANKS.sub(OTHER_BLANK, before) + BLANK + _BLANKS.sub(OTHER_BLANK, after)
        label = number if len(blanks) == 1 else _numbered(number, count)
        label = label if match.group() == BLANK else match.group()
        listed = choices[count] if apart else choices
        yield _Raw(where, context, "", listed, answers[count], label, line, fields=value)


def _numbered(number: Any, count: int) -> str | None:
    return None if number is None else f"{number}-{count}"
