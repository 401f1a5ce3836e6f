"""Tagged texts as columns, as folders for brat, and in colour."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from rich.text import Text

from qingformer.data.schemes import WORD
from qingformer.data.spans import Span, longest_disjoint
from qingformer.data.tagging import to_brat, to_columns
from qingformer.files import atomic_directory
from qingformer.tasks.tagging.tagged_texts import Tagging, words_between

COLORS = (
    "green", "magenta", "cyan", "yellow", "blue", "red", "bright_green", "bright_magenta", "bright_cyan",
    "bright_yellow", "bright_blue", "bright_red",
)  # fmt: skip
# Control characters would move the cursor of a terminal.
_ONE_LINE = dict.fromkeys((*range(32), 127), " ")


def words_of(tagging: Tagging) -> list[str]:
    """The words of a segmented text."""
    return [tagging.text[span.start : span.end] for span in word_spans(tagging)]


def word_spans(tagging: Tagging) -> list[Span]:
    """Words that cover the text but for its white space: those found, and what lies between them.

    >>> word_spans(Tagging("今天 好", ()))
    [Span(start=0, end=2, label='word'), Span(start=3, end=4, label='word')]
    """
    kept, _ = longest_disjoint(tagging.spans)
    return [Span(start, end, WORD) for start, end in words_between(tagging.text, kept)]


def line_by_line(answers: Iterable[str], examples: Any) -> Iterator[str]:
    """An answer for each line of the file, blank where the line was."""
    written = 0
    for example, answer in zip(examples, answers):
        for _ in range(example.line - 1 - written if examples.lines else 0):
            yield ""
        written = example.line
        yield answer
    for _ in range(examples.lines - written):
        yield ""


@dataclass
class TagColumns:
    """Lines of tokens and tags. A tag stands for whole tokens and a token has one tag, so spans may have to change.

    With `covering` every token is in a word, as the tags B, M, E and S want it.
    """

    scheme: str
    covering: bool = False
    widened: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)

    def lines(self, examples: Any, predictions: Iterable[Tagging]) -> Iterator[str]:
        """A line a token, with the tokens of the file if it had some, and an empty line after each text."""
        for number, found in enumerate(predictions):
            spans = word_spans(found) if self.covering else list(found.spans)
            tokens = examples[number].tokens
            if tokens is not None:
                whole = [_whole(span, tokens) for span in spans]
                self.widened += [examples.where(number)] * sum(one != other for one, other in zip(spans, whole))
                spans = whole
            kept, lost = longest_disjoint(spans)
            self.dropped += [examples.where(number)] * lost
            yield from to_columns(found.text, kept, tokens, self.scheme)
            yield ""

    def notes(self) -> list[str]:
        """What was changed, and where first."""
        said = (
            (self.widened, "begin or end within a token of the file and were widened to whole tokens"),
            (self.dropped, "overlap a longer one, which a column file cannot say, and were left out"),
        )
        return [f"{len(where)} spans {what} (first: {where[0]})" for where, what in said if where]


def _whole(span: Span, tokens: Sequence[tuple[int, int]]) -> Span:
    first = bisect_right(tokens, span.start, key=lambda place: place[1])
    last = bisect_left(tokens, span.end, key=lambda place: place[0]) - 1
    return Span(tokens[first][0], tokens[last][1], span.label) if first <= last else span


def write_brat(predictions: Sequence[Tagging], folder: Path) -> None:
    """A file `0001.txt` with each text and `0001.ann` with its spans; the folder is whole or absent."""
    width = max(4, len(str(len(predictions))))
    with atomic_directory(folder) as temporary:
        for number, found in enumerate(predictions, 1):
            for ending, content in (("txt", found.text), ("ann", to_brat(found.text, found.spans))):
                path = temporary / f"{number:0{width}}.{ending}"
                path.write_text(content, encoding="utf-8", newline="")  # offsets count the line ends as they are


def coloured(tagging: Tagging, labels: Sequence[str]) -> Text:
    """The text in one line with its entities in colour, each followed by its label and place.

    >>> from qingformer.tasks import Entity
    >>> coloured(Tagging("我在北京", (Entity(2, 4, "LOC", "北京"),)), ["LOC"]).plain
    '我在北京[LOC 2:4]'
    """
    shown, styles = Text(), {label: COLORS[place % len(COLORS)] for place, label in enumerate(labels)}
    text = tagging.text.translate(_ONE_LINE)
    by_length = sorted(tagging.entities, key=lambda entity: (entity.end - entity.start, entity.start, entity.label))
    borders = sorted({0, len(text), *(place for each in by_length for place in (each.start, each.end))})
    for start, end in pairwise(borders):
        inner = next((each for each in by_length if each.start <= start and end <= each.end), None)
        shown.append(text[start:end], f"bold {styles[inner.label]}" if inner else "")
        for each in by_length:
            if each.end == end:
                shown.append(f"[{each.label} {each.start}:{each.end}]", styles[each.label])
    return shown
