"""Where in a window an answer may lie."""

from collections.abc import Sequence

import numpy as np

from qingformer.tasks.windows import Window


class AnswerMask:
    """Where an answer may lie: `gather` gives (B, T) int32, 1 at the tokens of the text and at position 0, no answer.

    >>> AnswerMask([Window(0, 0, 2, 3, [2, 5, 3, 6, 7, 3], [0] * 6)]).gather(np.array([0]), 8).tolist()
    [[1, 0, 0, 1, 1, 0, 0, 0]]
    """

    def __init__(self, windows: Sequence[Window]) -> None:
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
