"""How a task is trained: optimizer, loss, metrics, callbacks, and the best weights put back at the end."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras

from qingformer.data import PaddedBatches
from qingformer.errors import ConfigError
from qingformer.tasks.best import KeepBest
from qingformer.tasks.head import reseed
from qingformer.tasks.schedule import default_optimizer


@dataclass(frozen=True)
class Plan:
    """What decides the numbers of a run, apart from the data."""

    epochs: int
    seed: int
    learning_rate: float
    transforms: tuple[Any, ...]
    multi_label: bool


@dataclass(frozen=True)
class Run:
    """Where a run writes, how often it makes a resume point, and whether it goes on from one."""

    directory: Path | None
    save_every: int | None
    resume: bool


def fit(
    classifier: Any,
    batches: PaddedBatches,
    held_out: PaddedBatches | None,
    plan: Plan,
    run: Run,
    *,
    optimizer: keras.optimizers.Optimizer | None,
    callbacks: Sequence[keras.callbacks.Callback],
    verbose: Any,
) -> dict[str, list[float]]:
    """See `TextClassifier.fit`."""
    if plan.epochs < 1:
        raise ConfigError(f"epochs is {plan.epochs}; expected 1 or more")
    if run.directory is None and (run.resume or run.save_every):
        raise ConfigError("resume and save_every need a directory to keep resume points in")
    model = classifier.model
    total_steps = plan.epochs * batches.batches_per_epoch
    compile_model(model, optimizer or default_optimizer(plan.learning_rate, total_steps), plan)
    reseed(model, plan.seed)
    best = None
    if held_out is not None:
        monitor = "val_loss" if plan.multi_label else "val_accuracy"
        best = KeepBest(classifier, monitor, run.directory, resume=run.resume)
    extra = [] if best is None else [best]
    history = model.fit(
        batches, validation_data=held_out, epochs=plan.epochs, callbacks=[*extra, *callbacks], verbose=verbose,
        shuffle=False,
    )  # fmt: skip
    if best is not None:
        best.restore()
    elif run.directory is not None:
        classifier.save(run.directory / "model")
    return history.history


def compile_model(model: Any, optimizer: keras.optimizers.Optimizer, plan: Plan) -> None:
    """Cross-entropy of logits, and accuracy, both weighted so that rows of padding do not count."""
    if plan.multi_label:
        loss: keras.losses.Loss = keras.losses.BinaryCrossentropy(from_logits=True)
        metric: keras.metrics.Metric = keras.metrics.BinaryAccuracy(name="accuracy", threshold=0.0)
    else:
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        metric = keras.metrics.SparseCategoricalAccuracy(name="accuracy")
    model.compile(optimizer, loss, weighted_metrics=[metric], transforms=plan.transforms)
