"""Multiple choice: which of several answers goes with a question and a text."""

import os
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np

from qingformer.data import PaddedBatches
from qingformer.data.choice import BLANK, ChoiceQuestion, ChoiceQuestions, choices_from_rows, read_choice
from qingformer.errors import DataError
from qingformer.evaluation import ClassificationReport, evaluate_classification
from qingformer.models import Backbone
from qingformer.models.fine_tuned import CHOICE, StoredHead
from qingformer.objectives import TrainableModel
from qingformer.tasks.choice.choice_batches import ChoiceBatches, ChoiceCrossentropy
from qingformer.tasks.classification.classifier_network import check_hidden, check_vector, classifier_model, head_layers
from qingformer.tasks.head_labels import Unusable
from qingformer.tasks.input_templates import PairTemplate
from qingformer.tasks.predictor import asked, rows_for
from qingformer.tasks.task import Task
from qingformer.tasks.task_registry import register_task
from qingformer.tasks.windows import tokenize_texts
from qingformer.tokenization import Tokenizer
from qingformer.types import Config, DtypeLike, Options, Values


@dataclass(frozen=True, slots=True)
class Choice:
    """What a model chose: the number of the choice, its text, and the probability of each."""

    id: str
    number: int
    text: str
    probabilities: tuple[float, ...]

    def to_dict(self) -> Config:
        """Everything as dictionaries, lists and numbers that JSON can hold."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class ChoiceRow:
    """One choice of a question as the model reads it."""

    token_ids: list[int]
    segment_ids: list[int]


@register_task("multiple-choice")
class MultipleChoice(Task):
    """An encoder that reads a text with a question and each choice in turn; a linear layer scores, softmax chooses.

        p(c) = softmax over the choices of w . pooled([CLS] context [SEP] question choice [SEP])

    Where the choice fills a blank of the text (ChID), it stands there and once more behind [SEP]. The text is cut
    first: its end (around a blank both ends); of a question that is too long beside the choice the beginning goes. Any
    number of choices, which may differ from question to question.

    Args:
        backbone, tokenizer: as in `Task`.
        max_length: longest input in tokens, special tokens included.
        dropout: rate before the linear layer. seed: of its start.
        hidden_activation: as in `TextClassifier`.

    Raises:
        ConfigError: sizes that do not fit each other.

    Source: Sun et al. 2020 (arXiv 1904.09679, C3); Zheng et al. 2019 (arXiv 1906.01265, ChID).

    Example:
        >>> rows = [{"context": "下雨了", "question": "天气？", "choices": ["晴", "雨"], "answer": "雨"}] * 8
        >>> model = MultipleChoice.from_scratch("tiny", max_length=32)
        >>> _ = model.fit(rows, epochs=1, batch_size=4, verbose=0)
        >>> model.predict(rows[:1])[0].text in ("晴", "雨")
        True
    """

    settings_types: ClassVar[dict[str, type]] = {"max_length": int, "dropout": float, "hidden_activation": str}
    later_settings: ClassVar[Options] = {"hidden_activation": ""}
    huggingface_head = CHOICE
    identity = ()
    monitor = "val_accuracy"
    scores = ("accuracy",)

    def __init__(
        self,
        backbone: Backbone | None,
        tokenizer: Tokenizer | None,
        *,
        max_length: int = 128,
        dropout: float = 0.1,
        hidden_activation: str | None = None,
        seed: int = 0,
        size: str | None = None,
        dtype: DtypeLike = None,
    ) -> None:
        self._choices = 2
        self.hidden_activation = check_hidden(hidden_activation, backbone)
        super().__init__(backbone, tokenizer, max_length=max_length, dropout=dropout, seed=seed, size=size, dtype=dtype)

    def evaluate(
        self, test: Any, *, batch_size: int = 8, done: Callable[[int], None] | None = None, **reading: Any
    ) -> ClassificationReport:
        """Compare choices with the answers of `test`; classes are the numbers of the choices.

        Raises:
            DataError: an unlabelled question, or what is wrong with the data, with its file and line.
        """
        self.ready()
        questions = self.read(test, "test data", **reading)
        self.check_examples(questions)
        chosen = self._choose(questions, batch_size, done)
        most = max(len(question.choices) for question in questions)
        answers = np.array([question.answer for question in questions])
        return evaluate_classification(answers, np.array([choice.number for choice in chosen]), most)

    def predict(
        self, questions: Any, *, batch_size: int = 8, done: Callable[[int], None] | None = None, **reading: Any
    ) -> list[Choice]:
        """Choose an answer to each question: dictionaries with "context", "question" and "choices", or a file.

        Each result has `.number`, `.text` and `.probabilities` of all choices.

        Raises:
            DataError: no question, or something that is not text.
        """
        self.ready()
        if not asked(questions, "questions"):
            return []
        return self._choose(self.read(questions, "questions", labelled=False, **reading), batch_size, done)

    # --- on the command line ------------------------------------------------------------------------------------------

    @classmethod
    def read_file(cls, path: str, values: Values, labelled: bool = True) -> ChoiceQuestions:
        return read_choice(path, labelled=labelled, encoding=values["encoding"])

    def report_sections(self, report: ClassificationReport) -> list[tuple[str, str]]:
        names = [f"choice {number}" for number in range(len(report.confusion))]
        return [("", f"accuracy {report.accuracy:.4f}"), ("", report.format_table(names))]

    def prediction_row(self, example: Any, prediction: Choice) -> Config:
        return {
            "id": prediction.id,
            "answer": prediction.number,
            "text": prediction.text,
            "probabilities": [round(value, 6) for value in prediction.probabilities],
        }

    # --- inside -------------------------------------------------------------------------------------------------------

    def read(self, source: Any, name: str, labelled: bool = True, **reading: Any) -> ChoiceQuestions:
        if isinstance(source, ChoiceQuestions):
            found = source
        elif isinstance(source, str | os.PathLike):
            found = read_choice(source, labelled=labelled, **reading)
        else:
            found = choices_from_rows(source, name, labelled=labelled, **reading)
        return self.keep_notes(found)

    def texts(self, examples: Any) -> Iterable[str]:
        return (
            text.replace(BLANK, " ")
            for example in examples
            for text in (example.context, example.question, *example.choices)
        )

    def check_examples(self, examples: Any) -> None:
        for example in examples:
            if example.answer is None:
                raise DataError(f"{examples.where(example)}: no answer; read the questions with labelled=True")

    def build_network(self, backbone: Backbone) -> TrainableModel:
        return classifier_model(backbone, 1, self.dropout, self.seed, self.hidden_activation)

    @classmethod
    def settings_for_head(cls, head: StoredHead, given: Values, backbone: Backbone) -> Config:
        check_vector(head, CHOICE, backbone)
        if head.outputs != 1:
            raise Unusable(f"it has {head.outputs} outputs, but a choice has one score")
        return {"hidden_activation": head.activation if len(head.layers) > 1 else ""}

    def head_layers(self) -> tuple[str, ...]:
        return head_layers(self.hidden_activation)

    def loss(self) -> Any:
        return ChoiceCrossentropy(self._choices)

    def score(self, examples: Any) -> dict[str, float]:
        return {"accuracy": self.evaluate(examples).accuracy}

    def training_batches(self, examples: Any, batch_size: int, seed: int) -> PaddedBatches:
        self._choices = max(len(example.choices) for example in examples)
        answers = np.array([example.answer for example in examples])
        return self.padded_batches(
            self._rows(examples), answers, kind=ChoiceBatches, choices=self._choices, batch_size=batch_size,
            shuffle=True, seed=seed,
        )  # fmt: skip

    def _choose(self, questions: Any, batch_size: int, done: Callable[[int], None] | None) -> list[Choice]:
        predictor = self.ready().predictor
        most = max(len(question.choices) for question in questions)
        batches = self.padded_batches(
            self._rows(questions), None, kind=ChoiceBatches, choices=most, shuffle=False,
            batch_size=rows_for(len(questions), batch_size),
        )  # fmt: skip
        found: list[Any] = [None] * len(questions)
        for rows, scores in predictor.run(batches, done):
            for row, each in zip(rows, scores.reshape(-1, most)):
                if row >= 0:
                    question = questions[row]
                    # Questions with fewer choices than others have rows that only fill up; they take no part.
                    shares = np.exp(each[: len(question.choices)] - each[: len(question.choices)].max())
                    shares /= shares.sum()
                    number = int(shares.argmax())
                    found[row] = Choice(question.id, number, question.choices[number], tuple(shares.tolist()))
        return found

    def _rows(self, questions: Any) -> list[list[ChoiceRow]]:
        tokenizer = self.parts().tokenizer
        template = PairTemplate.of(tokenizer)
        sides = [_sides(question, choice) for question in questions for choice in question.choices]
        before, after, asked = (
            [each.ids for each in tokenize_texts(self.parts().tokenizer, [side[place] for side in sides])]
            for place in range(3)
        )
        rows, cut = [], 0
        for left, right, question in zip(before, after, asked):
            room = self.max_length - len(template)
            kept = question[max(len(question) - room, 0) :]
            context, shorter = _around_blank(left, right, room - len(kept))
            cut += shorter or len(kept) < len(question)
            rows.append(ChoiceRow(*template.joined(context, kept)))
        if cut:
            self.cut[f"{questions.name}: long"] = (
                f"{questions.name}: {cut} of {len(rows)} texts are longer than max_length= {self.max_length} tokens "
                "with question and choice, and were cut"
            )
        ends = np.cumsum([len(question.choices) for question in questions])
        return [rows[end - len(question.choices) : end] for end, question in zip(ends, questions)]


def _sides(question: ChoiceQuestion, choice: str) -> tuple[str, str, str]:
    """The text up to the end of the choice in it (nothing without a blank), the rest of it, and the other side."""
    if BLANK in question.context:
        before, _, after = question.context.partition(BLANK)
        return before + choice, after, f"{question.question}{choice}"
    return "", question.context, f"{question.question} {choice}".strip()


def _around_blank(before: list[int], after: list[int], room: int) -> tuple[list[int], int]:
    """At most `room` tokens: all there are, or as many on either side of the border; and 1 if cut.

    >>> _around_blank([1, 2, 3], [4, 5, 6], 4), _around_blank([1, 2, 3], [], 2), _around_blank([1], [4, 5, 6], 3)
    (([2, 3, 4, 5], 1), ([2, 3], 1), ([1, 4, 5], 1))
    """
    if len(before) + len(after) <= room:
        return before + after, 0
    left = max(min(len(before), room // 2), room - len(after))
    return before[len(before) - left :] + after[: room - left], 1
