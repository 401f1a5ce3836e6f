"""Reading comprehension: the part of a text that answers a question, or that there is none."""

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, get_args

import keras
import numpy as np

from qingformer.data import PaddedBatches
from qingformer.data.reading import Question, Questions, questions_from_rows, read_reading
from qingformer.errors import ConfigError, DataError
from qingformer.evaluation.reading_scores import Metric, ReadingReport, evaluate_reading
from qingformer.layers.global_pointer import IMPOSSIBLE
from qingformer.losses import SpanCrossentropy
from qingformer.models import Backbone
from qingformer.models.fine_tuned import ANSWERS, StoredHead
from qingformer.objectives import TrainableModel
from qingformer.tasks.head_labels import Unusable
from qingformer.tasks.input_templates import PairTemplate
from qingformer.tasks.networks import HeadBuilder
from qingformer.tasks.predictor import asked, rows_for
from qingformer.tasks.reading.answer_mask import AnswerMask
from qingformer.tasks.task import Task
from qingformer.tasks.task_registry import register_task
from qingformer.tasks.windows import TokenizedText, Window, tokenize_texts, windows_beside_questions
from qingformer.tokenization import Tokenizer
from qingformer.types import Config, DtypeLike, Values

# As many as BERT's own script for SQuAD keeps (n_best_size).
CANDIDATES = 20  # spans of a window among which probabilities are shared


@dataclass(frozen=True, slots=True)
class Answer:
    """A part of a text, characters [start, end), and its probability among the best; "" is no answer."""

    text: str
    start: int
    end: int
    probability: float


@dataclass(frozen=True, slots=True)
class Reading:
    """What a reader says to one question: the best answers, likeliest first."""

    id: str
    question: str
    answers: tuple[Answer, ...]

    def to_dict(self) -> Config:
        """Everything as dictionaries, lists and numbers that JSON can hold."""
        return asdict(self)

    @property
    def answer(self) -> str:
        """The text of the likeliest answer, "" for none."""
        return self.answers[0].text if self.answers else ""


@register_task("reading-comprehension")
class ReadingComprehension(Task):
    """An encoder that reads a question and a text together and points at the first and last token of the answer.

        p(start = i) = softmax over the tokens of the text of h_i . w_start;   the end likewise

    Texts that are too long are read in windows. Position 0 stands for "not in this window": the score of a span is
    s_start + s_end less that of position 0 of its window, so spans of different windows compare; where all spans of
    all windows are below 0 and the task knows questions without answer, there is none.

    Args:
        backbone, tokenizer: as in `Task`.
        no_answer: whether a question may have no answer; None to find out from the training data.
        max_length: longest input in tokens: question, window and special tokens.
        max_question_length: longer questions are cut.
        max_answer_length: longest answer in tokens.
        stride: how many tokens neighbouring windows share at least; by default a third of `max_length` up to 128.
        dropout: rate before the head. seed: of its start.

    Raises:
        ConfigError: sizes that do not fit each other.

    Source: Devlin et al. 2018 (arXiv 1810.04805, section 4.3); Cui et al. 2019 (arXiv 1810.07366, CMRC 2018).

    Example:
        >>> rows = [("桐华写了步步惊心", "谁写了步步惊心？", "桐华")] * 8
        >>> reader = ReadingComprehension.from_scratch("tiny", max_length=48, stride=8)
        >>> _ = reader.fit(rows, epochs=1, batch_size=8, verbose=0)
        >>> len(reader.predict([("桐华写了步步惊心", "谁写了步步惊心？")]))
        1
    """

    settings_types: ClassVar[dict[str, type]] = {
        "no_answer": bool, "max_length": int, "max_question_length": int, "max_answer_length": int, "stride": int,
        "dropout": float,
    }  # fmt: skip
    scores = ("f1", "exact")
    identity = ("no_answer",)
    huggingface_head = ANSWERS

    def __init__(
        self,
        backbone: Backbone | None,
        tokenizer: Tokenizer | None,
        *,
        no_answer: bool | None = None,
        max_length: int = 384,
        max_question_length: int = 64,
        max_answer_length: int = 64,
        stride: int | None = None,
        dropout: float = 0.1,
        seed: int = 0,
        size: str | None = None,
        dtype: DtypeLike = None,
    ) -> None:
        if max_question_length < 1 or max_answer_length < 1:
            raise ConfigError(
                f"max_question_length is {max_question_length} and max_answer_length {max_answer_length}; "
                "both must be 1 or more"
            )
        self.no_answer = no_answer
        self.max_question_length, self.max_answer_length = max_question_length, max_answer_length
        self.stride = min(128, max_length // 3) if stride is None else stride
        super().__init__(backbone, tokenizer, max_length=max_length, dropout=dropout, seed=seed, size=size, dtype=dtype)

    def evaluate(
        self,
        test: Any,
        *,
        metric: Metric = "cmrc",
        batch_size: int = 32,
        done: Callable[[int], None] | None = None,
        **reading: Any,
    ) -> ReadingReport:
        """Compare answers with those of `test`: exact match and F1, as CMRC 2018 or SQuAD (`metric`) count them.

        Raises:
            DataError: unlabelled questions, or what is wrong with the data, with its file and line.
        """
        self.ready()
        questions = self.read(test, "test data", **reading)
        self.check_examples(questions)
        return evaluate_reading(questions, [each.answer for each in self._answer(questions, 1, batch_size, done)],
                                metric=metric)  # fmt: skip

    def predict(
        self,
        questions: Any,
        *,
        n_best: int = 1,
        batch_size: int = 32,
        done: Callable[[int], None] | None = None,
        **reading: Any,
    ) -> list[Reading]:
        """Answer questions: (context, question) pairs, dictionaries, or those of a file.

        Each result has `.answer` and, likeliest first, `n_best` `.answers` with `text`, `start`, `end` (characters of
        the context) and `probability`.

        Raises:
            DataError: no question, or something that is not text.
        """
        self.ready()
        if not asked(questions, "(context, question)"):
            return []
        found = self.read(questions, "questions", labelled=False, **reading)
        return self._answer(found, n_best, batch_size, done)

    # --- on the command line ------------------------------------------------------------------------------------------

    @classmethod
    def check_options(cls, values: Values) -> None:
        if values.get("metric") not in (None, *get_args(Metric)):
            raise ConfigError(f"--metric is {values['metric']!r}; choose one of {', '.join(get_args(Metric))}")

    @classmethod
    def read_file(cls, path: str, values: Values, labelled: bool = True) -> Questions:
        return read_reading(path, labelled=labelled, encoding=values["encoding"])

    @classmethod
    def evaluate_arguments(cls, values: Values) -> Config:
        return {} if values.get("metric") is None else {"metric": values["metric"]}

    @classmethod
    def predict_arguments(cls, values: Values) -> Config:
        return {} if values.get("n_best") is None else {"n_best": values["n_best"]}

    def prediction_row(self, example: Any, prediction: Reading) -> Config:
        answers = [asdict(answer) | {"probability": round(answer.probability, 6)} for answer in prediction.answers]
        return {"id": prediction.id, "question": prediction.question, "answer": prediction.answer, "answers": answers}

    # --- inside -------------------------------------------------------------------------------------------------------

    def read(self, source: Any, name: str, labelled: bool = True, **reading: Any) -> Questions:
        if isinstance(source, Questions):
            found = source
        elif isinstance(source, str | os.PathLike):
            found = read_reading(source, labelled=labelled, **reading)
        else:
            found = questions_from_rows(source, name, labelled=labelled, **reading)
        return self.keep_notes(found)

    def texts(self, examples: Any) -> Iterable[str]:
        return (text for example in examples for text in (example.context, example.question))

    def infer_labels(self, examples: Any) -> None:
        if self.no_answer is None:
            self.no_answer = any(not example.answerable for example in examples)

    def can_build(self) -> bool:
        return self.no_answer is not None

    def check_examples(self, examples: Any) -> None:
        for example in examples:
            if example.answers is None:
                raise DataError(f"{examples.where(example)}: no answers; read the questions with labelled=True")

    def build_network(self, backbone: Backbone) -> TrainableModel:
        top = HeadBuilder(backbone, self.dropout, self.seed, "a reader")
        mask = keras.Input((None,), dtype="int32", name="answer_mask")
        scores = HideElsewhere(name="hidden", dtype="float32")(top.dense(2, "start_and_end"), mask)
        return top.model(scores, "reading_comprehension", {"answer_mask": mask})

    @classmethod
    def settings_for_head(cls, head: StoredHead, given: Values, backbone: Backbone) -> Config:
        if head.kind != ANSWERS:
            raise Unusable(f"it is for {head.kind or 'classification'}, not for {ANSWERS}")
        if head.outputs != 2:
            raise Unusable(f"it has {head.outputs} outputs, but start and end are two")
        saved = head.settings.get("no_answer")
        no_answer = given.get("no_answer") if given.get("no_answer") is not None else saved
        return {"no_answer": no_answer is True}  # files of transformers do not say; every question gets an answer

    def head_layers(self) -> tuple[str, ...]:
        return ("start_and_end",)

    def head_fits(self, examples: Any) -> bool:
        self.no_answer = bool(self.no_answer) or any(not example.answerable for example in examples)
        return True

    def loss(self) -> Any:
        return SpanCrossentropy()

    def score(self, examples: Any) -> dict[str, float]:
        report = self.evaluate(examples)
        return {"exact": report.exact, "f1": report.f1}

    def _cut_up(self, questions: Sequence[Question], name: str) -> tuple[list[TokenizedText], list[Window]]:
        asked = tokenize_texts(self.parts().tokenizer, [question.question for question in questions])
        contexts = tokenize_texts(self.parts().tokenizer, [question.context for question in questions])
        long = sum(len(each.ids) > self.max_question_length for each in asked)
        if long:
            self.cut[f"{name}: questions"] = (
                f"{name}: {long} of {len(asked)} questions are longer than {self.max_question_length} tokens and were "
                "cut; raise max_question_length= to keep more"
            )
        windows = windows_beside_questions(
            asked, contexts, PairTemplate.of(self.parts().tokenizer), max_length=self.max_length,
            max_question_length=self.max_question_length, stride=self.stride,
        )  # fmt: skip
        return contexts, windows

    def training_batches(self, examples: Any, batch_size: int, seed: int) -> PaddedBatches:
        contexts, windows = self._cut_up(examples, examples.name)
        places, lost = [], []
        for example, context in zip(examples, contexts):
            start, text = example.answers[0] if example.answers else (0, "")
            tokens = context.tokens_of(start, start + len(text)) if text else None
            if text and tokens is None:
                tokens = _around(context, start, start + len(text))
                lost.append(example)
            places.append(tokens)
        if lost:
            self.cut[f"{examples.name}: tokens"] = (
                f"{examples.where(lost[0])}: the answer begins or ends within a token and is learnt with the whole "
                f"token; {len(lost)} of {len(examples)} answers"
            )
        labels = np.zeros((len(windows), 2), np.int32)
        held = set()
        for row, window in enumerate(windows):
            place = places[window.text]
            if place and window.first <= place[0] and place[1] < window.first + window.count:
                labels[row] = [token - window.first + window.shift for token in place]
                held.add(window.text)
        split = [example for number, example in enumerate(examples) if example.answers and number not in held]
        if split:
            self.cut[f"{examples.name}: windows"] = (
                f"{examples.where(split[0])}: no window holds the whole answer, which cannot be learnt; {len(split)} "
                f"of {len(examples)} answers; raise stride= or max_length="
            )
        return self.padded_batches(
            windows, labels, more_inputs={"answer_mask": AnswerMask(windows)}, batch_size=batch_size, shuffle=True,
            seed=seed,
        )  # fmt: skip

    def _answer(
        self, questions: Questions, n_best: int, batch_size: int, done: Callable[[int], None] | None
    ) -> list[Reading]:
        predictor = self.ready().predictor
        if n_best < 1:
            raise ConfigError(f"n_best is {n_best}; expected 1 or more")
        contexts, windows = self._cut_up(questions, questions.name)
        batches = self.padded_batches(
            windows, batch_size=rows_for(len(windows), batch_size), shuffle=False,
            more_inputs={"answer_mask": AnswerMask(windows)},
        )  # fmt: skip
        found: list[dict[tuple[int, int], float]] = [{} for _ in questions]
        for rows, scores in predictor.run(batches):
            for row, each in zip(rows, scores):
                if row >= 0:
                    window = windows[row]
                    kept = found[window.text]
                    for place, score in best_spans(each, window, self.max_answer_length, max(n_best, CANDIDATES)):
                        kept[place] = max(score, kept.get(place, score))
                    if done is not None and window.first == 0:
                        done(1)
        return [
            Reading(question.id, question.question, self._ranked(question, context, spans, n_best))
            for question, context, spans in zip(questions, contexts, found)
        ]

    def _ranked(
        self, question: Question, context: TokenizedText, spans: dict[tuple[int, int], float], n_best: int
    ) -> tuple[Answer, ...]:
        ranked = sorted(spans.items(), key=lambda item: (-item[1], item[0]))
        scores = [score for _, score in ranked]
        places = [context.characters_of(*place) for place, _ in ranked]
        answers = [(question.context[slice(*place)], *place) for place in places]
        if self.no_answer or not answers:
            rank = sum(score > 0 for score in scores)
            answers.insert(rank, ("", 0, 0))
            scores.insert(rank, 0.0)
        # The largest score is taken off first: `exp` of a score of 90 would overflow in float32.
        shares = np.exp(np.array(scores) - max(scores))
        shares /= shares.sum()
        return tuple(Answer(*answer, float(share)) for answer, share in zip(answers, shares))[:n_best]


@keras.saving.register_keras_serializable("qingformer")
class HideElsewhere(keras.layers.Layer):
    """Scores (B, T, C) where a mask (B, T) is not 0, elsewhere -1e12.

    Example: `HideElsewhere()(keras.ops.ones((1, 3, 2)), keras.ops.array([[1, 0, 1]]))`
    """

    def call(self, scores: Any, mask: Any) -> Any:
        """Hide."""
        return keras.ops.where(keras.ops.expand_dims(keras.ops.cast(mask, "bool"), -1), scores, IMPOSSIBLE)

    def compute_output_spec(self, scores: Any, mask: Any) -> keras.KerasTensor:
        return keras.KerasTensor(scores.shape, scores.dtype)


def best_spans(scores: np.ndarray, window: Window, longest: int, count: int) -> list[tuple[tuple[int, int], float]]:
    """The `count` best spans of a window by tokens of the text, with their scores (T, 2) less that of no answer.

    >>> window = Window(0, 10, 3, 2, [], [])
    >>> scores = np.array([[0.0, 0.0], [9.0, 9.0], [1.0, 0.0], [3.0, 0.0], [0.0, 4.0]])
    >>> best_spans(scores, window, 5, 1)
    [((11, 12), 7.0)]
    """
    inner = scores[window.shift : window.shift + window.count].astype(np.float64)
    sums = inner[:, 0][:, None] + inner[:, 1][None, :]
    places = np.arange(window.count)
    gap = places[None, :] - places[:, None]
    # (count, count): row i, column j is the span from token i to token j; those that end before they start are out.
    sums = np.where((gap >= 0) & (gap < longest), sums, -np.inf)
    flat = sums.reshape(-1)
    count = min(count, int(np.isfinite(flat).sum()))
    if not count:
        return []
    best = np.argpartition(-flat, count - 1)[:count]
    # Position 0 holds [CLS], whose start and end scores together stand for "no answer in this window".
    nothing = float(scores[0].sum())
    starts, ends = np.unravel_index(best[np.argsort(-flat[best], kind="stable")], sums.shape)
    return [
        ((int(start) + window.first, int(end) + window.first), float(sums[start, end]) - nothing)
        for start, end in zip(starts, ends)
    ]


def _around(context: TokenizedText, start: int, end: int) -> tuple[int, int] | None:
    """First and last token that share a character with [start, end)."""
    touched = [number for number, (first, last) in enumerate(context.offsets) if first < end and last > start]
    return (touched[0], touched[-1]) if touched else None
