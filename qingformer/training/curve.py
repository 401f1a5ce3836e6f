"""The learning curve: one JSON line every few steps and one per epoch, and a picture of it."""

import json
import math
import os
import time
from pathlib import Path
from typing import Any

import keras

from qingformer.files import atomic_file
from qingformer.json_files import check_kinds, parse_json
from qingformer.training.steps import Logs, OrderedSteps
from qingformer.training.training_errors import PlotError
from qingformer.types import Config

Row = dict[str, Any]


class LearningCurve(OrderedSteps):
    """Append the course of training to a JSON Lines file.

    A line has `kind` ("step" or "epoch"), `step`, `epoch` (from 1), `time` (seconds of training so far), what Keras
    logs (running means over the epoch; `val_...` in epoch lines), `learning_rate`, and in step lines `recent_loss`,
    the mean loss of the steps since the line before (exact where a loss is a mean over rows). What is not
    finite is null.

    A new training starts a new file; a resumed one goes on after the last step of the restored state.

    Args:
        path: the file.
        every_steps: steps per line; 0 for epoch lines only.
        dataset: what is trained on; `PaddedBatches` know how many examples there were before each batch.
    """

    def __init__(self, path: str | os.PathLike[str], every_steps: int = 10, dataset: object = None) -> None:
        super().__init__()
        self.path, self.every_steps, self.dataset = Path(path), every_steps, dataset
        self._examples: Any = None
        self._elapsed, self._mean, self._count, self._size = 0.0, 0.0, 0, 0
        self._clock: float | None = None
        self._rate: Any = None
        self._iterations = 0

    def get_state(self) -> Config:
        """The time so far, the sums behind `recent_loss`, and the length of the file in bytes."""
        return {"elapsed": self._time(), "mean": self._mean, "count": self._count, "size": self._size}

    def set_state(self, state: Config) -> None:
        """Go on from `get_state`; later lines of the file are cut off."""
        self._elapsed, self._mean = float(state["elapsed"]), float(state["mean"])
        self._count, self._size = int(state["count"]), int(state["size"])

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self._clock = None

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        if self._clock is None:
            self._clock = time.monotonic()
            self._open()
        if not self._resumed:
            self._mean, self._count = 0.0, 0
        super().on_epoch_begin(epoch, logs)
        before = getattr(self.dataset, "examples_before", None)
        self._examples = None if before is None else before(epoch)
        # Read once an epoch: in the middle of one, reading a variable would make JAX hand over its whole state.
        optimizer = getattr(self._model.optimizer, "inner_optimizer", self._model.optimizer)
        self._iterations = int(optimizer._iterations) - self.step
        schedule = optimizer._learning_rate
        schedule = schedule.at_present() if hasattr(schedule, "at_present") else schedule
        is_schedule = isinstance(schedule, keras.optimizers.schedules.LearningRateSchedule)
        self._rate = schedule if is_schedule else float(optimizer.learning_rate)

    def on_step(self, logs: Logs) -> None:
        if not self.every_steps or self.step % self.every_steps >= self._model.steps_per_execution:
            return
        row = dict(logs)
        if "loss" in logs and self.batch > self._count:
            now, then = self._seen(self.batch), self._seen(self._count)
            row["recent_loss"] = (logs["loss"] * now - self._mean * then) / (now - then)
            self._mean, self._count = logs["loss"], self.batch
        self._write("step", row)

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        self._write("epoch", dict(logs or {}))

    def _seen(self, batches: int) -> int:
        """How much of the epoch the mean of its first batches is of: examples, or batches."""
        return batches if self._examples is None else int(self._examples[batches])

    def _time(self) -> float:
        return self._elapsed + (time.monotonic() - self._clock if self._clock is not None else 0.0)

    def _open(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab") as file:
            self._size = min(self._size, file.tell())  # the file may have been moved away since
            file.truncate(self._size)

    def _write(self, kind: str, logs: Logs) -> None:
        row: Row = {"kind": kind, "step": self.step, "epoch": self.epoch + 1, "time": round(self._time(), 3), **logs}
        row["learning_rate"] = float(self._rate(self._iterations + self.step)) if callable(self._rate) else self._rate
        row = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}
        with self.path.open("ab") as file:
            file.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")
            self._size = file.tell()


def read_curve(path: str | os.PathLike[str]) -> list[Row]:
    """The lines of a learning curve; a last line that was cut off by a crash is left out.

    Raises:
        PlotError: no such file, or a line that is not a JSON object.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").split("\n")
    except FileNotFoundError:
        raise PlotError(f"{path}: no such file; give a learning curve written by training") from None
    except (OSError, UnicodeDecodeError) as problem:
        raise PlotError(f"{path}: cannot be read ({problem}); give a learning curve written by training") from None
    rows = []
    for number, line in enumerate(lines[:-1], start=1):  # what follows the last newline is empty or cut off
        row = parse_json(line, str(path), PlotError, number)
        if not isinstance(row, dict) or not {"kind", "step", "epoch"} <= set(row):
            raise PlotError(f"{path}, line {number}: not a line of a learning curve (needs kind, step and epoch)")
        check_kinds(row, {"kind": str, "step": int, "epoch": int}, f"{path}, line {number}", PlotError)
        rows.append(row)
    return rows


def plot_curve(curve: str | os.PathLike[str], picture: str | os.PathLike[str]) -> Path:
    """Draw losses, and below them the other metrics, over the steps; returns the path of the PNG.

    Needs matplotlib (the extra `plot`) and no display.

    Raises:
        PlotError: matplotlib is not installed, or the curve is missing, damaged or empty.
    """
    rows = read_curve(curve)
    if not rows:
        raise PlotError(f"{curve}: no lines yet, nothing to draw")
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise PlotError('drawing needs matplotlib: pip install "qingformer[plot]"') from None
    epochs = [row for row in rows if row["kind"] == "epoch"]
    known = {"kind", "step", "epoch", "time", "learning_rate"}
    names = sorted({name for row in epochs for name in row} - known)
    metrics = [name for name in names if not name.endswith("loss")]
    figure = Figure(figsize=(7, 6 if metrics else 3.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2 if metrics else 1, 1, sharex=True, squeeze=False)[:, 0]
    steps = [row for row in rows if row["kind"] == "step"]
    _draw(axes[0], steps, "recent_loss", marker="", label="loss (recent steps)")
    for name in names:
        _draw(axes[1 if name in metrics else 0], epochs, name, marker="o", label=name)
    for axis in axes:
        axis.grid(alpha=0.3)
        if axis.lines:
            axis.legend()
    axes[-1].set_xlabel("step")
    path = Path(picture)
    with atomic_file(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)
    return path


def _draw(axis: Any, rows: list[Row], name: str, marker: str, label: str) -> None:
    points = [(row["step"], row[name]) for row in rows if row.get(name) is not None]
    if points:
        axis.plot(*zip(*points), marker=marker, label=label)
