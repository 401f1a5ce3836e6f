"""The answers of ChID where they are in a file of their own: `train_answer.json` beside `train.json`."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path as FilePath

from qingformer.data.cells import plain, quoted
from qingformer.data.documents import read_documents
from qingformer.data.readers import Path, read_rows
from qingformer.errors import DataError
from qingformer.types import Config

NUMBERED_BLANK = re.compile(r"#idiom\d+#")


def answer_files(path: Path) -> Iterator[FilePath]:
    """Where the answers to the questions in `path` may be, by name; whether they are there is not looked at.

    >>> [name.name for name in answer_files("train.json")][:2]
    ['train_answer.json', 'train_answer.csv']
    """
    file = FilePath(path)
    stem, _, ending = file.name.partition(".")
    # CLUE: train.json beside train_answer.json; the competition: train_data.txt beside train_answer.csv.
    for base in dict.fromkeys((stem, stem.removesuffix("_data"))):
        for word in ("answer", "answers"):
            for suffix in dict.fromkeys((ending, "json", "csv")):
                yield file.with_name(f"{base}_{word}.{suffix}")


def answers_beside(path: Path, encoding: str) -> tuple[str, Config] | None:
    """The file of answers that belongs to `path`, and what it says, or None if there is none."""
    found = None if str(path) == "-" else next((file for file in answer_files(path) if file.is_file()), None)
    return None if found is None else (str(found), read_answers(found, encoding))


def read_answers(path: Path, encoding: str = "utf-8") -> Config:
    """The number of the right candidate by blank: a JSON object, or lines "#idiom000000#,0".

    Raises:
        DataError: another form, or an entry that is no blank.
    """
    if str(path).endswith((".csv", ".csv.gz")):
        rows = read_rows(path, "csv", columns=["blank", "number"], encoding=encoding)
        pairs = [(str(row.values["blank"]).strip(), row.values["number"]) for row in rows]
    else:
        pairs = []
        for document in read_documents(path, encoding):
            if not isinstance(document.value, Mapping):
                raise DataError(f'{path}, line {document.line}: expected {{"#idiom000000#": 0, ...}}')
            pairs += document.value.items()
    wrong = next((blank for blank, _ in pairs if not NUMBERED_BLANK.fullmatch(blank)), None)
    if wrong is not None:
        raise DataError(f"{path}: {quoted(wrong)} is not a blank; expected names such as #idiom000000#")
    return {blank: plain(number) for blank, number in pairs}


def is_answers(value: object) -> bool:
    """Whether a JSON value is such an object and not a question."""
    return isinstance(value, Mapping) and bool(value) and all(NUMBERED_BLANK.fullmatch(str(key)) for key in value)
