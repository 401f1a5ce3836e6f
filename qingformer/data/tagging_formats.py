"""What a file of tagged texts looks like: its format by suffix and first lines, or one line that says what was seen."""

import re
from collections import Counter
from collections.abc import Sequence
from itertools import islice
from pathlib import Path as FilePath

from qingformer.data.column_layout import MOST, columns_of, divided_tags, has_named
from qingformer.data.readers import Path
from qingformer.data.tag_notation import tag_share
from qingformer.data.tagging_inline import form_of, word_with_speech
from qingformer.data.text_lines import bare_suffix, open_lines
from qingformer.errors import DataError

FORMATS = ("bio", "json", "csv", "words", "brat", "text")
_SUFFIXES = {
    ".json": "json", ".jsonl": "json", ".ndjson": "json", ".csv": "csv", ".conll": "bio", ".conllu": "bio",
    ".bio": "bio", ".bioes": "bio", ".iob": "bio", ".iob2": "bio",
}  # fmt: skip
_LOOKED_AT = 200
_MARK = re.compile(r"T\d+\t\S+ \d+ \d+")
_HELP = f"pass format= one of {', '.join(FORMATS)}"


def first_lines(path: Path, encoding: str) -> list[str]:
    """The first lines that are not blank."""
    with open_lines(path, encoding) as lines:
        return list(islice((line for _, line in lines if line.strip()), _LOOKED_AT))


def format_of(path: Path, labelled: bool, encoding: str, segmented: bool | None) -> str:
    """The format of a file, one of `FORMATS`, or "auto" for standard input."""
    suffix = bare_suffix(path)
    if suffix in _SUFFIXES:
        return _SUFFIXES[suffix]
    if str(path) == "-":
        if labelled:
            raise DataError(f"-: the format of standard input is not guessed; {_HELP}")
        return "auto"
    first = first_lines(path, encoding)
    if not first:
        raise DataError(f"{path}: is empty; give a file with at least one text")
    begin = first[0].strip()
    if begin.startswith(("{", "[{")) or begin == "[":
        return "json"
    if _is_tagged(first):
        return "bio"
    if not labelled:
        return "text"
    return _words_or_error(path, first, suffix, segmented)


def _is_tagged(lines: Sequence[str]) -> bool:
    """Whether some column of most lines holds tags, or their words carry them."""
    rows = [columns_of(line) for line in lines if not line.startswith("-DOCSTART-")]
    common = Counter(map(len, rows)).most_common(1)[0][0] if rows else 0
    rows = [fields for fields in rows if not (fields[0].startswith("#") and len(fields) != common)]  # comments
    count, rows = len(rows), [fields for fields in rows if len(fields) > 1]
    last = [fields[-1] for fields in rows]
    if 2 * len(rows) > count and (tag_share(last) > MOST or 2 * sum(map(has_named, last)) > count):
        return True
    width = len(rows[0]) if rows else 0
    if len(rows) == count and all(len(fields) == width for fields in rows):
        for place in range(width - 1):  # a text may begin with the word I, so tags must have labels there
            cells = [fields[place] for fields in rows]
            if tag_share(cells) > MOST and any(len(cell) > 2 for cell in cells):
                return True
    return divided_tags(rows) is not None or form_of(lines) is not None


def _words_or_error(path: Path, lines: Sequence[str], suffix: str, segmented: bool | None) -> str:
    """ "words", or an error if the lines are something else, or if they may only be that where `segmented` says so."""
    seen = f"{path}: not recognised (first line {lines[0].strip()[:60]!r})"
    if _MARK.match(lines[0]):
        raise DataError(
            f"{path}: looks like an annotation file of brat; name it .ann, beside its .txt, or name its folder"
        )
    beside = FilePath(path).with_suffix(".ann")
    if beside != FilePath(path) and beside.is_file():
        raise DataError(
            f"{path}: is the text of {beside.name}, an annotation file of brat; name that file, or the folder"
        )
    speech = word_with_speech(lines)
    if speech is not None:
        raise DataError(
            f"{path}: its words carry parts of speech ({speech[:40]!r}), not tags; for entities write 李/B-PER "
            "雷/I-PER or a token and its tag a line, for words remove what follows: sed -E 's#[/_][A-Za-z]+[0-9]?##g'"
        )
    counts = [len(line.split()) for line in lines]
    if max(counts) < 2:
        raise DataError(
            f"{seen}: no labels found: neither JSON objects, nor lines of token and tag, nor words between spaces; "
            f"{_HELP}, or labelled=False"
        )
    if segmented is None:
        segmented = suffix == ".utf8" or len(set(counts)) > 3
    if not segmented:
        raise DataError(
            f"{seen}: no column holds tags such as B-PER, I-PER, O; write a token and its tag a line, or JSON; for "
            f'words between spaces pass format="words"'
        )
    return "words"
