"""What all tasks share: an encoder, a tokenizer, a network on top, and the ways in and out of files."""

import inspect
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

import keras

from qingformer.data import PaddedBatches
from qingformer.data.cells import plain, quoted
from qingformer.data.tables import is_empty
from qingformer.errors import ConfigError, DataError
from qingformer.evaluation.report import Report
from qingformer.folders import model_of_run
from qingformer.models import Backbone
from qingformer.objectives import TrainableModel
from qingformer.tasks import checks, fine_tuned_heads, fitting, huggingface, storage, task_adapters
from qingformer.tasks.classification.text_encoding import buckets_up_to
from qingformer.tasks.fit_arguments import check_arguments
from qingformer.tasks.head import new_backbone
from qingformer.tasks.predictor import Predictor
from qingformer.tasks.scratch import count_vocabulary, size_named
from qingformer.tasks.windows import Window
from qingformer.tokenization import Tokenizer

Sourced = TypeVar("Sourced", bound=Any)  # examples with `name` and `notes`


class Task(fine_tuned_heads.TakesHeads, ABC):
    """An encoder, a tokenizer and a network on top that are trained, scored, saved and loaded together.

    A task says what its data is (`_read`, `_texts`), what it must know before there is a network (`_settle`,
    `_settled`), the network (`_network`), and how it is trained, which for most is the `fit` of `ScoredTask`.

    Args:
        backbone: the encoder; its variables are shared, not copied.
        tokenizer: its vocabulary; rows of the encoder's table beyond it are spare and stay.
        max_length: longest input in tokens, special tokens included.
        dropout: rate before the layers on top.
        seed: of their start.
        size, dtype: of an encoder that is made when the data is there (see `from_scratch`).

    Raises:
        ConfigError: sizes that do not fit each other.
    """

    task_name: ClassVar[str]
    settings_types: ClassVar[dict[str, type]]  # what `task.json` holds besides the version: attribute and type
    identity: ClassVar[tuple[str, ...]]  # the settings that decide what the outputs mean
    later_settings: ClassVar[dict[str, Any]] = {}  # settings that files of earlier versions lack, with their meaning
    huggingface_head: ClassVar[str | None] = None  # the head of `transformers` that computes the same, after "For"

    def __init__(
        self,
        backbone: Backbone | None,
        tokenizer: Tokenizer | None,
        *,
        max_length: int,
        dropout: float,
        seed: int,
        size: str | None,
        dtype: Any,
    ) -> None:
        if (backbone is None or tokenizer is None) and size is None:
            raise ConfigError("a task needs a backbone and a tokenizer; see from_pretrained and from_scratch")
        self.backbone, self.tokenizer = backbone, tokenizer
        if not isinstance(plain(max_length), int):
            raise ConfigError(f"max_length is {quoted(max_length)}; expected a whole number of tokens")
        self.max_length, self.dropout, self.seed = plain(max_length), float(dropout), seed
        self.model: TrainableModel | None = None
        self.cut: dict[str, str] = {}
        self._size, self._dtype = size, dtype
        self._predictor: Predictor | None = None
        if backbone is not None and tokenizer is not None:
            storage.check_fit(backbone, tokenizer, max_length)
            storage.note_spare_rows(backbone, tokenizer)
        self._make_model()

    @classmethod
    def from_pretrained(
        cls, source: str | os.PathLike[str], *, vocabulary: str | os.PathLike[str] | None = None, **options: Any
    ) -> Self:
        """Start from pretrained weights: a directory, a `.ckpt`, or "hf://org/name".

        The vocabulary is the source's own unless `vocabulary` names a file. `options` are those of the class; what it
        does not know goes to the backbone. A fine-tuned head in the files is taken with its labels where this task can
        use it; otherwise a warning says that it was left out, and there is nothing to predict with before `fit`.

        Raises:
            CheckpointError, TokenizerError, ConfigError: what is missing or does not fit.
        """
        ours = inspect.signature(cls.__init__).parameters
        settings = {name: options.pop(name) for name in list(options) if name in ours and name not in ("size", "dtype")}
        tokenizer = Tokenizer.from_pretrained(source if vocabulary is None else vocabulary)
        backbone = Backbone.from_pretrained(source, **options)
        head = backbone.loading_report.head if backbone.loading_report else None
        saved = head.settings.get("max_length") if head else None
        longest = settings.get("max_length", saved or ours["max_length"].default)
        storage.check_fit(backbone, tokenizer, longest, f"{vocabulary or source}")
        if vocabulary is not None:
            storage.refuse_another_vocabulary(backbone, tokenizer, str(vocabulary))
        made: Self = fine_tuned_heads.make(cls, backbone, tokenizer, settings, str(source))
        return made

    @classmethod
    def from_scratch(
        cls,
        size: str = "tiny",
        vocabulary: str | os.PathLike[str] | Sequence[str] | Tokenizer | None = None,
        **options: Any,
    ) -> Self:
        """Start from random weights of a size of `SIZES`: "tiny", "small" or "base"; `options` are those of the class.

        Without `vocabulary` (a file, a list of tokens or a tokenizer) one is counted from the training text in `fit`.

        Raises:
            ConfigError: an unknown size.
            TokenizerError: a vocabulary that cannot be read.
        """
        size_named(size)
        tokenizer = vocabulary if isinstance(vocabulary, Tokenizer | None) else _read_vocabulary(vocabulary)
        backbone = None
        if tokenizer is not None:
            ours = inspect.signature(cls.__init__).parameters
            longest, seed = (options.get(name, ours[name].default) for name in ("max_length", "seed"))
            backbone = new_backbone(size, tokenizer, longest, seed=seed, dtype=options.get("dtype"))
        return cls(backbone, tokenizer, size=size, **options)

    @abstractmethod
    def fit(self, *args: Any, **options: Any) -> dict[str, list[float]]:
        """Train on data, and return the curve: what was measured, by name, for each epoch."""

    @abstractmethod
    def evaluate(self, *args: Any, **options: Any) -> Report:
        """Compare predictions with labelled data."""

    @abstractmethod
    def predict(self, *args: Any, **options: Any) -> list[Any]:
        """Predict from data without labels, one prediction for each row."""

    def check_data(self, train: Any, *others: Any, **reading: Any) -> None:
        """Settle what is found in the data, labels for instance, and refuse what does not go with it.

        `fit` does the same for its own data; this reports what is wrong with a test file before hours of training.

        Raises:
            DataError: names what is wrong, its file and line.
        """
        examples = self._read(train, "training data", **reading)
        fine_tuned_heads.drop_unfit_head(self, examples)
        self._settle(examples)
        self._check(examples)
        for other in others:
            self._check_held_out(self._read(other, "held-out data", **reading))

    def save(self, directory: str | os.PathLike[str], format: str = "qingformer", *, check_finite: bool = True) -> Path:
        """Write weights, configuration, vocabulary and settings; the directory is whole or as it was before.

        `config.json` and `model.safetensors` are the encoder's, so `Backbone.from_pretrained` reads them too;
        `head.safetensors` holds the layers on top, `task.json` the labels and settings. With `format="huggingface"` the
        folder is that of the class in `transformers` which computes the same (`BertForSequenceClassification`, ...),
        with `id2label`; `from_pretrained` reads it back.

        Raises:
            ConfigError: there is nothing to save yet, or no class in `transformers` computes this task.
            CheckpointError: weights that are not finite (NaN, infinite), unless `check_finite=False`.
        """
        if format not in ("qingformer", "huggingface"):
            raise ConfigError(f"unknown format {format!r} of a task; use qingformer or huggingface")
        save = storage.save if format == "qingformer" else huggingface.save
        return save(self, directory, check_finite)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled as the files that `save` writes, for processes that are spawned; errors are those of `save`."""
        return storage.from_files, (type(self), *storage.as_files(self))

    @classmethod
    def load(cls, directory: str | os.PathLike[str], **options: Any) -> Self:
        """Read what `save` wrote; every weight must be there and fit. `qf.load` finds the class by itself."""
        found: Self = storage.load(cls, model_of_run(Path(directory)), **options)
        return found

    def save_adapters(self, directory: str | os.PathLike[str], *, check_finite: bool = True) -> Path:
        """Write what training with `backbone.enable_lora` changed: adapters, layers on top, labels, but no encoder.

        Errors: `ConfigError` where there are no adapters, `CheckpointError` for values that are not finite unless
        `check_finite=False`.

        Example: `classifier.backbone.enable_lora(8)`, `classifier.fit(...)`, `classifier.save_adapters("sentiment")`
        """
        return task_adapters.save(self, directory, check_finite)

    def load_adapters(self, directory: str | os.PathLike[str], strict: bool = True) -> list[str]:
        """Read what `save_adapters` wrote into a task over the same encoder; returns the paths of the adapters.

        Its labels are those of the file, unless it has some, which must be the same. See `Backbone.load_adapters`.
        A folder of the library `peft` is read as well, with the head that was trained beside its adapters; it names no
        labels, so the task must have them, in the order of the outputs there.
        Errors: `CheckpointError` names what does not fit.

        Example: `TextClassifier.from_pretrained("chinese_L-12_H-768_A-12").load_adapters("sentiment")`
        """
        return task_adapters.load(self, directory, strict)

    # --- what a task says ---------------------------------------------------------------------------------------------

    @abstractmethod
    def _read(self, source: Any, name: str, labelled: bool = True, **reading: Any) -> Any:
        """The examples of a path or a sequence: a sequence with a `name`."""

    @abstractmethod
    def _texts(self, examples: Any) -> Iterable[str]:
        """Every text of the examples, for a vocabulary."""

    def _settle(self, examples: Any) -> None:
        """Take from the training data what the network needs and nobody gave."""

    def _check(self, examples: Any) -> None:
        """Refuse examples that the settled task cannot learn from or be scored on."""

    def _check_held_out(self, examples: Any) -> None:
        """Refuse examples that the settled task cannot be scored on."""
        self._check(examples)

    def _settled(self) -> bool:
        """Whether the network can be made."""
        return True

    @abstractmethod
    def _network(self) -> TrainableModel:
        """The model from the encoder's inputs to the outputs."""

    def _activation(self) -> Callable[[Any], Any]:
        """From the outputs of the network to those of prediction."""
        return _same

    # --- inside -------------------------------------------------------------------------------------------------------

    def _noting(self, examples: Sourced) -> Sourced:
        """`examples`, whose notes on what was repaired or left out are now in `cut`, with the name of the source."""
        for number, note in enumerate(examples.notes):
            named = note if note.startswith(examples.name) else f"{examples.name}: {note}"
            self.cut[f"{examples.name}: {number}"] = named
        return examples

    def _note_unknown(
        self,
        examples: Any,
        found: Iterable[tuple[Any, str]],
        known: Iterable[str],
        what: str,
        where: Callable[..., str],
    ) -> None:
        """Note the labels of held-out data that this model cannot give, with the place of the first."""
        there = set(known)
        unknown = [(place, name) for place, name in found if name not in there]
        if unknown:
            names = ", ".join(dict.fromkeys(repr(name[:40]) for _, name in unknown[:1000]))
            self.cut[f"{examples.name}: unknown {what}"] = (
                f"{where(unknown[0][0])}: {what} {names[:120]} is not in the training data; {len(unknown)} of them "
                f"{'is' if len(unknown) == 1 else 'are'} scored as missed (give all with {what}s=)"
            )

    def _prepare(self, examples: Any, *more: Any) -> None:
        """Settle what was left open until the data is there: labels, vocabulary, encoder, network."""
        fine_tuned_heads.drop_unfit_head(self, examples)
        self._start = None
        self._settle(examples)
        self._check(examples)
        if self.tokenizer is None:
            texts = (text for each in (examples, *more) for text in self._texts(each) if text)
            self.tokenizer = Tokenizer.from_vocabulary(count_vocabulary(texts), lowercase=True)
        if self.backbone is None:
            assert self._size is not None
            self.backbone = new_backbone(self._size, self.tokenizer, self.max_length, seed=self.seed, dtype=self._dtype)
        self._make_model()

    def _make_model(self) -> None:
        if self.model is None and self.backbone is not None and self._settled():
            self.model = self._network()
            self._predictor = Predictor(self.model, self._activation())

    def _ready(self) -> tuple[Tokenizer, Backbone, Predictor]:
        """What prediction needs. Errors: `ConfigError` where there is none yet."""
        if self.tokenizer is None or self.backbone is None or self._predictor is None:
            missing = [key for key in self.identity if getattr(self, key) is None]
            also = f", or give {' and '.join(missing)}" if missing else ""
            left_out = f" ({self.left_out})" if self.left_out else ""
            raise ConfigError(f"this {type(self).__name__} has no weights for its task yet; call fit{also}{left_out}")
        self.check_trained()
        return self.tokenizer, self.backbone, self._predictor

    def _learning_rate(self) -> float:
        return 5e-5 if self._size is None else size_named(self._size).learning_rate

    def _padded(self, features: Any, labels: Any = None, weights: Any = None, **options: Any) -> PaddedBatches:
        """Batches over what the tokenizer made, with the inputs that the encoder has."""
        assert self.tokenizer is not None
        assert self.backbone is not None
        kind = options.pop("kind", PaddedBatches)
        made: PaddedBatches = kind(
            features, labels, weights,
            **{"buckets": buckets_up_to(self.max_length), "pad_token_id": self.tokenizer.pad_token_id,
               "inputs": self.backbone.input, "token_types": self.backbone.config.type_vocab_size} | options,
        )  # fmt: skip
        return made


class ScoredTask(Task):
    """A task whose epochs are compared by its own scores on held-out data, such as the F1 of what it finds.

    Beside what every task says, it says its batches (`_training_batches`), its loss (`_loss`) and its scores
    (`_held_out_scores`), of which `monitor` picks the best epoch.
    """

    monitor: ClassVar[str] = "val_f1"
    scores: ClassVar[tuple[str, ...]] = ("f1", "precision", "recall")  # those that `_held_out_scores` gives

    def fit(
        self,
        train: Any,
        validation_data: Any = None,
        *,
        epochs: int = 3,
        batch_size: int = 32,
        optimizer: keras.optimizers.Optimizer | None = None,
        learning_rate: float | None = None,
        transforms: Sequence[Any] = (),
        monitor: str | None = None,
        patience: int | None = None,
        seed: int = 0,
        directory: str | os.PathLike[str] | None = None,
        save_every: int | None = None,
        resume: bool = False,
        overwrite: bool = False,
        callbacks: Sequence[keras.callbacks.Callback] = (),
        progress: fitting.Listener | None = None,
        verbose: Any = "auto",
        **reading: Any,
    ) -> dict[str, list[float]]:
        """Train, and return the curve: `loss` per epoch, and the scores on `validation_data`, such as `val_f1`.

        With validation data the weights of the best epoch are put back at the end. The same seed and data give the
        same run.

        Args:
            train, validation_data: a path, or a sequence of what the task reads.
            epochs, batch_size: passes over the data, examples per step.
            optimizer: AdamW with linear warm-up (`qf.optimizers.adamw`) if None; then `learning_rate` is its peak, by
                default 5e-5 for pretrained weights and that of the size for new ones.
            transforms: of the objective, such as `[FGM()]`.
            monitor: the score of `scores` that picks the best epoch.
            patience: end after so many epochs without a better one; None to train all `epochs`.
            seed: order of the data, dropout.
            directory: for the learning curve (`curve.jsonl`), the model of the best epoch, or of the last one without
                validation data (`best/`), and resume points (`state/`).
            save_every: steps between resume points; None for one after each epoch. Needs `directory`.
            resume: go on from the last resume point in `directory`, exactly as if never stopped. With more `epochs`
                than before a finished run goes on too; the rate of the default optimizer then rises again to what a
                run of so many epochs has at that step.
            overwrite: replace the run that is in `directory`; without it and `resume` a run there is an error.
            callbacks, verbose: as in Keras.
            progress: told where training stands (see `qingformer.training.ProgressEvent`).
            reading: options of the task's reader, for both data sets.

        Raises:
            DataError, ConfigError: what is wrong with the data, naming file and line, or with an argument.
            TrainingInterrupted: a `KeyboardInterrupt`; with a directory the current step was finished and kept.
        """
        check_arguments(transforms, optimizer, learning_rate, callbacks)
        epochs, batch_size, seed, save_every, patience = checks.counts(epochs, batch_size, seed, save_every, patience)
        self.cut = {}
        examples = self._read(train, "training data", **reading)
        held_out = None if validation_data is None else self._read(validation_data, "validation data", **reading)
        self._prepare(examples)
        if held_out is not None:
            self._check_held_out(held_out)
        batches = self._training_batches(examples, batch_size, seed)
        rate = self._learning_rate() if learning_rate is None else learning_rate
        plan = fitting.Plan(
            epochs, seed, rate, tuple(transforms), self._loss(), loss_weights=self._loss_weights(), patience=patience,
            monitor=fitting.watched(monitor, self.monitor, self.scores),
        )  # fmt: skip
        run = fitting.Run(directory, save_every, resume, overwrite)
        scores = None
        if held_out is not None:
            scores = fitting.HeldOutScores(lambda: self._held_out_scores(held_out), held_out)
        return fitting.fit(
            self, batches, scores, plan, run, optimizer=optimizer, callbacks=callbacks, progress=progress,
            verbose=verbose,
        )  # fmt: skip

    @abstractmethod
    def _training_batches(self, examples: Any, batch_size: int, seed: int) -> PaddedBatches:
        """Batches of inputs and labels in the order of `seed`."""

    @abstractmethod
    def _loss(self) -> Any:
        """The loss on the outputs, or losses by output."""

    def _loss_weights(self) -> dict[str, float] | None:
        """Weights of the losses by output, where they are several."""
        return None

    @abstractmethod
    def _held_out_scores(self, examples: Any) -> dict[str, float]:
        """Scores by name, with that of `monitor` (less "val_") among them."""


def asked(data: Any, what: str) -> bool:
    """Whether there is anything to predict in a list, a table or a file.

    Raises:
        DataError: a text in the place of a list, or a path where no file is.
    """
    if isinstance(data, str) and data != "-" and not os.path.exists(data):
        raise DataError(
            f"predict takes a list of {what} or the path of a file, and there is no file {quoted(data)}; "
            "put what is asked in a list"
        )
    return isinstance(data, str | os.PathLike) or not is_empty(data)


def rows_for(count: int, batch_size: int) -> int:
    """Rows of a batch for `count` examples: no more than a power of two that holds them all.

    >>> rows_for(3, 32), rows_for(100, 32)
    (4, 32)
    """
    return min(checks.whole_number(batch_size, "batch_size"), 1 << max(count - 1, 0).bit_length())


def first_windows(
    windows: Sequence[Window], texts: int, done: Callable[[int], None] | None
) -> Callable[[Iterable[int]], None]:
    """A function that is told the numbers of finished windows and passes on how many texts they begin."""
    if done is None:
        return lambda numbers: None
    begins = {number for number, window in enumerate(windows) if window.first == 0}
    if len(begins) < texts:
        done(texts - len(begins))  # texts without any token
    return lambda numbers: done(sum(number in begins for number in numbers))


def _same(outputs: Any) -> Any:
    return outputs


def _read_vocabulary(vocabulary: str | os.PathLike[str] | Sequence[str]) -> Tokenizer:
    if isinstance(vocabulary, str | os.PathLike):
        return Tokenizer.from_pretrained(vocabulary)
    return Tokenizer.from_vocabulary(list(vocabulary), lowercase=True)
