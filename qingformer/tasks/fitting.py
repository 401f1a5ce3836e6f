"""How a task is trained: optimizer, loss, metrics, callbacks, and the best weights put back at the end."""

import os
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras

from qingformer import training
from qingformer.data import PaddedBatches
from qingformer.data.fingerprint import fingerprint
from qingformer.errors import ConfigError
from qingformer.objectives import TrainableModel
from qingformer.optimizers import AdamW, AdjustableRate, adamw, warmup_linear
from qingformer.optimizers.adamw import NOT_DECAYED
from qingformer.tasks import checks, storage
from qingformer.tasks.best_in_memory import BestInMemory
from qingformer.tasks.fit_arguments import check_arguments
from qingformer.tasks.in_use import training_of
from qingformer.tasks.seeded import reseed
from qingformer.tasks.task_registry import BEST
from qingformer.training import Progress, ProgressEvent
from qingformer.training.finite import located
from qingformer.types import Config, Options, Values

if TYPE_CHECKING:
    from qingformer.tasks.task import Task

Listener = Callable[[ProgressEvent], None]


@dataclass(frozen=True)
class Plan:
    """What decides the numbers of a run, apart from the data; `monitor` is the score that picks the best epoch."""

    epochs: int
    seed: int
    learning_rate: float
    transforms: tuple[Any, ...]
    loss: Any  # a loss, or losses by output
    metrics: tuple[keras.metrics.Metric, ...] = ()
    monitor: str = "val_accuracy"
    loss_weights: Mapping[str, float] | None = None
    patience: int | None = None  # epochs without a better score after which training ends


def accuracy(*, multi_label: bool) -> keras.metrics.Metric:
    """The accuracy of logits, as a weighted metric: rows of padding, which have no weight, do not count."""
    if multi_label:
        return keras.metrics.BinaryAccuracy(name="accuracy", threshold=0.0)
    return keras.metrics.SparseCategoricalAccuracy(name="accuracy")


def watched(monitor: str | None, default: str, scores: Sequence[str]) -> str:
    """The name in the logs of the score that picks the best epoch; "val_" may be left out.

    Raises:
        ConfigError: no such score; names those there are.

    >>> watched("macro_f1", "val_accuracy", ["accuracy", "macro_f1"])
    'val_macro_f1'
    """
    if monitor is None:
        return default
    name = str(monitor).removeprefix("val_")
    if name not in scores:
        raise ConfigError(f"monitor is {str(monitor)[:40]!r}; choose one of {', '.join(scores)}")
    return f"val_{name}"


class HeldOutScores(keras.callbacks.Callback):
    """After every epoch, add to its logs what `score()` says of held-out data, as `val_...`.

    It must stand before the callbacks that read these values.
    """

    def __init__(self, score: Callable[[], Mapping[str, float]], data: object = None) -> None:
        super().__init__()
        self._score, self._data = score, data

    @property
    def fingerprint(self) -> str:
        """A hash of what is scored."""
        return fingerprint(self._data)

    def on_epoch_end(self, epoch: int, logs: Config | None = None) -> None:
        # Asking for `self.model` brings the trained values back into the variables on JAX.
        with located(f"epoch {epoch + 1}"), training.weights_to_keep(self.model):
            found = self._score()
        if logs is not None:
            logs.update({f"val_{name}": float(value) for name, value in found.items()})


@dataclass(frozen=True)
class Run:
    """Where a run writes, how often it makes a resume point, whether it goes on from one or replaces another run."""

    directory: str | os.PathLike[str] | None
    save_every: int | None
    resume: bool
    overwrite: bool = False


@dataclass(frozen=True)
class Request:
    """The arguments of `Task.fit` besides the data, as they were given."""

    epochs: int
    batch_size: int
    seed: int
    learning_rate: float | None
    transforms: Sequence[object]
    monitor: str | None
    patience: int | None
    run: Run
    optimizer: keras.optimizers.Optimizer | None
    callbacks: Sequence[keras.callbacks.Callback]
    progress: Listener | None
    verbose: Any

    def checked(self) -> "Request":
        """The same with counts as Python's numbers.

        Raises:
            ConfigError: names the argument that no training can have.
        """
        check_arguments(self.transforms, self.optimizer, self.learning_rate, self.callbacks)
        epochs, batch_size, seed, save_every, patience = checks.counts(
            self.epochs, self.batch_size, self.seed, self.run.save_every, self.patience
        )
        run = replace(self.run, save_every=save_every)
        return replace(self, epochs=epochs, batch_size=batch_size, seed=seed, patience=patience, run=run)


def fit(
    task: "Task", train: object, validation_data: object, request: Request, learning: object, reading: Values
) -> dict[str, list[float]]:
    """See `Task.fit`. All data is read and checked before anything is changed or written."""
    request = request.checked()
    task.cut = {}
    examples = task.read(train, "training data", **reading)
    held_out = None if validation_data is None else task.read(validation_data, "validation data", **reading)
    unlabelled = task.unlabelled_examples(learning, **reading)
    if held_out is not None:
        task.check_same_inputs(examples, held_out)
    built = task.prepare(examples, *([] if unlabelled is None else [unlabelled]))
    if held_out is not None:
        task.check_held_out(held_out)
    setup = task.training_setup(examples, request.batch_size, request.seed, learning, unlabelled)
    rate = task.default_learning_rate() if request.learning_rate is None else request.learning_rate
    plan = Plan(
        request.epochs, request.seed, rate, tuple(request.transforms), setup.loss, setup.metrics,
        task.watched(request.monitor), setup.loss_weights, request.patience,
    )  # fmt: skip
    # Either Keras scores batches after an epoch (loss, accuracy), or the task itself scores all predictions (F1).
    measure: PaddedBatches | HeldOutScores | None = None
    callbacks = list(request.callbacks)
    if held_out is not None:
        measure, more = task.validation(held_out, request.batch_size, plan.monitor)
        callbacks = [*more, *callbacks]  # scores first: the others read them
    run = request.run
    checks.check_rates(plan.learning_rate, request.optimizer)
    checks.check_run(run.directory, run.save_every, resume=run.resume, overwrite=run.overwrite)
    if plan.patience is not None and measure is None:
        raise ConfigError("patience needs validation_data, whose score it watches")
    with training_of(built.model):  # from here on other threads are refused: compiling resets what they would use
        return _fit(task, built.model, setup.batches, measure, plan, replace(request, callbacks=callbacks))


def _fit(
    task: "Task", model: TrainableModel, batches: PaddedBatches, held_out: PaddedBatches | HeldOutScores | None,
    plan: Plan, request: Request,
) -> dict[str, list[float]]:  # fmt: skip
    run, verbose = request.run, request.verbose
    total_steps = plan.epochs * batches.batches_per_epoch
    # Adjustable, so that callbacks such as ReduceLROnPlateau can change a rate that follows a schedule.
    rate = AdjustableRate(warmup_linear(plan.learning_rate, total_steps))
    compile_model(model, request.optimizer or _default_optimizer(model, rate), plan)
    # Dropout starts anew as well: otherwise a second `fit` would depend on what was computed before it.
    reseed(model, plan.seed)
    monitor = None if held_out is None else plan.monitor
    scored = isinstance(held_out, HeldOutScores)
    everyone = [training.FiniteTraining(), *([held_out] if scored else []), *request.callbacks]
    if plan.patience is not None and monitor is not None:
        # Every score but a loss is better when it is higher.
        mode = "min" if monitor.endswith("loss") else "max"
        everyone.append(keras.callbacks.EarlyStopping(monitor, patience=plan.patience, mode=mode))
    if request.progress is not None:
        everyone.append(Progress(request.progress, plan.epochs, batches.batches_per_epoch))
    options = {"epochs": plan.epochs, "validation_data": None if scored else held_out}
    if run.directory is None:
        return _fit_in_memory(model, batches, monitor, everyone, verbose, options)
    # Nothing is written before this: two processes in one folder would mix their runs.
    with training.locked(run.directory) as directory:
        begin = getattr(run.directory, "begin", None)  # of whoever has files of its own there
        if begin is not None:
            begin()
        elif run.overwrite:
            training.clear_run(directory)
        options["held_out"] = held_out
        return _fit_on_disk(task, batches, monitor, everyone, verbose, options, run, directory)


def _default_optimizer(model: keras.Model, schedule: object) -> keras.optimizers.Optimizer:
    if all(keras.backend.standardize_dtype(variable.dtype) != "float16" for variable in model.trainable_variables):
        return adamw(schedule)
    # Keras' class has its state in the type of the weights, where epsilon and small squares are 0: 0 / 0.
    spared = [rf"(^|/){name}$" for name in NOT_DECAYED]
    return AdamW(schedule, weight_decay=0.01, exclude_from_weight_decay=spared, epsilon=1e-6, global_clipnorm=1.0)


def _fit_in_memory(
    model: keras.Model,
    batches: PaddedBatches,
    monitor: str | None,
    callbacks: list[Any],
    verbose: object,
    options: Options,
) -> dict[str, list[float]]:
    best = None if monitor is None else BestInMemory(monitor)
    everyone = [training.SwapAverages(), *callbacks, training.FiniteTraining(), *([best] if best else [])]
    try:
        history = model.fit(batches, callbacks=everyone, verbose=verbose, shuffle=False, **options)
    except training.DivergenceError:
        if best is not None:
            best.restore(model)
        raise
    if best is not None:
        best.restore(model)
    else:
        # An optimizer that averages the weights leaves the averages in the model, as they are what was scored.
        training.keep_averages(model)
        training.check_weights(model.trainable_variables)
    curve: dict[str, list[float]] = history.history
    return curve


def _fit_on_disk(
    task: Any,
    batches: PaddedBatches,
    monitor: str | None,
    callbacks: list[Any],
    verbose: Any,
    options: dict[str, Any],
    run: Run,
    directory: Path,
) -> dict[str, list[float]]:
    best = directory / BEST
    try:
        result = training.run(
            task.model,
            batches,
            directory=directory,
            resume=run.resume,
            callbacks=callbacks,
            monitor=monitor,
            save_best=lambda folder: storage.write(task, folder),
            save_every_steps=run.save_every or 0,
            verbose=0 if verbose == "auto" else verbose,
            **options,
        )
    except training.DivergenceError:
        if monitor is not None and best.exists():
            # The weights of the best epoch, not of the last one.
            storage.read_weights(task, best)
        raise
    if result.interrupted:
        by = "Ctrl-C" if result.signal == signal.SIGINT else "SIGTERM"
        message = f"stopped by {by}; go on with fit(..., directory={str(directory)!r}, resume=True)"
        raise training.TrainingInterrupted(message, result.signal or signal.SIGINT)
    if result.best_epoch is not None:
        storage.read_weights(task, best)
    else:
        training.keep_averages(task.model)
        training.check_weights(task.model.trainable_variables)
        training.replace_folder(best, lambda folder: storage.write(task, folder))
    return {key: [logs[key] for logs in result.history] for key in result.history[0]}


def compile_model(model: keras.Model, optimizer: keras.optimizers.Optimizer, plan: Plan) -> None:
    """Loss, metrics and transforms of `plan` with an optimizer."""
    weights = None if plan.loss_weights is None else dict(plan.loss_weights)
    metrics = list(plan.metrics) or None
    model.compile(optimizer, plan.loss, loss_weights=weights, weighted_metrics=metrics, transforms=plan.transforms)
