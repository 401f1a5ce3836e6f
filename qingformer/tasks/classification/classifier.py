"""Text classification: one text or a pair, one label or several."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self, Unpack

import keras
import numpy as np

from qingformer.data import MixedBatches, PaddedBatches
from qingformer.errors import ConfigError
from qingformer.evaluation import (
    ClassificationReport,
    MultiLabelReport,
    evaluate_classification,
    evaluate_multi_label,
)
from qingformer.losses import named_loss
from qingformer.models import Backbone
from qingformer.models.fine_tuned import SEQUENCE, StoredHead
from qingformer.objectives import TrainableModel
from qingformer.tasks import fitting
from qingformer.tasks.built import Built, TrainingSetup
from qingformer.tasks.classification.class_labels import check_labels, discover_labels, label_targets, row_weights
from qingformer.tasks.classification.class_weights_option import parse_class_weights
from qingformer.tasks.classification.classifier_network import check_hidden, check_vector, classifier_model, head_layers
from qingformer.tasks.classification.classifier_training import choose_loss, mixed_rows
from qingformer.tasks.classification.score_sections import score_sections
from qingformer.tasks.classification.text_encoding import Encoded, encode
from qingformer.tasks.classification.text_examples import (
    Columns,
    Examples,
    check_inputs,
    columns_of,
    inputs_of,
    read_examples,
    refuse_other_inputs,
)
from qingformer.tasks.head_labels import Unusable, labels_for, places_of
from qingformer.tasks.predictor import Prediction, asked, choose, rows_for
from qingformer.tasks.task import FitOptions, Task
from qingformer.tasks.task_registry import register_task
from qingformer.tokenization import Tokenizer
from qingformer.types import Config, DtypeLike, Options, Values

_F1 = {False: ("macro_f1", "weighted_f1"), True: ("macro_f1", "weighted_f1", "micro_f1")}  # by multi_label


@dataclass(frozen=True, slots=True)
class Learning:
    """The options of `TextClassifier.fit` about loss and data, which other tasks do not have."""

    loss: Any = None
    class_weights: Mapping[Any, float] | str | None = None
    unlabelled: Any = None
    unlabelled_share: float = 0.5


@register_task("text-classifier")
class TextClassifier(Task):
    """A pretrained or new encoder with a linear layer on its sentence vector, trained to name the label of a text.

        logits = W dropout(pooled) + b;   loss = cross-entropy, or a binary one per label with `multi_label`

    Labels are text; what is not given is found in the training data and sorted (numbers by value). Weights, vocabulary
    and labels travel together: `save(directory)`, `qf.load(directory)`. Source: Devlin et al. 2018 (arXiv 1810.04805).

    Args:
        backbone: the encoder; its variables are shared, not copied.
        tokenizer: its vocabulary must have as many tokens as the encoder's table has rows.
        labels: in the order of the outputs; None to find them in the data when `fit` is called.
        multi_label: whether a text has any number of labels instead of exactly one.
        max_length: longest input in tokens, special tokens included; longer texts are cut and counted in `cut`.
        dropout: rate before the linear layer.
        hidden_activation: of a dense layer before the last one, in place of the pooler; "" for none, None for what the
            family has in `transformers`: "gelu" for ELECTRA, that of a RoFormer without a pooler, none for others.
        inputs: what it was trained on, "texts", "pairs" or "mixed", which `fit` finds; others are then refused. "" if
            that is not known.
        seed: of the linear layer's start.

    Raises:
        ConfigError: sizes that do not fit each other.

    Example:
        >>> classifier = TextClassifier.from_scratch("tiny", max_length=32)
        >>> _ = classifier.fit([("好看", "yes"), ("难看", "no")] * 8, epochs=1, batch_size=8, verbose=0)
        >>> classifier.predict(["好看"])[0].label in ("yes", "no")
        True
    """

    settings_types: ClassVar[dict[str, type]] = {
        "labels": list, "multi_label": bool, "max_length": int, "dropout": float, "hidden_activation": str,
        "inputs": str,
    }  # fmt: skip
    later_settings: ClassVar[Options] = {"hidden_activation": "", "inputs": ""}
    huggingface_head = SEQUENCE
    identity = ("labels", "multi_label")
    label_setting = "labels"

    def __init__(
        self,
        backbone: Backbone | None,
        tokenizer: Tokenizer | None,
        labels: Iterable[str] | None = None,
        *,
        multi_label: bool = False,
        max_length: int = 128,
        dropout: float = 0.1,
        hidden_activation: str | None = None,
        inputs: str = "",
        seed: int = 0,
        size: str | None = None,
        dtype: DtypeLike = None,
    ) -> None:
        self.multi_label, self.inputs = multi_label, check_inputs(inputs)
        self.hidden_activation = check_hidden(hidden_activation, backbone)
        self.labels: list[str] | None = None if labels is None else check_labels(labels)
        super().__init__(backbone, tokenizer, max_length=max_length, dropout=dropout, seed=seed, size=size, dtype=dtype)

    @classmethod
    def from_pretrained(
        cls,
        source: str | os.PathLike[str],
        labels: Iterable[str] | None = None,
        *,
        vocabulary: str | os.PathLike[str] | None = None,
        **options: Any,
    ) -> Self:
        """Start from pretrained weights: a directory, a `.ckpt`, or "hf://org/name".

        The vocabulary is the source's own unless `vocabulary` names a file. `options` are those of the class; what it
        does not know goes to the backbone.

        Raises:
            CheckpointError, TokenizerError, ConfigError: what is missing or does not fit.
        """
        return super().from_pretrained(source, vocabulary=vocabulary, labels=labels, **options)

    @classmethod
    def from_scratch(
        cls,
        size: str = "tiny",
        vocabulary: str | os.PathLike[str] | Sequence[str] | Tokenizer | None = None,
        labels: Iterable[str] | None = None,
        **options: Any,
    ) -> Self:
        """Start from random weights of a size of `SIZES`: "tiny", "small" or "base"; `options` are those of the class.

        Without `vocabulary` (a file, a list of tokens or a tokenizer) one is counted from the training text in `fit`.

        Raises:
            ConfigError: an unknown size.
            TokenizerError: a vocabulary that cannot be read.
        """
        return super().from_scratch(size, vocabulary, labels=labels, **options)

    def fit(  # type: ignore[override]
        self,
        train: Any,
        validation_data: Any = None,
        *,
        columns: Columns | None = None,
        loss: keras.losses.Loss | Callable[..., Any] | str | None = None,
        class_weights: Mapping[Any, float] | str | None = None,
        unlabelled: Any = None,
        unlabelled_share: float = 0.5,
        **options: Unpack[FitOptions],
    ) -> dict[str, list[float]]:
        """Train, and return the curve: `loss`, `accuracy`, `val_loss`, `val_accuracy` per epoch.

        With validation data the weights of the best epoch are put back at the end (highest `val_accuracy`, with
        `multi_label` lowest `val_loss`). The same seed and data give the same run. With an optimizer that keeps
        averages (`qf.optimizers.ExponentialMovingAverage`) these are scored, kept as the best, and put in at the end.

        Args:
            train: a path, a sequence of `(text, label)`, `(text, pair, label)` or dictionaries, a table with columns
                (pandas, polars, ...) or a dictionary of them.
            validation_data: the same kinds; scored after every epoch.
            columns: which field of a row is what.
            loss: on the logits: any `keras.losses.Loss`, a function of labels and logits that gives a value for each
                text, or a name that `qingformer.losses.named_loss` knows ("focal", "dice", "label_smoothing",
                "logit_adjustment"; "multilabel_crossentropy" and others with `multi_label`); cross-entropy if None.
                "logit_adjustment" counts the frequencies of the labels in `train`; predictions are then those for
                balanced accuracy.
            class_weights: "balanced", "sqrt", "effective", or weights by label.
            unlabelled: a path or a sequence of texts, `(text, pair)` or dictionaries, for transforms that learn from
                texts without labels (`VirtualAdversarialTraining`): every batch has some of them, with weight 0.
            unlabelled_share: which part of the `batch_size` rows of a batch they are, above 0 and below 1; an epoch is
                a pass over the labelled texts, which are the rest.
            options: those of `Task.fit`: `epochs=3`, `batch_size=32`, `optimizer`, `learning_rate`, `transforms`,
                `patience`, `seed`, `directory`, `save_every`, `resume`, `overwrite`, `callbacks`, `progress`,
                `verbose`; `monitor`, which picks the best epoch, is "accuracy", "loss", "macro_f1", "weighted_f1", or
                with `multi_label` also "micro_f1".

        Raises:
            DataError, ConfigError: what is wrong with the data, naming file and line, or with an argument.
            TrainingInterrupted: a `KeyboardInterrupt`; with a directory the current step was finished and kept.
        """
        chosen = named_loss(loss, multi_label=self.multi_label)
        learning = Learning(chosen, class_weights, unlabelled, unlabelled_share)
        return super().fit(train, validation_data, learning=learning, columns=columns, **options)

    def evaluate(
        self,
        test: Any,
        *,
        columns: Columns | None = None,
        batch_size: int = 32,
        threshold: float = 0.5,
        done: Callable[[int], None] | None = None,
    ) -> ClassificationReport | MultiLabelReport:
        """Compare predictions with the labels of `test`: accuracy, macro and weighted F1, confusion matrix.

        Raises:
            DataError: an unlabelled row, or a label that this model does not know, with its file and line.
        """
        examples = self.read(test, "test data", columns=columns)
        labels = self._trained_labels()
        refuse_other_inputs(examples, self.inputs)
        targets = self._targets(examples)
        probabilities = self._probabilities(examples, batch_size, done)
        if self.multi_label:
            return evaluate_multi_label(targets.astype("int32"), (probabilities >= threshold).astype("int32"), labels)
        return evaluate_classification(targets, probabilities.argmax(-1), len(labels), labels)

    def predict(
        self,
        texts: Any,
        *,
        columns: Columns | None = None,
        return_probabilities: bool = True,
        batch_size: int = 32,
        threshold: float = 0.5,
        done: Callable[[int], None] | None = None,
    ) -> list[Prediction]:
        """Name the labels of texts, `(text, pair)` tuples, dictionaries, the rows of a table or of a file.

        Each prediction has `.label`, `.labels`, `.probability` and, with `return_probabilities`, `.probabilities`.
        `threshold` is the least probability of a label that counts when there may be several.

        Raises:
            DataError: no text, or something that is not text.
        """
        labels = self._trained_labels()
        if not asked(texts, "texts"):
            return []
        examples = self.read(texts, "texts", labelled=False, columns=columns)
        refuse_other_inputs(examples, self.inputs)
        return choose(
            self._probabilities(examples, batch_size, done), labels, multi_label=self.multi_label,
            threshold=threshold, with_all=return_probabilities,
        )  # fmt: skip

    def check_labels(self, train: Any, *others: Any, columns: Columns | None = None) -> None:
        """Find the labels of `train` if none were given, and refuse data with a label that is not among them.

        `fit` does the same for its own data; this reports what is wrong with a test file before hours of training.

        Raises:
            DataError: names the label, its file and line, and the labels there are.
        """
        self.check_data(train, *others, columns=columns)

    # --- the methods of a task ----------------------------------------------------------------------------------------

    def read(  # type: ignore[override]
        self, source: Any, name: str, labelled: bool = True, *, columns: Columns | None = None
    ) -> Examples:
        if not isinstance(source, Examples):
            source = read_examples(source, columns, name=name, multi_label=self.multi_label, labelled=labelled)
        return self.keep_notes(source)

    def texts(self, examples: Any) -> Iterable[str]:
        return (part for example in examples for part in (example.text, example.pair) if part)

    def infer_labels(self, examples: Any) -> None:
        if self.labels is None:
            self.labels = discover_labels(examples)

    def check_examples(self, examples: Any) -> None:
        self._targets(examples)

    def check_same_inputs(self, train: Any, held_out: Any) -> None:
        refuse_other_inputs(held_out, inputs_of(train))

    def prepare(self, examples: Any, *more: Any) -> Built:
        built = super().prepare(examples, *more)
        self.inputs = inputs_of(examples)
        return built

    def build_network(self, backbone: Backbone) -> TrainableModel:
        return classifier_model(backbone, len(self.label_names()), self.dropout, self.seed, self.hidden_activation)

    def activation(self) -> Callable[[Any], Any]:
        return keras.ops.sigmoid if self.multi_label else keras.ops.softmax

    def unlabelled_examples(self, learning: Any, **reading: Any) -> Any:
        if learning is None or learning.unlabelled is None:
            return None
        return self.read(learning.unlabelled, "unlabelled data", labelled=False, **reading)

    def training_setup(
        self, examples: Any, batch_size: int, seed: int, learning: Any, unlabelled: Any = None
    ) -> TrainingSetup:
        # None where a subclass calls `Task.fit` itself.
        learning = learning or Learning()
        targets = self._targets(examples)
        weights = row_weights(targets, self.label_names(), learning.class_weights)
        options: dict[str, Any] = {"batch_size": batch_size}
        if unlabelled is not None:
            options = {**mixed_rows(batch_size, learning.unlabelled_share)}
            options |= {"unlabelled": self.encode(unlabelled).features, "kind": MixedBatches}
        features = self.encode(examples).features
        batches = self.padded_batches(features, targets, weights, shuffle=True, seed=seed, **options)
        loss = choose_loss(learning.loss, targets, len(self.label_names()), multi_label=self.multi_label)
        return TrainingSetup(batches, loss, metrics=(fitting.accuracy(multi_label=self.multi_label),))

    def training_batches(self, examples: Any, batch_size: int, seed: int) -> PaddedBatches:
        return self.training_setup(examples, batch_size, seed, None).batches

    def loss(self) -> keras.losses.Loss:
        return named_loss(None, multi_label=self.multi_label)

    def score(self, examples: Any) -> dict[str, float]:
        report = self.evaluate(examples)
        return {name: getattr(report, name.removesuffix("_f1")).f1 for name in _F1[self.multi_label]}

    def watched(self, monitor: str | None) -> str:
        default = "val_loss" if self.multi_label else "val_accuracy"
        return fitting.watched(monitor, default, ["accuracy", "loss", *_F1[self.multi_label]])

    def validation(
        self, held_out: Any, batch_size: int, monitor: str
    ) -> tuple[PaddedBatches, Sequence[keras.callbacks.Callback]]:
        # Loss and accuracy come from Keras' own pass over these batches; F1 needs all predictions at once.
        features = self.encode(held_out).features
        batches = self.padded_batches(features, self._targets(held_out), batch_size=batch_size, shuffle=False)
        more = [fitting.HeldOutScores(lambda: self.score(held_out))] if monitor.endswith("_f1") else []
        return batches, more

    # --- heads of other programs --------------------------------------------------------------------------------------

    @classmethod
    def settings_for_head(cls, head: StoredHead, given: Values, backbone: Backbone) -> Config:
        check_vector(head, SEQUENCE, backbone)
        if head.outputs == 1 or head.problem_type == "regression":
            raise Unusable(f"it is a regression of {head.outputs} output, not a choice among labels")
        several = head.problem_type == "multi_label_classification"
        if head.problem_type and given.get("multi_label") not in (None, several):
            raise Unusable(f"its problem_type is {head.problem_type}, but multi_label={not several} is asked for")
        saved = head.settings.get("multi_label") is True
        multi_label = given.get("multi_label") or several or saved
        labels = labels_for(head, given.get("labels"))
        return {"labels": labels, "multi_label": multi_label, "hidden_activation": head.activation}

    def head_layers(self) -> tuple[str, ...]:
        return head_layers(self.hidden_activation)

    def output_names(self) -> list[str]:
        """The labels in the order of the outputs."""
        return list(self.labels or ())

    def outputs_in(self, head: StoredHead) -> list[int] | None:
        known = head.labels is not None and set(head.labels) == set(self.labels or ())
        return places_of(self.output_names(), head.labels or ()) if known else None

    # --- on the command line ------------------------------------------------------------------------------------------

    @classmethod
    def saved_options(cls, settings: Values) -> Config:
        return {"multi_label": bool(settings.get("multi_label"))}

    @classmethod
    def read_file(cls, path: str, values: Values, labelled: bool = True) -> Examples:
        columns = columns_of(values)
        return read_examples(path, columns, multi_label=values.get("multi_label", False), labelled=labelled)

    @classmethod
    def fit_arguments(cls, values: Values) -> Config:
        return {"loss": values["loss"], "class_weights": parse_class_weights(values["class_weights"])}

    @classmethod
    def evaluate_arguments(cls, values: Values) -> Config:
        return {} if values.get("threshold") is None else {"threshold": values["threshold"]}

    @classmethod
    def predict_arguments(cls, values: Values) -> Config:
        return {"return_probabilities": values["all_probabilities"], **cls.evaluate_arguments(values)}

    def report_sections(self, report: Any) -> list[tuple[str, str]]:
        return score_sections(report, self.label_names())

    def prediction_row(self, example: Any, prediction: Prediction) -> dict[str, Any]:
        row: dict[str, Any] = {"text": example.text}
        if example.pair is not None:
            row["pair"] = example.pair
        if self.multi_label:
            row["labels"] = list(prediction.labels)
        else:
            row["label"] = prediction.label
        row["probability"] = round(prediction.probability, 6)
        if prediction.probabilities is not None:
            row["probabilities"] = {label: round(value, 6) for label, value in prediction.probabilities.items()}
        return row

    # --- inside -------------------------------------------------------------------------------------------------------

    def encode(self, examples: Examples) -> Encoded:
        """Token ids of texts and pairs; what was cut is noted."""
        encoded = encode(self.parts().tokenizer, examples, self.max_length)
        if encoded.cut is not None:
            self.cut[examples.name] = encoded.cut
        return encoded

    def _targets(self, examples: Examples) -> np.ndarray:
        return label_targets(examples, self.label_names(), multi_label=self.multi_label)

    def _trained_labels(self) -> list[str]:
        if self.labels is None or self.built is None:
            left_out = f" ({self.left_out})" if self.left_out else ""
            raise ConfigError(
                f"this classifier has neither labels nor weights for them yet; call fit, or give labels{left_out}"
            )
        self.check_trained()
        return self.labels

    def _probabilities(self, examples: Examples, batch_size: int, done: Callable[[int], None] | None) -> Any:
        batches = self.padded_batches(
            self.encode(examples).features, batch_size=rows_for(len(examples), batch_size), shuffle=False
        )
        return self.parts().predictor(batches, done)
