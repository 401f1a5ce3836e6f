"""GPLinker: entities, heads and tails as pairs of tokens that score above 0."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from qingformer.data.padded_labels import JointLabels, PairLabels
from qingformer.losses import SparseMultilabelCategoricalCrossentropy
from qingformer.models import Backbone
from qingformer.objectives import TrainableModel
from qingformer.tasks.networks import HeadBuilder
from qingformer.tasks.relations.relation_examples import TokenTriple
from qingformer.tasks.tagging.tagger_decoding import positive

OUTPUTS = ("entities", "heads", "tails")
SUBJECT, OBJECT = 0, 1
NAMES, LINKS = 200, 5000  # what is looked at in one window; only a model that has learnt nothing yet gives more


def linker_model(backbone: Backbone, pointer: str, relations: int, dropout: float, seed: int) -> TrainableModel:
    """Scores "entities" (B, 2, T, T) of subjects and objects, "heads" and "tails" (B, relations, T, T), float32.

    S(s, p, o) = S(s_h, s_t) + S(o_h, o_t) + S(s_h, o_h | p) + S(s_t, o_t | p), each part of which has to be above 0.
    """
    top = HeadBuilder(backbone, dropout, seed, "a relation extractor")
    apart = {"use_rotary": False, "upper_triangle": False}
    outputs = {
        "entities": top.pointer(pointer, 2, "entities"),
        "heads": top.pointer(pointer, relations, "heads", **apart),
        "tails": top.pointer(pointer, relations, "tails", **apart),
    }
    return top.model(outputs, "relation_extractor")


def linker_losses() -> dict[str, SparseMultilabelCategoricalCrossentropy]:
    """The loss of each output: the mean over texts and types."""
    return {name: SparseMultilabelCategoricalCrossentropy(class_axes=2) for name in OUTPUTS}


# Each loss is a mean over its types; times their number it is the sum that the design asks for.
def linker_weights(relations: int) -> dict[str, float]:
    """What makes each mean over the types a sum, as the losses are meant to be added."""
    return {"entities": 2.0, "heads": float(relations), "tails": float(relations)}


def linker_labels(windows: Sequence[Sequence[TokenTriple]], relations: int) -> JointLabels:
    """The positive pairs of each window."""
    entities = [
        [(SUBJECT, *t.subject) for t in triples] + [(OBJECT, *t.object) for t in triples] for triples in windows
    ]
    heads = [[(t.relation, t.subject[0], t.object[0]) for t in triples] for triples in windows]
    tails = [[(t.relation, t.subject[1], t.object[1]) for t in triples] for triples in windows]
    return JointLabels(
        {
            "entities": PairLabels(entities, 2),
            "heads": PairLabels(heads, relations),
            "tails": PairLabels(tails, relations),
        }
    )


def linked(outputs: dict[str, np.ndarray], first: int, last: int) -> list[TokenTriple]:
    """The triples of one window whose four scores are above 0; entities lie among the tokens `first` to `last`.

    >>> scores = {name: np.full((2 if name == "entities" else 1, 4, 4), -1.0) for name in OUTPUTS}
    >>> scores["entities"][0, 1, 1] = scores["entities"][1, 2, 3] = 1.0
    >>> scores["heads"][0, 1, 2] = scores["tails"][0, 1, 3] = 1.0
    >>> linked(scores, 1, 3)
    [TokenTriple(subject=(1, 1), relation=0, object=(2, 3))]
    """
    entities: tuple[list[tuple[int, int]], ...] = ([], [])
    inner = slice(first, last + 1)
    for kind in (SUBJECT, OBJECT):
        starts, ends = positive(np.triu(outputs["entities"][kind, inner, inner]), NAMES)
        entities[kind].extend((start + first, end + first) for start, end in zip(starts, ends))
    tied = [_by_pair(outputs[name]) for name in ("heads", "tails")]
    return list(_joined(entities[SUBJECT], entities[OBJECT], *tied))


def _by_pair(scores: np.ndarray) -> dict[tuple[int, int], set[int]]:
    found: dict[tuple[int, int], set[int]] = {}
    for relation, subject, target in zip(*positive(scores, LINKS)):
        found.setdefault((subject, target), set()).add(relation)
    return found


def _joined(
    subjects: Sequence[tuple[int, int]],
    objects: Sequence[tuple[int, int]],
    heads: dict[tuple[int, int], set[int]],
    tails: dict[tuple[int, int], set[int]],
) -> Iterator[TokenTriple]:
    by_head: dict[int, list[tuple[int, int]]] = {}
    for each in objects:
        by_head.setdefault(each[0], []).append(each)
    starts: dict[int, list[int]] = {}
    for subject_head, object_head in heads:
        starts.setdefault(subject_head, []).append(object_head)
    for subject in subjects:
        for object_head in starts.get(subject[0], ()):
            for target in by_head.get(object_head, ()):
                both = heads[subject[0], object_head] & tails.get((subject[1], target[1]), set())
                for relation in sorted(both):
                    yield TokenTriple(subject, relation, target)


def untied(outputs: Any, row: int) -> dict[str, np.ndarray]:
    """The outputs of one row of a batch."""
    return {name: outputs[name][row] for name in OUTPUTS}
