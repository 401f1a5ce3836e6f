"""From the scores of windows to the spans of texts, by tokens."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from qingformer.data.schemes import TagScheme
from qingformer.data.spans import Span
from qingformer.layers.linear_chain import LinearChain
from qingformer.tasks.windows import Window, WindowChoice, merge_scores

Outputs = Iterator[tuple[np.ndarray, Any]]
Tell = Callable[[Iterable[int]], None]
# Bounds of memory: of a few long texts there are fewer in a call.
PATHS, STEPS = 64, 1 << 15  # of one call of Viterbi's algorithm: texts, and tokens of all of them together
MOST = 1000


def chain_spans(
    outputs: Outputs,
    windows: Sequence[Window],
    chain: LinearChain,
    scheme: TagScheme,
    allowed: tuple[Any, Any, Any] | None,
    lengths: Sequence[int],
    tell: Tell,
) -> list[list[Span]]:
    """Best paths through whole texts: `outputs` are scores (B, T, L) of windows."""
    scores: list[Any] = [None] * len(windows)
    for rows, found in outputs:
        for row, each in zip(rows, found):
            if row >= 0:
                scores[row] = each[windows[row].shift : windows[row].shift + windows[row].count]
        tell(rows[rows >= 0].tolist())
    # Before the decoding, so that a path runs through the whole text and not through each window for itself.
    merged = merge_scores(windows, scores, lengths)
    spans: list[list[Span]] = [[] for _ in lengths]
    order = sorted((number for number, length in enumerate(lengths) if length), key=lambda number: lengths[number])
    for part, width in _together(order, lengths):
        count = min(PATHS, max(1, STEPS // width))
        emissions = np.zeros((count, width, len(scheme.tags)), np.float32)
        mask = np.zeros((count, width), bool)
        for place, number in enumerate(part):
            emissions[place, : lengths[number]] = merged[number]
            mask[place, : lengths[number]] = True
        tags, _ = chain.decode(emissions, mask, allowed)
        for place, number in enumerate(part):
            spans[number] = scheme.decode(tags[place, : lengths[number]].tolist())
    return spans


def _together(order: Sequence[int], lengths: Sequence[int]) -> Iterator[tuple[list[int], int]]:
    """Texts to decode at once, shorter ones first, and the width they are padded to: a power of two, so few shapes."""
    part: list[int] = []
    width = 16
    for number in order:
        needed = max(16, 1 << (lengths[number] - 1).bit_length())
        if part and (needed > width or len(part) >= min(PATHS, max(1, STEPS // width))):
            yield part, width
            part = []
        width = needed
        part.append(number)
    if part:
        yield part, width


def pointer_spans(
    outputs: Outputs, windows: Sequence[Window], labels: Sequence[str], lengths: Sequence[int], tell: Tell
) -> list[list[Span]]:
    """Spans whose score is above 0 in the window that has most around them: scores (B, labels, T, T).

    Of more than `MOST` in one window, which only a model gives that has learnt nothing yet, the best are taken.
    """
    spans: list[set[Span]] = [set() for _ in lengths]
    choice = WindowChoice(windows, lengths)
    for rows, found in outputs:
        for place, row in enumerate(rows.tolist()):
            if row < 0:
                continue
            window = windows[row]
            part = slice(window.shift, window.shift + window.count)
            # The upper triangle: a span does not end before it starts.
            kinds, firsts, lasts = positive(np.triu(found[place][:, part, part]), MOST)
            for kind, first, last in zip(kinds, firsts, lasts):
                start, end = first + window.first, last + window.first
                if choice.best(row, start, end):
                    spans[window.text].add(Span(start, end + 1, labels[kind]))
        tell(rows[rows >= 0].tolist())
    return [sorted(each) for each in spans]


def positive(scores: np.ndarray, most: int) -> tuple[list[int], ...]:
    """The places of the scores above 0, axis by axis, in order; of more than `most` those of the largest.

    >>> positive(np.array([[1.0, -1.0], [3.0, 2.0]]), 2)
    ([1, 1], [0, 1])
    """
    places = np.flatnonzero(scores > 0)
    if len(places) > most:
        places = np.sort(places[np.argpartition(-scores.reshape(-1)[places], most - 1)[:most]])
    return tuple(axis.tolist() for axis in np.unravel_index(places, scores.shape))
