"""Long texts as overlapping windows of tokens, each token knowing its characters; and their results put together.

One rule says which window counts where several hold the same tokens: the one in which they have most tokens around
them, up to the nearer cut. Near a cut the encoder lacks the words on one side, so its scores there are worth less; an
end of the text is no cut. `merge_scores` applies the rule to single tokens, `WindowChoice` to spans that a window must
hold whole. Reading alone compares the scores themselves: they are relative to that of no answer in the same window.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from qingformer.data.spans import is_blank, trimmed
from qingformer.errors import ConfigError
from qingformer.tasks.input_templates import PairTemplate, SpecialTokenTemplate
from qingformer.tokenization import Tokenizer

Interval = tuple[int, int]


@dataclass(frozen=True, slots=True)
class TokenizedText:
    """The tokens of a text, without special ones: their ids, and the characters of each, `text[start:end]`."""

    ids: list[int]
    offsets: list[Interval]

    def tokens_of(self, start: int, end: int) -> Interval | None:
        """First and last token of the characters [start, end); None where a border lies within a token."""
        first = bisect_left(self.offsets, start, key=lambda place: place[0])
        last = bisect_right(self.offsets, end, key=lambda place: place[1]) - 1
        if first > last or self.offsets[first][0] != start or self.offsets[last][1] != end:
            return None
        return first, last

    def characters_of(self, first: int, last: int) -> Interval:
        """The characters from token `first` to token `last`, both included."""
        return self.offsets[first][0], self.offsets[last][1]


@dataclass(frozen=True, slots=True)
class Window:
    """Tokens `first` to `first + count` of text number `text`, with special tokens, and a question maybe, around them.

    `shift` is the position of the first of them in `token_ids`: what stands before are special tokens and the question.
    """

    text: int
    first: int
    count: int
    shift: int
    token_ids: list[int]
    segment_ids: list[int]


def tokenize_texts(tokenizer: Tokenizer, texts: Sequence[str]) -> list[TokenizedText]:
    """The tokens of each text. What no token covers (a stripped accent) goes with its neighbour, unless it is blank:
    white space and invisible characters belong to a token only where they stand inside it.

    >>> tokenizer = Tokenizer.from_vocabulary(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "ca", "##fe", "好"])
    >>> tokenize_texts(tokenizer, ["cafe\\u0301 好"])[0].offsets
    [(0, 2), (2, 5), (6, 7)]
    """
    encodings = tokenizer.encode_batch(texts, add_special_tokens=False)
    return [_with_offsets(text, encoding.token_ids, encoding.offsets) for text, encoding in zip(texts, encodings)]


def _with_offsets(text: str, ids: list[int], offsets: list[Interval]) -> TokenizedText:
    kept = [(token, place) for token, place in zip(ids, offsets) if place[1] > place[0]]
    places = [place for _, place in kept]
    for number, (start, end) in enumerate(places):
        before = places[number - 1][1] if number else 0
        while start > before and not is_blank(text[start - 1]):
            start -= 1
        after = places[number + 1][0] if number + 1 < len(places) else len(text)
        while end < after and not is_blank(text[end]):
            end += 1
        inner = trimmed(text, start, end)
        places[number] = inner if inner[0] < inner[1] else (start, end)  # blank characters may be all there is
    return TokenizedText([token for token, _ in kept], places)


def windows_of(
    tokenized: Sequence[TokenizedText], template: SpecialTokenTemplate, max_length: int, stride: int
) -> list[Window]:
    """Windows of at most `max_length` tokens over every text; neighbours share at least `stride` tokens.

    A text without tokens has none.

    Raises:
        ConfigError: so large a `stride` that windows would not move on.
    """
    room = max_length - len(template)
    if not 0 <= stride < room:
        raise ConfigError(f"stride is {stride}; windows of max_length {max_length} can share 0 to {room - 1} tokens")
    found = []
    for number, each in enumerate(tokenized):
        for first in starts_of(len(each.ids), room, stride) if each.ids else ():
            part = each.ids[first : first + room]
            ids = [*template.before, *part, *template.after]
            found.append(Window(number, first, len(part), len(template.before), ids, [0] * len(ids)))
    return found


def cut_into_windows(
    tokenizer: Tokenizer, texts: Sequence[str], max_length: int, stride: int
) -> tuple[list[TokenizedText], list[Window]]:
    """The texts as tokens, and their windows (see `windows_of`)."""
    tokenized = tokenize_texts(tokenizer, texts)
    return tokenized, windows_of(tokenized, SpecialTokenTemplate.of(tokenizer), max_length, stride)


def windows_beside_questions(
    questions: Sequence[TokenizedText],
    texts: Sequence[TokenizedText],
    template: PairTemplate,
    *,
    max_length: int,
    max_question_length: int,
    stride: int,
) -> list[Window]:
    """The same with a question before each window: [CLS] question [SEP] part of the text [SEP].

    Of a question longer than `max_question_length` tokens the beginning is kept. A text without tokens has one window:
    its question is answered too.

    Raises:
        ConfigError: the question leaves no room to move on with such a `stride`.
    """
    found = []
    for number, (question, text) in enumerate(zip(questions, texts)):
        asked = question.ids[:max_question_length]
        room = max_length - len(template) - len(asked)
        if not 0 <= stride < room:
            raise ConfigError(
                f"stride is {stride}, but max_length {max_length} beside a question of {len(asked)} tokens leaves "
                f"{max(room, 0)} for the text; lower stride= or max_question_length=, or raise max_length="
            )
        for first in starts_of(len(text.ids), room, stride):
            part = text.ids[first : first + room]
            ids, segments = template.joined(asked, part)
            found.append(Window(number, first, len(part), len(ids) - len(template.after) - len(part), ids, segments))
    return found


def starts_of(count: int, room: int, stride: int) -> list[int]:
    """The first tokens of windows of `room` tokens over `count`: the last window ends with the text and is full.

    >>> starts_of(10, 4, 1), starts_of(3, 4, 1)
    ([0, 3, 6], [0])
    """
    last = max(count - room, 0)
    return [*range(0, last, room - stride), last]


def merge_scores(windows: Sequence[Window], scores: Sequence[np.ndarray], lengths: Sequence[int]) -> list[np.ndarray]:
    """Scores (count, L) of windows as scores (n, L) of whole texts: a token's come from where it has most around it.

    >>> windows = [Window(0, 0, 3, 1, [], []), Window(0, 1, 3, 1, [], [])]
    >>> merge_scores(windows, [np.zeros((3, 1)), np.ones((3, 1))], [4])[0][:, 0].tolist()
    [0.0, 0.0, 1.0, 1.0]
    """
    width = scores[0].shape[1] if scores else 0
    merged = [np.zeros((length, width), np.float32) for length in lengths]
    best = [np.full(length, -1, np.int64) for length in lengths]
    for window, each in zip(windows, scores):
        context = _context(window, lengths[window.text])
        part = slice(window.first, window.first + window.count)
        better = context > best[window.text][part]
        merged[window.text][part][better] = each[better]
        best[window.text][part][better] = context[better]
    return merged


def _context(window: Window, length: int) -> np.ndarray:
    """Tokens between each token and the nearer cut of the window; an end of the text is no cut."""
    places = np.arange(window.count)
    left = places if window.first else np.full(window.count, length)
    right = places[::-1] if window.first + window.count < length else np.full(window.count, length)
    return np.minimum(left, right)


def inside(windows: Sequence[Window], stretches: Sequence[Sequence[Interval]]) -> list[list[int]]:
    """Which stretches of its text each window holds whole; `stretches` are the first and last tokens, text by text.

    >>> inside([Window(0, 0, 4, 1, [], []), Window(0, 2, 4, 1, [], [])], [[(4, 5), (0, 3), (1, 4), (2, 3)]])
    [[1, 3], [0, 3]]
    """
    orders = [sorted(range(len(each)), key=each.__getitem__) for each in stretches]
    starts = [[each[number][0] for number in order] for each, order in zip(stretches, orders)]
    found = []
    for window in windows:
        order, first, end = orders[window.text], starts[window.text], window.first + window.count
        near = order[bisect_left(first, window.first) : bisect_left(first, end)]
        found.append(sorted(number for number in near if stretches[window.text][number][1] < end))
    return found


class WindowChoice:
    """Which window of a text has most around a stretch of it: what other windows say there does not count.

    Args:
        windows: those of all texts, those of one text in order, as from `windows_of`.
        lengths: tokens of each text.

    >>> choice = WindowChoice([Window(0, 0, 4, 1, [], []), Window(0, 2, 4, 1, [], [])], [6])
    >>> choice.best(0, 3, 3), choice.best(1, 3, 3), choice.best(0, 1, 3)
    (False, True, True)
    """

    def __init__(self, windows: Sequence[Window], lengths: Sequence[int]) -> None:
        self._windows, self._lengths = windows, lengths
        self._of_text: dict[int, tuple[list[int], list[int], list[int]]] = {}
        for number, window in enumerate(windows):
            numbers, starts, ends = self._of_text.setdefault(window.text, ([], [], []))
            numbers.append(number)
            starts.append(window.first)
            ends.append(window.first + window.count)

    def best(self, number: int, first: int, last: int) -> bool:
        """Whether window `number` is the one for tokens `first` to `last`, both included; the first of equals is."""
        numbers, starts, ends = self._of_text[self._windows[number].text]
        # Starts and ends ascend: the windows that hold the stretch whole stand side by side.
        rivals = numbers[bisect_right(ends, last) : bisect_right(starts, first)] or numbers[:1]
        return number == max(rivals, key=lambda rival: (self._around(rival, first, last), -rival))

    def _around(self, number: int, first: int, last: int) -> int:
        """Tokens between the stretch and the nearer cut of a window that holds it."""
        window = self._windows[number]
        length = self._lengths[window.text]
        end = window.first + window.count
        left = first - window.first if window.first else length
        right = end - 1 - last if end < length else length
        return min(left, right)


def first_windows(
    windows: Sequence[Window], texts: int, done: Callable[[int], None] | None
) -> Callable[[Iterable[int]], None]:
    """A function that is told the numbers of finished windows and passes on how many texts they begin."""
    if done is None:
        return lambda numbers: None
    begins = {number for number, window in enumerate(windows) if window.first == 0}
    if len(begins) < texts:
        done(texts - len(begins))  # texts without any token
    return lambda numbers: done(sum(number in begins for number in numbers))
