"""Labels that depend on the width of a batch: of tokens, of spans, of starts and ends."""

from collections.abc import Sequence

import numpy as np

from qingformer.errors import DataError
from qingformer.types import Values

Place = tuple[int, int, int]  # type, first token, last token


class RowLabels:
    """One label for each example, whatever the width: `gather` gives (B, ...), 0 for rows of padding.

    >>> RowLabels(np.array([5, 6])).gather(np.array([1, -1]), 8).tolist()
    [6, 0]
    """

    def __init__(self, values: np.ndarray) -> None:
        self.values = values

    def __len__(self) -> int:
        return len(self.values)

    def gather(self, rows: np.ndarray, length: int) -> np.ndarray:
        """The labels of the examples `rows`."""
        found: np.ndarray = self.values[rows]
        found[rows < 0] = 0
        return found


class TokenLabels:
    """A label for each token: `gather` gives (B, T) int32, -1 beyond the end of an example and in rows of padding.

    `sequences` has the labels of every example, one for each of its tokens, -1 where a token has none.

    >>> TokenLabels([[-1, 3, -1], [-1, 2]]).gather(np.array([1, -1]), 4).tolist()
    [[-1, 2, -1, -1], [-1, -1, -1, -1]]
    """

    def __init__(self, sequences: Sequence[object]) -> None:
        self._sequences = [np.asarray(sequence, np.int32) for sequence in sequences]

    def __len__(self) -> int:
        return len(self._sequences)

    def gather(self, rows: np.ndarray, length: int) -> np.ndarray:
        """The labels of the examples `rows`, (B, length)."""
        found = np.full((len(rows), length), -1, np.int32)
        for place, row in enumerate(rows):
            if row >= 0:
                sequence = self._sequences[row][:length]
                found[place, : len(sequence)] = sequence
        return found


class PairLabels:
    """Positive pairs of tokens by type, for the sparse loss of pointers: `gather` gives (B, types, P, 2) int32.

    `examples` has `(type, first, second)` for every example; P is the largest number of pairs that one example has of
    one type, so that all batches have one shape. -1 fills up.

    >>> PairLabels([[(0, 1, 2)], []], types=2).gather(np.array([0, 1]), 8).tolist()
    [[[[1, 2]], [[-1, -1]]], [[[-1, -1]], [[-1, -1]]]]
    """

    def __init__(self, examples: Sequence[Sequence[Place]], types: int) -> None:
        self.types = types
        self._examples = [_by_type(places, types) for places in examples]
        self.most = max((len(pairs) for example in self._examples for pairs in example), default=0) or 1

    def __len__(self) -> int:
        return len(self._examples)

    def gather(self, rows: np.ndarray, length: int) -> np.ndarray:
        """The pairs of the examples `rows`; those that reach beyond `length` are left out."""
        found = np.full((len(rows), self.types, self.most, 2), -1, np.int32)
        for place, row in enumerate(rows):
            for number, pairs in enumerate(self._examples[row] if row >= 0 else ()):
                inside = [pair for pair in pairs if max(pair) < length]
                if inside:
                    found[place, number, : len(inside)] = inside
        return found


class StartEndLabels:
    """Ones at the first and at the last token of spans by type: `gather` gives (B, T, types, 2) float32.

    >>> StartEndLabels([[(0, 1, 2)]], types=1).gather(np.array([0]), 4)[0, :, 0].tolist()
    [[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]
    """

    def __init__(self, examples: Sequence[Sequence[Place]], types: int) -> None:
        self.types = types
        for places in examples:
            _by_type(places, types)
            for kind, first, last in places:
                if first > last:
                    raise DataError(f"labels: ({kind}, {first}, {last}) is not a span: its end is before its start")
        self._examples = [np.array(places, np.int64).reshape(-1, 3) for places in examples]

    def __len__(self) -> int:
        return len(self._examples)

    def gather(self, rows: np.ndarray, length: int) -> np.ndarray:
        """Zeros and ones of the examples `rows`, (B, length, types, 2)."""
        found = np.zeros((len(rows), length, self.types, 2), np.float32)
        for place, row in enumerate(rows):
            if row >= 0:
                kinds, starts, ends = self._examples[row].T
                inside = ends < length
                found[place, starts[inside], kinds[inside], 0] = 1
                found[place, ends[inside], kinds[inside], 1] = 1
        return found


class JointLabels:
    """Labels of several outputs by name: `gather` gives a dictionary of what each gives.

    >>> JointLabels({"kind": RowLabels(np.array([5]))}).gather(np.array([0]), 8)["kind"].tolist()
    [5]
    """

    def __init__(self, parts: Values) -> None:
        counts = {name: len(part) for name, part in parts.items()}
        if len(set(counts.values())) != 1:
            raise DataError(f"labels of several outputs: {counts}; each needs as many examples")
        self.parts = dict(parts)

    def __len__(self) -> int:
        return len(next(iter(self.parts.values())))

    def gather(self, rows: np.ndarray, length: int) -> dict[str, np.ndarray]:
        """The labels of the examples `rows`, by output."""
        return {name: part.gather(rows, length) for name, part in self.parts.items()}


def _by_type(places: Sequence[Place], types: int) -> list[list[tuple[int, int]]]:
    found: list[list[tuple[int, int]]] = [[] for _ in range(types)]
    for kind, first, second in places:
        if not 0 <= kind < types or first < 0 or second < 0:
            raise DataError(f"labels: ({kind}, {first}, {second}) is not a pair of tokens of one of {types} types")
        if (first, second) not in found[kind]:
            found[kind].append((first, second))
    return found
