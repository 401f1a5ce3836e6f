"""The parts of a multiple-choice question in a row of any layout: its choices, and which of them is right."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from qingformer.data.cells import is_missing, plain, quoted, strip
from qingformer.errors import DataError
from qingformer.types import Config, Values

CHOICES = ("choices", "choice", "candidates", "options", "endings")
ANSWER = ("answer", "label", "answerkey", "answer_key", "gold", "correct")
CONTEXT, QUESTION = ("context", "passage", "article", "premise"), ("question", "query", "stem")
# One column for each choice: A, option_b, ending3, 选项A.
_NUMBERED = re.compile(r"(|option|choice|candidate|answer|ending|opt|op|选项)[ _-]?([a-z]|\d)", re.ASCII)
_LETTER = re.compile(r"[(（]?([A-Za-z])[)）.．、:：]?")


def by_lower_name(row: Mapping[object, object]) -> Config:
    """The fields of a row by their names in lower case, without space around them.

    >>> by_lower_name({"Question": "?", " A": "x"})
    {'question': '?', 'a': 'x'}
    """
    return {strip(str(key)).casefold(): value for key, value in row.items()}


def first_of(row: Values, names: Sequence[str]) -> Any:
    """The value of the first field there is that is not empty, or None."""
    return next((row[name] for name in names if name in row and not is_missing(row[name])), None)


def choices_of(row: Values) -> tuple[Any, list[str]]:
    """The choices of a row with names in lower case, None if there are none, and their letters where these are named.

    They are a list, an object with letters, lists of labels and texts, or fields such as A, B, C or option_1, option_2.

    >>> choices_of({"question": "?", "a": "x", "b": "y"})
    (['x', 'y'], ['a', 'b'])
    """
    found = first_of(row, CHOICES)
    if isinstance(found, Mapping):
        texts, labels = found.get("text"), found.get("label")
        if isinstance(texts, list) and isinstance(labels, list) and len(texts) == len(labels):
            return texts, [str(label).casefold() for label in labels]
        return list(found.values()), [str(key).casefold() for key in found]
    if isinstance(found, list) and found and all(isinstance(each, Mapping) for each in found):
        return [each.get("text") for each in found], [str(each.get("label")).casefold() for each in found]
    if found is not None:
        return (found.tolist() if hasattr(found, "tolist") and not isinstance(found, str) else found), []
    return _numbered(row)


def _numbered(row: Values) -> tuple[Any, list[str]]:
    groups: dict[str, Config] = {}
    for key, value in row.items():
        match = _NUMBERED.fullmatch(key)
        if match and not is_missing(value):
            groups.setdefault(match[1], {})[match[2]] = value
    for fields in groups.values():
        marks = sorted(fields)
        # Without gaps from the first on; anything else happens to look like columns of choices.
        if len(marks) > 1 and marks[0] in "a01" and ord(marks[-1]) - ord(marks[0]) == len(marks) - 1:
            return [fields[mark] for mark in marks], marks
    return None, []


def answer_of(where: str, given: object, choices: Sequence[str], marks: Sequence[str]) -> int | None:
    """The number of the right choice: `given` is its text, its number from 0, its mark or its letter; None if missing.

    >>> [answer_of("", given, ["晴", "雨"], []) for given in ("雨", "B", 1.0, "")]
    [1, 1, 1, None]
    """
    value = plain(given)
    if is_missing(value):
        return None
    if isinstance(value, str):
        number = _by_text(value, choices, marks)
    else:
        whole = isinstance(value, int | float) and not isinstance(value, bool) and value == value // 1
        number = int(value) if whole else None
    if number is not None and 0 <= number < len(choices):
        return number
    raise DataError(
        f"{where}: the answer {quoted(given)} is not among the {len(choices)} choices ({', '.join(choices)[:150]}); "
        f"write one of them, its letter, or its number, 0 to {len(choices) - 1}"
    )


def _by_text(value: str, choices: Sequence[str], marks: Sequence[str]) -> int | None:
    stripped = strip(value)
    # As text first: among the choices "1", "2", "3" the answer "2" is the second, not the third.
    for wanted, among in ((value, list(choices)), (stripped, [strip(each) for each in choices])):
        if wanted in among:
            return among.index(wanted)
    if stripped.casefold() in marks:
        return list(marks).index(stripped.casefold())
    if stripped.isdecimal() and len(stripped) < 4:
        return int(stripped)
    letter = _LETTER.fullmatch(stripped)
    return ord(letter[1].upper()) - ord("A") if letter else None


def flat_parts(row: Mapping[object, object]) -> Iterator[Any]:
    """Context, question, choices, their marks, answer and id of a flat row."""
    fields = by_lower_name(row)
    if isinstance(fields.get("question"), Mapping):  # OpenBookQA has its stem and choices in there
        fields |= by_lower_name(fields.pop("question"))
    context, question = first_of(fields, CONTEXT), first_of(fields, QUESTION)
    choices, marks = choices_of(fields)
    yield from ("" if context is None else context, "" if question is None else question)
    yield from (choices, marks, first_of(fields, ANSWER), first_of(fields, ("id", "idx")))
