"""Linear chains: sums over all paths of tags, the best path, and what each step alone says.

A path y_1 ... y_n has the score sum_k f_k[y_k] + sum_{k>1} g[y_{k-1}, y_k] (+ start[y_1] + end[y_n]). `make_chain`
takes these scores, the functions below say something of what it made. All is computed in float32 and relative to the
best score so far, so that long texts and scores of 1e4 keep their precision.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from keras import ops

from qingformer import backend
from qingformer.ops.classes import finite, log_sum_exp, take_class
from qingformer.types import Tensor

# e^-40 is far from underflow in float32, and e^(40 - 87) is far below its precision: see `_sums_over_previous`.
SAFE_SPAN = 40.0


class Chain(NamedTuple):
    """The scores of all paths of B texts, as `make_chain` prepares them: time first, float32, no None."""

    emissions: Tensor  # (T, B, L)
    mask: Tensor  # (T, B) bool
    first: Tensor  # (T, B) bool: the first step that counts
    transitions: Tensor  # (L, L)
    start: Tensor  # (L,)
    end: Tensor  # (L,)


def make_chain(
    emissions: Tensor,
    transitions: Tensor,
    mask: Tensor | None = None,
    start: Tensor | None = None,
    end: Tensor | None = None,
) -> Chain:
    """The chain of `emissions` f (B, T, L) and `transitions` g (L, L), whose row is the tag before.

    `mask` (B, T) is true for the steps that count: one run in each row, with padding left or right of it. `start` and
    `end` (L,) are the scores of the first and the last tag. None stands for all steps, and for zeros. Infinities count
    as +-1e30.

    Example: `make_chain(ops.zeros((1, 3, 2)), ops.zeros((2, 2)))`
    """
    # (B, T, L) to (T, B, L): the scan runs over the first axis.
    emissions = ops.transpose(finite(emissions), (1, 0, 2))
    mask = ops.ones(ops.shape(emissions)[:2], "bool") if mask is None else ops.transpose(ops.cast(mask, "bool"))
    nothing = ops.zeros((emissions.shape[-1],))
    start, end = (nothing if scores is None else finite(scores) for scores in (start, end))
    return Chain(emissions, mask, _first(mask), finite(transitions), start, end)


def negative_log_likelihood(chain: Chain, tags: Tensor) -> Tensor:
    """log(sum over all paths of e^score) - score of `tags` (B, T) int32, for each row: (B,) float32, at least 0.

    Both are run through together, so that the difference is as exact when the model is sure as it is at the start. Tags
    at masked steps may be anything in [0, L). A row without a step that counts gives 0.

    Source: Lafferty, McCallum, Pereira 2001, Conditional Random Fields.

    Example: `negative_log_likelihood(make_chain(ops.zeros((1, 3, 2)), ops.zeros((2, 2))), [[0, 1, 0]])` is `[3 log 2]`
    """
    tags = ops.transpose(ops.cast(tags, "int32"))
    last, offset = _run_forward(chain, _step_scores(chain, tags))
    value = log_sum_exp(last + chain.end) + offset - _end_score(chain, tags)
    return ops.where(ops.any(chain.mask, 0), value, 0.0)


def log_partition(chain: Chain) -> Tensor:
    """log Z = log(sum over all paths of e^score): (B,) float32; 0 for a row without a step that counts.

    a_1 = start + f_1, a_k[j] = log sum_i e^(a_{k-1}[i] + g[i, j]) + f_k[j], log Z = log sum_j e^(a_n[j] + end[j]).

    Example: `log_partition(make_chain(ops.zeros((1, 3, 2)), ops.zeros((2, 2))))` gives `[3 log 2]`
    """
    last, offset = _run_forward(chain, None)
    return ops.where(ops.any(chain.mask, 0), log_sum_exp(last + chain.end) + offset, 0.0)


def path_score(chain: Chain, tags: Tensor) -> Tensor:
    """Score of one path in each row: `tags` (B, T) int32, to (B,) float32.

    Example: `path_score(make_chain(ops.ones((1, 3, 2)), ops.ones((2, 2))), [[0, 1, 0]])` gives `[5]`
    """
    tags = ops.transpose(ops.cast(tags, "int32"))
    total = ops.sum(ops.where(chain.mask, _step_scores(chain, tags), 0.0), 0)
    return total + ops.where(ops.any(chain.mask, 0), _end_score(chain, tags), 0.0)


def marginals(chain: Chain) -> Tensor:
    """Probability of each tag at each step over all paths: (B, T, L) float32, 0 at masked steps.

    P(y_k = j) = e^(a_k[j] + b_k[j]) / Z with the sums from the left (`log_partition`) and from the right; it is the
    gradient of log Z with respect to f.

    Source: Rabiner 1989 (the forward-backward algorithm), doi 10.1109/5.18626.

    Example: `marginals(make_chain(ops.zeros((1, 3, 2)), ops.zeros((2, 2))))` is 0.5 everywhere
    """
    _, left = _scan(chain, chain.emissions, chain.start, _sums_over_previous(chain.transitions), keep=True)
    # From the right, a step is one to its successor: the same recursion, backwards and with g transposed. Its value at
    # k holds f_k, which the one from the left holds too.
    back = _reversed(chain)
    _, right = _scan(back, back.emissions, back.start, _sums_over_previous(back.transitions), keep=True)
    # Both recursions hold the emission of the step itself.
    scores = left + ops.flip(right, 0) - chain.emissions
    found = ops.exp(scores - ops.expand_dims(log_sum_exp(scores), -1))
    return ops.transpose(ops.where(ops.expand_dims(chain.mask, -1), found, 0.0), (1, 0, 2))


def viterbi(chain: Chain) -> tuple[Tensor, Tensor]:
    """The path of the highest score in each row: tags (B, T) int32, -1 at masked steps, and its score (B,) float32.

    Of paths with equal scores, the one whose last tags have lower numbers. -inf in `transitions`, `start` or `end`
    forbids; so do start and end scores of -inf for all but certain tags.

    Source: Viterbi 1967, doi 10.1109/TIT.1967.1054010.

    Example: `viterbi(make_chain(ops.array([[[0.0, 1.0], [2.0, 0.0]]]), ops.zeros((2, 2))))` gives `[[1, 0]]`, `[3]`
    """

    def best_previous(scores: Tensor) -> Tensor:
        return ops.max(ops.expand_dims(scores, -1) + chain.transitions, axis=1)

    (last, offset), scores = _scan(chain, chain.emissions, chain.start, best_previous, keep=True)
    final = last + chain.end
    tag = ops.cast(ops.argmax(final, -1), "int32")
    # Row t: the scores of all moves into tag t.
    into = ops.transpose(chain.transitions)
    # The way back needs no pointers: which tag came before is asked again, for the tag that was chosen alone.
    linked = ops.logical_and(chain.mask, ops.logical_not(chain.first))
    before = ops.concatenate([scores[:1], scores[:-1]], 0)

    def step_back(tag: Tensor, now: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        scores, linked = now
        previous = ops.cast(ops.argmax(scores + ops.take(into, tag, axis=0), -1), "int32")
        return ops.where(linked, previous, tag), tag

    elements = (ops.flip(before, 0), ops.flip(linked, 0))
    _, path = backend.scan(step_back, tag, elements, ops.shape(linked)[0])
    path = ops.where(chain.mask, ops.flip(path, 0), -1)
    score = ops.where(ops.any(chain.mask, 0), ops.max(final, -1) + offset, 0.0)
    return ops.transpose(path), score


def _first(mask: Tensor) -> Tensor:
    """The first step that counts in each row: `mask` and result (T, B) bool."""
    before = ops.concatenate([ops.zeros_like(mask[:1]), mask[:-1]], 0)
    return ops.logical_and(mask, ops.logical_not(before))


def _reversed(chain: Chain) -> Chain:
    """The chain from right to left, which gives the reversed path the same score."""
    mask = ops.flip(chain.mask, 0)
    emissions, transitions = ops.flip(chain.emissions, 0), ops.transpose(chain.transitions)
    return Chain(emissions, mask, _first(mask), transitions, chain.end, chain.start)


def _step_scores(chain: Chain, tags: Tensor) -> Tensor:
    """What each step adds to the score of the path `tags` (T, B), the end apart: (T, B), with anything where masked."""
    count = chain.transitions.shape[0]
    before = ops.concatenate([tags[:1], tags[:-1]], 0)
    moves = ops.take(ops.reshape(chain.transitions, (-1,)), before * count + tags)
    moves = ops.where(chain.first, ops.take(chain.start, tags), moves)
    return take_class(chain.emissions, tags) + moves


def _end_score(chain: Chain, tags: Tensor) -> Tensor:
    """What the last tag that counts in each row of the path `tags` (T, B) adds as the last one: (B,)."""
    steps = ops.expand_dims(ops.arange(ops.shape(tags)[0], dtype="int32"), -1)
    last = ops.max(ops.where(chain.mask, steps, 0), 0, keepdims=True)
    return ops.take(chain.end, ops.take_along_axis(tags, last, 0)[0])


def _run_forward(chain: Chain, step: Tensor | None) -> tuple[Tensor, Tensor]:
    """Sums over all paths relative to a given one: scores (B, L) with 0 as the largest, and what was taken off (B,)."""
    emissions = chain.emissions if step is None else chain.emissions - ops.expand_dims(step, -1)

    def quickly() -> tuple[Tensor, Tensor]:
        return _scan(chain, emissions, chain.start, _sums_over_previous_by_product(chain.transitions))[0]

    def exactly() -> tuple[Tensor, Tensor]:
        # Recomputed in the backward pass: T arrays of (B, L, L) would be kept otherwise, needed or not.
        def run(emissions: Tensor, transitions: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
            return _scan(chain, emissions, start, _sums_over_previous(transitions))[0]

        return backend.remat(run, emissions, chain.transitions, chain.start)

    span = ops.max(chain.transitions) - ops.min(chain.transitions)
    # A constrained CRF has transitions of -1e4, whose exponentials would all be 0 in the product.
    return ops.cond(span <= SAFE_SPAN, quickly, exactly)


def _scan(
    chain: Chain, emissions: Tensor, start: Tensor, previous: Callable[[Tensor], Tensor], keep: bool = False
) -> tuple[tuple[Tensor, Tensor], Tensor]:
    """Run `scores = previous(scores) + emissions` over the steps that count, keeping 0 as the largest score.

    Returns the last scores (B, L) and what was taken off them (B,), and with `keep` the scores of all steps (T, B, L).
    """
    batch, tags = ops.shape(emissions)[1], emissions.shape[-1]

    def advance(carry: tuple[Tensor, Tensor], now: tuple[Tensor, Tensor, Tensor]) -> tuple[Any, Any]:
        scores, offset = carry
        emission, counts, first = now
        later = ops.where(ops.expand_dims(first, -1), start, previous(scores)) + emission
        # The largest score goes into the offset, so that a long text does not drive the sums out of float32.
        top = ops.stop_gradient(ops.max(later, -1, keepdims=True))
        scores = ops.where(ops.expand_dims(counts, -1), later - top, scores)
        offset = ops.where(counts, offset + top[:, 0], offset)
        return (scores, offset), (scores if keep else offset)

    carry = ops.zeros((batch, tags)), ops.zeros((batch,))
    return backend.scan(advance, carry, (emissions, chain.mask, chain.first), ops.shape(emissions)[0])


def _sums_over_previous(transitions: Tensor) -> Callable[[Tensor], Tensor]:
    """log sum_i e^(scores[i] + g[i, j]) for any g: (B, L) to (B, L)."""

    def previous(scores: Tensor) -> Tensor:
        return log_sum_exp(ops.expand_dims(scores, -1) + transitions, axis=1)

    return previous


def _sums_over_previous_by_product(transitions: Tensor) -> Callable[[Tensor], Tensor]:
    """The same as a matrix product, e^scores times e^g, for scores whose largest is 0.

    Where g spans at most 40, the sum is at least e^-40 of the largest e^g, and a score that underflows (below -87)
    would have added less than e^-47 of it: nothing is lost in float32.
    """
    top = ops.stop_gradient(ops.max(transitions))
    weights = ops.exp(transitions - top)

    def previous(scores: Tensor) -> Tensor:
        return ops.log(ops.matmul(ops.exp(scores), weights)) + top

    return previous
