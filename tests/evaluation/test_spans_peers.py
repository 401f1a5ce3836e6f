"""Spans of tags and their scores are those of seqeval, in its default and in its strict mode."""

import random
import warnings

import numpy as np
import pytest

from qingformer.data.schemes import tags_to_spans
from qingformer.evaluation.span_scores import evaluate_spans

pytestmark = pytest.mark.peers

PREFIXES = {"bio": "BI", "bioes": "BIES"}


def rows(scheme, seed, count):
    """Pairs of tag rows of equal length, most of them impossible; with every fourth seed some tags have no label."""
    generator = random.Random(seed)
    tags = ["O", "O", *(f"{prefix}-{label}" for prefix in PREFIXES[scheme] for label in ("PER", "A-B", "LOC"))]
    tags += list(PREFIXES[scheme]) if seed % 4 == 0 else []
    for _ in range(count):
        length = generator.randint(1, 9)
        true = generator.choices(tags, k=length)
        yield true, [tag if generator.random() < 0.6 else generator.choice(tags) for tag in true]


def label_of(name):
    return "word" if name == "_" else name


def ours(score):
    return np.array([score.precision, score.recall, score.f1])


@pytest.mark.parametrize("scheme", PREFIXES)
@pytest.mark.parametrize("seed", range(8))
def test_default_entities(scheme, seed):
    sequence_labeling = pytest.importorskip("seqeval.metrics.sequence_labeling")
    for true, _ in rows(scheme, seed, 300):
        theirs = [(start, end + 1, label_of(name)) for name, start, end in sequence_labeling.get_entities(true)]
        assert tags_to_spans(true) == tags_to_spans(true, scheme) == theirs, true
        if scheme == "bioes":
            assert tags_to_spans(["M" + tag[1:] if tag[0] == "I" else tag for tag in true]) == theirs, true


@pytest.mark.parametrize("scheme", PREFIXES)
@pytest.mark.parametrize("seed", range(8))
def test_strict_entities(scheme, seed):
    peer = pytest.importorskip("seqeval.scheme")
    for true, _ in rows(scheme, seed, 300):
        entities = peer.Tokens(true, {"bio": peer.IOB2, "bioes": peer.IOBES}[scheme]).entities
        theirs = [(entity.start, entity.end, label_of(entity.tag)) for entity in entities]
        assert tags_to_spans(true, scheme, strict=True) == theirs, true


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("scheme", PREFIXES)
@pytest.mark.parametrize("seed", range(10))
def test_scores(scheme, strict, seed):
    peer = pytest.importorskip("seqeval.metrics.sequence_labeling")
    schemes = pytest.importorskip("seqeval.scheme")
    true, predicted = (list(side) for side in zip(*rows(scheme, 100 + seed, 1 + 3 * seed)))
    report = evaluate_spans(
        [tags_to_spans(row, scheme, strict) for row in true], [tags_to_spans(row, scheme, strict) for row in predicted]
    )
    if not report.per_label:
        pytest.skip("no spans: seqeval's means are then not defined")
    options = {"zero_division": 0}
    scores = peer.precision_recall_fscore_support
    if strict:
        options["scheme"] = {"bio": schemes.IOB2, "bioes": schemes.IOBES}[scheme]
        scores = peer.precision_recall_fscore_support_v1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for average in ("micro", "macro", "weighted"):
            theirs = scores(true, predicted, average=average, **options)
            assert np.allclose(ours(getattr(report, average)), theirs[:3], atol=1e-12, rtol=0), average
            assert getattr(report, average).support == theirs[3]
        theirs = scores(true, predicted, average=None, **options)
    names = sorted(report.per_label, key=lambda name: "_" if name == "word" else name)
    assert np.allclose([ours(report.per_label[name]) for name in names], np.array(theirs[:3]).T, atol=1e-12, rtol=0)
    assert [report.per_label[name].support for name in names] == theirs[3].tolist()
