"""Exact match and F1 of answers that are parts of a text, as CMRC 2018 and SQuAD count them."""

import re
import string
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from qingformer.data.reading import Question
from qingformer.errors import DataError
from qingformer.evaluation.classification import ClassScore
from qingformer.evaluation.table import align
from qingformer.types import Config

Metric = Literal["cmrc", "squad"]

CMRC_PUNCTUATION = "-:_*^/\\~`+=，。：？！“”；’《》·、「」（）－～『』"
_DROP = {
    "cmrc": str.maketrans("", "", CMRC_PUNCTUATION),
    "squad": str.maketrans("", "", string.punctuation),
}
_ARTICLES = re.compile(r"\b(a|an|the)\b")
_CHINESE, _SIGNS, _ENDS = r"\u4e00-\u9fa5", r";@#$%&?!()\[\]{}<>\"–—", r"\s*(?:$|[\u4e00-\u9fa5])"
_TOKENS = re.compile(
    rf"[{_CHINESE}{_SIGNS}]|,(?!\d)|\.{{2,}}|\.(?={_ENDS})|(?:[^\s,.{_CHINESE}{_SIGNS}]|,(?=\d)|\.(?!\.|{_ENDS}))+"
)


@dataclass(frozen=True)
class ReadingReport:
    """Mean scores from 0 to 1 over `count` questions: `exact` match, `f1`, and their `average` (exact + f1) / 2.

    The same for the `answerable` questions alone; `unanswerable_exact` is the share of the `unanswerable` ones that
    were left without an answer. A mean over no question is 0.
    """

    exact: float
    f1: float
    average: float
    count: int
    answerable_exact: float
    answerable_f1: float
    answerable: int
    unanswerable_exact: float
    unanswerable: int

    @property
    def per_label(self) -> dict[str, ClassScore]:
        """Nothing: answers have no labels."""
        return {}

    @property
    def headline(self) -> str:
        """The scores that matter in one line."""
        return f"exact {self.exact:.4f}  F1 {self.f1:.4f}  average {self.average:.4f}"

    def to_dict(self) -> Config:
        """All numbers as a dictionary that JSON can hold."""
        return asdict(self)

    def format_table(self) -> str:
        """A table of all scores as text; what is not answerable has no row if there is none."""
        rows = [["", "exact", "F1", "average", "questions"]]
        named = [("all", self.exact, self.f1, self.count)]
        if self.unanswerable:
            named.append(("answerable", self.answerable_exact, self.answerable_f1, self.answerable))
            named.append(("not answerable", self.unanswerable_exact, self.unanswerable_exact, self.unanswerable))
        for name, exact, f1, count in named:
            rows.append([name, f"{exact:.4f}", f"{f1:.4f}", f"{(exact + f1) / 2:.4f}", str(count)])
        return align(rows)


def evaluate_reading(
    questions: Sequence[Question], answers: Sequence[str], *, metric: Metric = "cmrc"
) -> ReadingReport:
    """Compare the answer of each question with its references; the best reference counts, for exact match and for F1.

    `metric="cmrc"` (CMRC 2018, arXiv:1810.07366): texts are equal after `normalize_answer`; F1 is of the longest common
    run of tokens, with L its length P = L / |answer| and R = L / |reference|, over Chinese characters and other words.
    The script of CMRC 2018 cuts the other words with NLTK; here they are cut at spaces, most ASCII signs and a last
    full stop, which agrees on all but rare answers (those with English contractions or quotes). `metric="squad"`
    (SQuAD 2, arXiv:1806.03822): F1 is of the bags of words. The right answer to what is not answerable is "".

    Raises `DataError` for no questions, unequal lengths, unlabelled questions, or an answer that is not a text.

    >>> question = Question("1", "范廷颂生于1919年6月15日", "何时出生?", ((5, "1919年6月15日"),))
    >>> report = evaluate_reading([question], ["1919年"])
    >>> report.exact, round(report.f1, 4)
    (0.0, 0.5)
    """
    if len(questions) != len(answers):
        raise DataError(f"{len(questions)} questions and {len(answers)} answers; give one answer for each question")
    if not len(questions):
        raise DataError("no questions to evaluate")
    _check_metric(metric)
    scores: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
    for number, (question, answer) in enumerate(zip(questions, answers)):
        if not isinstance(answer, str):
            raise DataError(f'answer {number} is {type(answer).__name__}, not text; give "" for no answer')
        if question.answers is None:
            raise DataError(
                f"question {number} ({question.id}) has no answers to compare with; read it with labelled=True"
            )
        references = question.references or tuple(text for _, text in question.answers)
        compared = [_compare(reference, answer, metric) for reference in dict.fromkeys(references or ("",))]
        best = max(exact for exact, _ in compared), max(f1 for _, f1 in compared)
        scores[question.answerable and bool(references)].append(best)
    exact, f1 = _means(scores[True] + scores[False])
    answerable_exact, answerable_f1 = _means(scores[True])
    return ReadingReport(
        exact=exact,
        f1=f1,
        average=(exact + f1) / 2,
        count=len(questions),
        answerable_exact=answerable_exact,
        answerable_f1=answerable_f1,
        answerable=len(scores[True]),
        unanswerable_exact=_means(scores[False])[0],
        unanswerable=len(scores[False]),
    )


# Both official scripts, to the letter: scores are compared with published ones.
def normalize_answer(text: str, metric: Metric = "cmrc") -> str:
    """What exact match compares: lower case without punctuation.

    For "cmrc" the signs of `CMRC_PUNCTUATION` go and space at the ends, as in the script of CMRC 2018: space inside and
    signs such as "," or "." stay. For "squad" all ASCII punctuation and the articles a, an, the go, and space is one
    blank between words.

    >>> normalize_answer("《步步惊心》。"), normalize_answer("The  U.S. Army", "squad")
    ('步步惊心', 'us army')
    """
    _check_metric(metric)
    text = text.lower().strip().translate(_DROP[metric])
    return text if metric == "cmrc" else " ".join(_ARTICLES.sub(" ", text).split())


def _check_metric(metric: str) -> None:
    if metric not in ("cmrc", "squad"):
        raise DataError(f'metric={metric!r}: expected "cmrc" or "squad"')


def _compare(reference: str, answer: str, metric: Metric) -> tuple[float, float]:
    """Exact match and F1 of one answer with one reference."""
    wanted, given = normalize_answer(reference, metric), normalize_answer(answer, metric)
    exact = float(wanted == given)
    if metric == "cmrc":
        left, right = _TOKENS.findall(wanted), _TOKENS.findall(given)
        common = _longest_run(left, right)
    else:
        left, right = wanted.split(), given.split()
        common = (Counter(left) & Counter(right)).total()
    if not left or not right:
        return exact, exact
    return exact, 2 * common / (len(left) + len(right))


def _longest_run(left: Sequence[str], right: Sequence[str]) -> int:
    """The length of the longest run of tokens that is in both.

    >>> _longest_run("甲乙丙丁", "丙丁乙丙")
    2
    """
    longest, before = 0, [0] * (len(right) + 1)
    for one in left:
        now = [0]
        for position, other in enumerate(right):
            now.append(before[position] + 1 if one == other else 0)
        longest, before = max(longest, *now), now
    return longest


def _means(scores: list[tuple[float, float]]) -> tuple[float, float]:
    if not scores:
        return 0.0, 0.0
    return sum(exact for exact, _ in scores) / len(scores), sum(f1 for _, f1 in scores) / len(scores)
