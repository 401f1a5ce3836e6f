"""Linear chains against all paths written out, and what must hold for long, extreme and padded input."""

import itertools

import numpy as np
import pytest
from keras import ops

from qingformer import backend
from qingformer.ops import chain_algorithms
from qingformer.ops.chain_algorithms import (
    log_partition,
    make_chain,
    marginals,
    negative_log_likelihood,
    path_score,
    viterbi,
)
from tests.conftest import slow_on_jax

TAGS = 3


def numpy(x):
    return ops.convert_to_numpy(x)


def chain(length=4, batch=3, tags=TAGS, scale=2.0, seed=0, boundaries=True):
    """Emissions (B, T, L), transitions, start, end in float32."""
    random = np.random.default_rng(seed)
    arrays = [random.normal(0, scale, shape) for shape in ((batch, length, tags), (tags, tags), (tags,), (tags,))]
    emissions, transitions, start, end = (array.astype("float32") for array in arrays)
    return (emissions, transitions, start, end) if boundaries else (emissions, transitions, None, None)


def padded(lengths, length, left=False):
    mask = np.zeros((len(lengths), length), bool)
    for row, count in enumerate(lengths):
        mask[row, length - count :] = left
        mask[row, :count] |= not left
        if left:
            mask[row, : length - count] = False
    return mask


def all_paths(emissions, transitions, start, end):
    """Every path of one text (T, L) with its score, in float64."""
    length, tags = emissions.shape
    arrays = [
        np.asarray(a, "float64")
        for a in (emissions, transitions, *(np.zeros(tags) if s is None else s for s in (start, end)))
    ]
    emissions, transitions, start, end = arrays
    paths = list(itertools.product(range(tags), repeat=length))
    scores = [
        start[path[0]] + end[path[-1]] + sum(emissions[k, tag] for k, tag in enumerate(path))
        + sum(transitions[a, b] for a, b in itertools.pairwise(path))
        for path in paths
    ]  # fmt: skip
    return paths, np.array(scores)


def log_sum_exp(x):
    return x.max() + np.log(np.exp(x - x.max()).sum())


@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize("boundaries", [False, True])
@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_all_of_it_is_what_all_paths_give(left, boundaries, scale):
    """Lengths 1 to 4; with scale 30 the transitions span more than the product form can hold."""
    emissions, transitions, start, end = chain(batch=4, scale=scale, boundaries=boundaries)
    assert (np.ptp(transitions) > chain_algorithms.SAFE_SPAN) == (scale > 1)
    lengths = [4, 1, 3, 2]
    mask = padded(lengths, 4, left)
    tags = np.random.default_rng(1).integers(0, TAGS, (4, 4)).astype("int32")

    def everything(f):
        made = make_chain(f, transitions, mask, start, end)
        return (
            negative_log_likelihood(made, tags),
            path_score(made, tags),
            log_partition(made),
            viterbi(made),
            marginals(made),
        )

    nll, score, partition, (best, best_score), each = backend.compile(everything)(ops.convert_to_tensor(emissions))
    for row in range(4):
        inside = mask[row]
        paths, scores = all_paths(emissions[row, inside], transitions, start, end)
        gold = scores[paths.index(tuple(tags[row, inside]))]
        assert numpy(score)[row] == pytest.approx(gold, rel=1e-5, abs=1e-5)
        assert numpy(partition)[row] == pytest.approx(log_sum_exp(scores), rel=1e-5, abs=1e-5)
        assert numpy(nll)[row] == pytest.approx(log_sum_exp(scores) - gold, rel=1e-5, abs=2e-5)
        assert tuple(numpy(best)[row, inside]) == paths[scores.argmax()]
        assert numpy(best_score)[row] == pytest.approx(scores.max(), rel=1e-5)
        weights = np.exp(scores - log_sum_exp(scores))
        expected = [[weights[[p[k] == tag for p in paths]].sum() for tag in range(TAGS)] for k in range(inside.sum())]
        np.testing.assert_allclose(numpy(each)[row, inside], expected, atol=2e-5)
    assert (numpy(best)[~mask] == -1).all()
    assert (numpy(each)[~mask] == 0).all()


def tensors(*arrays):
    return [None if array is None else ops.convert_to_tensor(array) for array in arrays]


def gradients(function, *arrays):
    return [
        numpy(g)
        for g in backend.compile(backend.value_and_grad(lambda given: ops.sum(function(*given))))(list(arrays))[1]
    ]


@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_marginals_are_the_gradient_of_the_log_partition(scale):
    emissions, transitions, start, end = chain(length=6, scale=scale)
    mask = padded([6, 2, 5], 6)

    def partition(f, g):
        return log_partition(make_chain(f, g, mask, start, end))

    by_emission, by_transition = gradients(partition, *tensors(emissions, transitions))
    each = numpy(marginals(make_chain(*tensors(emissions, transitions, mask, start, end))))
    np.testing.assert_allclose(each, by_emission, atol=2e-5)
    np.testing.assert_allclose(each.sum(-1), mask, atol=1e-5)
    assert by_transition.sum() == pytest.approx((mask.sum(1) - 1).sum(), abs=1e-4)  # a transition for each two steps


def reference_log_partition(emissions, transitions):
    """One text (T, L), in float64."""
    scores = emissions[0].astype("float64")
    for row in emissions[1:]:
        every = scores[:, None] + transitions
        scores = every.max(0) + np.log(np.exp(every - every.max(0)).sum(0)) + row
    return log_sum_exp(scores)


def reference_path_score(emissions, tags, transitions):
    steps = np.arange(len(tags))
    return emissions[steps, tags].astype("float64").sum() + transitions[tags[:-1], tags[1:]].astype("float64").sum()


@pytest.mark.parametrize("span", [3.0, 1e4])
def test_length_512_keeps_its_precision_and_its_gradients(span):
    """A small likelihood that is the difference of two numbers of 10^3 to 10^6."""
    random = np.random.default_rng(3)
    tags = random.integers(0, 9, (1, 512))
    transitions = random.uniform(-span, span, (9, 9)).astype("float32")
    emissions = random.uniform(-span, span, (1, 512, 9)).astype("float32")
    emissions[0, np.arange(512), tags[0]] += 4 * span + 4
    nll = negative_log_likelihood(make_chain(*tensors(emissions, transitions)), tags)
    expected = reference_log_partition(emissions[0], transitions) - reference_path_score(
        emissions[0], tags[0], transitions
    )
    assert float(numpy(nll)[0]) == pytest.approx(max(expected, 0), rel=1e-3, abs=1e-6)
    found = gradients(lambda f, g: negative_log_likelihood(make_chain(f, g), tags), *tensors(emissions, transitions))
    assert all(np.isfinite(g).all() for g in found)
    np.testing.assert_allclose(found[0].sum(-1), 0, atol=1e-4)


def test_both_ways_of_summing_agree_at_the_limit():
    random = np.random.default_rng(5)
    transitions = random.uniform(0, 1, (4, 4)).astype("float32")
    transitions = (transitions - transitions.min()) / np.ptp(transitions) * 39.9
    scores = -random.exponential(60, (6, 4)).astype("float32")
    scores[:, 1] = 0
    quick = chain_algorithms._sums_over_previous_by_product(ops.convert_to_tensor(transitions))
    exact = chain_algorithms._sums_over_previous(ops.convert_to_tensor(transitions))
    np.testing.assert_allclose(
        numpy(quick(ops.convert_to_tensor(scores))), numpy(exact(ops.convert_to_tensor(scores))), rtol=1e-5, atol=1e-5
    )


@slow_on_jax
def test_what_is_forbidden_is_not_on_the_path_and_gradients_stay_finite():
    emissions, transitions, start, end = chain(length=7, batch=4, seed=2)
    transitions[0, 1] = transitions[2, 2] = start[2] = end[0] = -np.inf
    best, score = (numpy(x) for x in viterbi(make_chain(*tensors(emissions, transitions, None, start, end))))
    moves = set(zip(best[:, :-1].ravel(), best[:, 1:].ravel()))
    assert not moves & {(0, 1), (2, 2)}
    assert 2 not in best[:, 0]
    assert 0 not in best[:, -1]
    for row in range(4):
        paths, scores = all_paths(emissions[row], transitions, start, end)
        assert tuple(best[row]) == paths[scores.argmax()]
        assert score[row] == pytest.approx(scores.max(), rel=1e-5)
    tags = best.astype("int32")
    found = gradients(
        lambda f, g: negative_log_likelihood(make_chain(f, g, None, *tensors(start, end)), tags),
        *tensors(emissions, transitions),
    )
    assert all(np.isfinite(g).all() for g in found)


@slow_on_jax
def test_padding_changes_nothing_and_an_empty_row_counts_for_nothing():
    emissions, transitions, _, _ = chain(length=5, batch=3)
    tags = np.random.default_rng(0).integers(0, TAGS, (3, 5)).astype("int32")
    mask = padded([3, 0, 5], 5)
    changed = np.where(mask[..., None], emissions, 1e6).astype("float32")
    results = []
    for given in (emissions, changed):
        value, path = (
            negative_log_likelihood(make_chain(*tensors(given, transitions, mask)), tags),
            viterbi(make_chain(*tensors(given, transitions, mask)))[0],
        )
        grads = gradients(
            lambda f, g: negative_log_likelihood(make_chain(f, g, mask), tags), *tensors(given, transitions)
        )
        results.append([numpy(value), numpy(path), *grads])
    for one, other in zip(*results):
        np.testing.assert_allclose(one, other, atol=1e-5)
    assert results[0][0][1] == 0
    assert (results[0][2][1] == 0).all()
    short = negative_log_likelihood(make_chain(*tensors(emissions[:1, :3], transitions)), tags[:1, :3])
    assert numpy(short)[0] == pytest.approx(results[0][0][0], rel=1e-5)
