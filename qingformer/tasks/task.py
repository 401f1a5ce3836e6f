"""What all tasks share: an encoder, a tokenizer, a network on top, training, and the ways in and out of files."""

import inspect
import os
from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self, TypedDict, TypeVar

import keras

from qingformer.data import PaddedBatches
from qingformer.data.batches import buckets_up_to
from qingformer.data.cells import plain, quoted
from qingformer.errors import ConfigError
from qingformer.evaluation.report import Report
from qingformer.folders import model_of_run
from qingformer.models import Backbone
from qingformer.objectives import TrainableModel
from qingformer.tasks import fine_tuned_heads, fitting, huggingface, storage, task_adapters
from qingformer.tasks.built import Built
from qingformer.tasks.predictor import Predictor
from qingformer.tasks.scratch import count_vocabulary, new_backbone, size_named
from qingformer.tasks.task_methods import TaskMethods
from qingformer.tokenization import Tokenizer
from qingformer.types import DtypeLike, Options

Sourced = TypeVar("Sourced", bound=Any)  # examples with `name` and `notes`


class FitOptions(TypedDict, total=False):
    """The options of `Task.fit`, for tasks that add some of their own."""

    epochs: int
    batch_size: int
    optimizer: keras.optimizers.Optimizer | None
    learning_rate: float | None
    transforms: Sequence[object]
    monitor: str | None
    patience: int | None
    seed: int
    directory: str | os.PathLike[str] | None
    save_every: int | None
    resume: bool
    overwrite: bool
    callbacks: Sequence[keras.callbacks.Callback]
    progress: fitting.Listener | None
    verbose: Any


class Task(TaskMethods, fine_tuned_heads.TakesHeads):
    """An encoder, a tokenizer and a network on top that are trained, scored, saved and loaded together.

    A task of your own is a subclass with `@register_task("its-name")` and these methods:

    - its data: `read` and `texts`, and `check_examples` where rows can be wrong in ways that the reader does not see;
    - its network: `build_network`, and `activation` if predictions are not the outputs themselves; a task whose network
      depends on the training data (on its labels, say) names the setting in `label_setting` and finds it in
      `infer_labels`;
    - its training: `training_batches`, `loss`, and `score` for the epochs that held-out data is to choose among;
    - its answers: `predict` and `evaluate`, both through `self.ready()`.

    `examples/own_task.py` is one of seventy lines.

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
    identity: ClassVar[tuple[str, ...]] = ()  # the settings that decide what the outputs mean
    later_settings: ClassVar[Options] = {}  # settings that files of earlier versions lack, with their meaning
    huggingface_head: ClassVar[str | None] = None  # the head of `transformers` that computes the same, after "For"

    def __init__(
        self,
        backbone: Backbone | None,
        tokenizer: Tokenizer | None,
        *,
        max_length: int = 128,
        dropout: float = 0.1,
        seed: int = 0,
        size: str | None = None,
        dtype: DtypeLike = None,
    ) -> None:
        if (backbone is None or tokenizer is None) and size is None:
            raise ConfigError("a task needs a backbone and a tokenizer; see from_pretrained and from_scratch")
        self.backbone, self.tokenizer = backbone, tokenizer
        if not isinstance(plain(max_length), int):
            raise ConfigError(f"max_length is {quoted(max_length)}; expected a whole number of tokens")
        self.max_length, self.dropout, self.seed = plain(max_length), float(dropout), seed
        self.built: Built | None = None
        self.cut: dict[str, str] = {}
        self._size, self._dtype = size or "", dtype
        if backbone is not None and tokenizer is not None:
            storage.check_fit(backbone, tokenizer, max_length)
            storage.note_spare_rows(backbone, tokenizer)
        self.build()

    @property
    def model(self) -> TrainableModel | None:
        """The network from the encoder's inputs to the outputs; None until there is one."""
        return None if self.built is None else self.built.model

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
        # What the caller says, else what the saved head was trained with, else the default of the class.
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

    def fit(
        self,
        train: object,
        validation_data: object = None,
        *,
        epochs: int = 3,
        batch_size: int = 32,
        optimizer: keras.optimizers.Optimizer | None = None,
        learning_rate: float | None = None,
        transforms: Sequence[object] = (),
        monitor: str | None = None,
        patience: int | None = None,
        seed: int = 0,
        directory: str | os.PathLike[str] | None = None,
        save_every: int | None = None,
        resume: bool = False,
        overwrite: bool = False,
        callbacks: Sequence[keras.callbacks.Callback] = (),
        progress: fitting.Listener | None = None,
        verbose: object = "auto",
        learning: object = None,
        **reading: object,
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
            learning: what the `fit` of a subclass hands on to its own `training_setup`.
            reading: options of the task's reader, for both data sets.

        Raises:
            DataError, ConfigError: what is wrong with the data, naming file and line, or with an argument.
            TrainingInterrupted: a `KeyboardInterrupt`; with a directory the current step was finished and kept.
        """
        run = fitting.Run(directory, save_every, resume, overwrite)
        request = fitting.Request(
            epochs, batch_size, seed, learning_rate, transforms, monitor, patience, run, optimizer, callbacks or (),
            progress, verbose,
        )  # fmt: skip
        return fitting.fit(self, train, validation_data, request, learning, reading)

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
        examples = self.read(train, "training data", **reading)
        held_out = [self.read(other, "held-out data", **reading) for other in others]
        fine_tuned_heads.drop_unfit_head(self, examples)
        self.infer_labels(examples)
        self.check_examples(examples)
        for other in held_out:
            self.check_held_out(other)
            self.check_same_inputs(examples, other)

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
    def load(cls, directory: str | os.PathLike[str], **options: object) -> Self:
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

    # --- for tasks to use ---------------------------------------------------------------------------------------------

    def keep_notes(self, examples: Sourced) -> Sourced:
        """`examples`, after adding their notes on rows repaired or left out, with the name of the source, to `cut`."""
        for number, note in enumerate(examples.notes):
            named = note if note.startswith(examples.name) else f"{examples.name}: {note}"
            self.cut[f"{examples.name}: {number}"] = named
        return examples

    def note_unknown(
        self,
        examples: Any,
        found: Iterable[tuple[Any, str]],
        known: Iterable[str],
        what: str,
        where: Callable[..., str],
    ) -> None:
        """Note the labels of held-out data that this model cannot give, with the row of the first."""
        there = set(known)
        unknown = [(row, name) for row, name in found if name not in there]
        if unknown:
            names = ", ".join(dict.fromkeys(repr(name[:40]) for _, name in unknown[:1000]))
            self.cut[f"{examples.name}: unknown {what}"] = (
                f"{where(unknown[0][0])}: {what} {names[:120]} is not in the training data; {len(unknown)} of them "
                f"{'is' if len(unknown) == 1 else 'are'} scored as missed (give all with {what}s=)"
            )

    def padded_batches(self, features: Any, labels: Any = None, weights: Any = None, **options: Any) -> PaddedBatches:
        """Batches over tokenized texts, padded to a few lengths, with the inputs that the encoder has.

        `options` are those of `PaddedBatches` (`batch_size`, `shuffle`, `seed`, ...), and `kind`, another class of
        batches.
        """
        built = self.parts()
        kind = options.pop("kind", PaddedBatches)
        made: PaddedBatches = kind(
            features, labels, weights,
            **{"buckets": buckets_up_to(self.max_length), "pad_token_id": built.tokenizer.pad_token_id,
               "inputs": built.backbone.input, "token_types": built.backbone.config.type_vocab_size} | options,
        )  # fmt: skip
        return made

    def parts(self) -> Built:
        """The encoder, tokenizer, network and predictor.

        Raises:
            ConfigError: there is no network yet.
        """
        if self.built is None:
            missing = [key for key in self.identity if getattr(self, key) is None]
            also = f", or give {' and '.join(missing)}" if missing else ""
            left_out = f" ({self.left_out})" if self.left_out else ""
            raise ConfigError(f"this {type(self).__name__} has no weights for its task yet; call fit{also}{left_out}")
        return self.built

    def ready(self) -> Built:
        """The same for prediction, which layers that nobody has trained are not fit for.

        Raises:
            ConfigError: there is no network yet, or its layers on top are as they started.
        """
        built = self.parts()
        self.check_trained()
        return built

    def prepare(self, examples: object, *more: object) -> Built:
        """Decide what was left open until the data is there: labels, vocabulary, encoder, network."""
        fine_tuned_heads.drop_unfit_head(self, examples)
        self._start = None
        self.infer_labels(examples)
        self.check_examples(examples)
        # The vocabulary comes first, as the encoder needs its size; both may have been given.
        if self.tokenizer is None:
            texts = (text for each in (examples, *more) for text in self.texts(each) if text)
            self.tokenizer = Tokenizer.from_vocabulary(count_vocabulary(texts), lowercase=True)
        if self.backbone is None:
            self.backbone = new_backbone(self._size, self.tokenizer, self.max_length, seed=self.seed, dtype=self._dtype)
        self.build()
        return self.parts()

    def build(self) -> None:
        """Make the network, where there is none yet and everything is there that it needs."""
        if self.built is None and self.backbone is not None and self.tokenizer is not None and self.can_build():
            model = self.build_network(self.backbone)
            self.built = Built(self.backbone, self.tokenizer, model, Predictor(model, self.activation()))

    def discard_network(self) -> None:
        """Forget the network and the layers on top, but not the encoder."""
        self.built = None

    def default_learning_rate(self) -> float:
        """5e-5 for pretrained weights; new ones take the rate of their size."""
        return size_named(self._size).learning_rate if self._size else 5e-5


def _read_vocabulary(vocabulary: str | os.PathLike[str] | Sequence[str]) -> Tokenizer:
    if isinstance(vocabulary, str | os.PathLike):
        return Tokenizer.from_pretrained(vocabulary)
    return Tokenizer.from_vocabulary(list(vocabulary), lowercase=True)
