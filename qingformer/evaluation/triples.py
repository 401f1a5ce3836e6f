"""Precision, recall and F1 of extracted triples (subject, relation, object)."""

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from qingformer.errors import DataError
from qingformer.evaluation.classification import ClassScore
from qingformer.evaluation.table import align
from qingformer.types import Config

Parts = tuple[str, str, str]


@dataclass(frozen=True)
class TripleReport:
    """Scores over all texts together, each from sets per text (a repeated triple counts once).

    `exact` compares whole triples, `partial` the relation and one word of subject and object (see `evaluate_triples`),
    `entity` the pairs (subject, object) without the relation. `per_relation` are the exact scores of each relation, the
    most frequent first; `texts` is their number and `text_accuracy` the share of those with exactly the right set.
    """

    exact: ClassScore
    partial: ClassScore
    entity: ClassScore
    per_relation: dict[str, ClassScore]
    text_accuracy: float
    texts: int

    @property
    def per_label(self) -> dict[str, ClassScore]:
        """`per_relation` by the name that every report has."""
        return self.per_relation

    @property
    def headline(self) -> str:
        """The scores that matter in one line."""
        return f"F1 {self.exact.f1:.4f}  precision {self.exact.precision:.4f}  recall {self.exact.recall:.4f}"

    def to_dict(self) -> Config:
        """All numbers as nested dictionaries that JSON can hold."""
        found = asdict(self)
        return {**found, "per_label": found["per_relation"]}

    def format_table(self) -> str:
        """A table of all scores as text, one row a relation."""
        named = [*self.per_relation.items(), ("partial match", self.partial), ("entity pairs", self.entity)]
        rows = [["", "precision", "recall", "F1", "triples"]]
        for name, score in [*named, ("exact match", self.exact)]:
            rows.append([name, f"{score.precision:.4f}", f"{score.recall:.4f}", f"{score.f1:.4f}", str(score.support)])
        return align([*rows, ["text accuracy", "", "", f"{self.text_accuracy:.4f}", str(self.texts)]])


# Sets for each text: a triple found twice counts once.
def evaluate_triples(
    gold: Sequence[Iterable[Sequence[str]]],
    predicted: Sequence[Iterable[Sequence[str]]],
    *,
    word: Literal["first", "last"] = "first",
) -> TripleReport:
    """Compare the predicted with the true triples of each text, both (subject, relation, object).

    With T the triples of text i, P = sum |T_i and T'_i| / sum |T'_i| and R = sum |T_i and T'_i| / sum |T_i|. For the
    partial match subject and object are first reduced to one word, what stands before the first space (`word="first"`,
    as in the script of CasRel, arXiv:1909.03227) or after the last (`word="last"`, as for sets that mark only the last
    word of a name); a text without spaces, such as Chinese, is one word, so there partial equals exact.

    Raises `DataError` for no texts, unequal numbers of texts, or something that is not three strings.

    >>> gold = [[("步步惊心", "作者", "桐华"), ("步步惊心", "主演", "刘诗诗")]]
    >>> evaluate_triples(gold, [[("步步惊心", "作者", "桐华")]]).exact
    ClassScore(precision=1.0, recall=0.5, f1=0.6666666666666666, support=2)
    """
    if len(gold) != len(predicted):
        raise DataError(
            f"{len(gold)} texts with true triples and {len(predicted)} with predicted ones; give one for each"
        )
    if not len(gold):
        raise DataError("no texts to evaluate")
    if word not in ("first", "last"):
        raise DataError(f'word={word!r}: expected "first" or "last"')
    true, found = _sets("gold", gold), _sets("predicted", predicted)
    at = 0 if word == "first" else -1

    def head(name: str) -> str:
        return (name.split() or [""])[at]

    hits: Counter[str] = Counter(relation for one, other in zip(true, found) for _, relation, _ in one & other)
    support, guesses = (Counter(relation for triples in side for _, relation, _ in triples) for side in (true, found))
    names = sorted(support | guesses, key=lambda name: (-support[name], name))
    return TripleReport(
        exact=_score(true, found, lambda triple: triple),
        partial=_score(true, found, lambda triple: (head(triple[0]), triple[1], head(triple[2]))),
        entity=_score(true, found, lambda triple: (triple[0], triple[2])),
        per_relation={name: ClassScore.from_counts(hits[name], guesses[name], support[name]) for name in names},
        text_accuracy=sum(one == other for one, other in zip(true, found)) / len(true),
        texts=len(true),
    )


def _sets(name: str, texts: Sequence[Iterable[Sequence[str]]]) -> list[set[Parts]]:
    sets: list[set[Parts]] = []
    for number, triples in enumerate(texts):
        sets.append(set())
        for triple in triples if isinstance(triples, Iterable) else [triples]:
            if (
                isinstance(triple, str)
                or not isinstance(triple, Sequence)
                or [type(part) for part in triple] != [str] * 3
            ):
                raise DataError(f"{name}, text {number}: {triple!r} is not a triple; give (subject, relation, object)")
            sets[-1].add((triple[0], triple[1], triple[2]))
    return sets


def _score(true: list[set[Parts]], found: list[set[Parts]], key: Callable[[Parts], Hashable]) -> ClassScore:
    hits = guesses = support = 0
    for one, other in zip(true, found):
        left, right = {key(triple) for triple in one}, {key(triple) for triple in other}
        hits, guesses, support = hits + len(left & right), guesses + len(right), support + len(left)
    return ClassScore.from_counts(hits, guesses, support)
