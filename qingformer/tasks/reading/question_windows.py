"""A question beside windows of a long text: [CLS] question [SEP] part of the text [SEP]."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from qingformer.errors import ConfigError
from qingformer.tasks.windows import TokenizedText
from qingformer.tokenization import Tokenizer


@dataclass(frozen=True, slots=True)
class QuestionWindow:
    """Tokens `first` to `first + count` of the text of question number `question`; they begin at place `shift`."""

    question: int
    first: int
    count: int
    shift: int
    token_ids: list[int]
    segment_ids: list[int]


@dataclass(frozen=True)
class PairTemplate:
    """The special tokens before, between and after two texts, and the segments of the two sides."""

    before: list[int]
    between: list[int]
    after: list[int]
    segments: tuple[int, int]

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> "PairTemplate":
        """Read off from what the tokenizer makes of two letters."""
        encoding = tokenizer.encode("a", "a")
        ids, which = encoding.token_ids, encoding.sequence_ids
        left = [place for place, side in enumerate(which) if side == 0]
        right = [place for place, side in enumerate(which) if side == 1]
        segments = encoding.segment_ids
        return cls(
            ids[: left[0]], ids[left[-1] + 1 : right[0]], ids[right[-1] + 1 :],
            (segments[left[0]], segments[right[0]]),
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self.before) + len(self.between) + len(self.after)

    def joined(self, left: Sequence[int], right: Sequence[int]) -> tuple[list[int], list[int]]:
        """Token and segment ids of two sides."""
        head, tail = [*self.before, *left, *self.between], [*right, *self.after]
        return [*head, *tail], [self.segments[0]] * len(head) + [self.segments[1]] * len(tail)


def question_windows(
    questions: Sequence[TokenizedText],
    contexts: Sequence[TokenizedText],
    template: PairTemplate,
    *,
    max_length: int,
    max_question_length: int,
    stride: int,
) -> list[QuestionWindow]:
    """Windows of at most `max_length` tokens over every text; neighbours share at least `stride` of its tokens.

    Of a question longer than `max_question_length` tokens the beginning is kept.

    Raises:
        ConfigError: the question leaves no room to move on with such a `stride`.
    """
    found = []
    for number, (question, context) in enumerate(zip(questions, contexts)):
        asked = question.ids[:max_question_length]
        room = max_length - len(template) - len(asked)
        if not 0 <= stride < room:
            raise ConfigError(
                f"stride is {stride}, but max_length {max_length} beside a question of {len(asked)} tokens leaves "
                f"{max(room, 0)} for the text; lower stride= or max_question_length=, or raise max_length="
            )
        last = max(len(context.ids) - room, 0)
        for first in [*range(0, last, room - stride), last]:
            part = context.ids[first : first + room]
            ids, segments = template.joined(asked, part)
            shift = len(ids) - len(template.after) - len(part)
            found.append(QuestionWindow(number, first, len(part), shift, ids, segments))
    return found


class AnswerMask:
    """Where an answer may lie: `gather` gives (B, T) int32, 1 at the tokens of the text and at place 0, no answer.

    >>> AnswerMask([QuestionWindow(0, 0, 2, 3, [2, 5, 3, 6, 7, 3], [0] * 6)]).gather(np.array([0]), 8).tolist()
    [[1, 0, 0, 1, 1, 0, 0, 0]]
    """

    def __init__(self, windows: Sequence[QuestionWindow]) -> None:
        self._places = np.array([(window.shift, window.shift + window.count) for window in windows]).reshape(-1, 2)

    def __len__(self) -> int:
        return len(self._places)

    def gather(self, rows: np.ndarray, length: int) -> np.ndarray:
        """The masks of the examples `rows`."""
        places = np.where(rows[:, None] >= 0, self._places[rows], 0)
        steps = np.arange(length)
        found = (steps >= places[:, :1]) & (steps < places[:, 1:])
        found[:, 0] = True
        return found.astype(np.int32)
