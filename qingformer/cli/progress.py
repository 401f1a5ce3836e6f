"""Bars on standard error, which show on a terminal only."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from qingformer.types import Config

if TYPE_CHECKING:
    from qingformer.training import ProgressEvent


class RateColumn(ProgressColumn):
    """How many per second."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self.unit = unit

    def render(self, task: Task) -> Text:
        """The rate, or a placeholder until there is one."""
        speed = task.finished_speed or task.speed
        return Text(f"{speed:.1f} {self.unit}/s" if speed else f"- {self.unit}/s")


def make_bar(console: Console, unit: str) -> Progress:
    """A bar with a count, a rate and the remaining time."""
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), RateColumn(unit), TimeRemainingColumn(),
        TextColumn("{task.fields[more]}"), console=console, transient=True, disable=not console.is_terminal,
    )  # fmt: skip


@contextmanager
def counting(console: Console, description: str, total: int, unit: str = "texts") -> Iterator[Callable[[int], None]]:
    """A bar over `total` texts, or other units; the yielded function is told how many more are done."""
    with make_bar(console, unit) as bar:
        task = bar.add_task(description, total=total, more="")
        yield lambda count: bar.advance(task, count)


@contextmanager
def training(results: Console, status: Console) -> "Iterator[Callable[[ProgressEvent], None]]":
    """A live bar over all steps with the loss, and on `results` one line for every epoch that is finished."""
    with make_bar(status, "steps") as bar:
        task = bar.add_task("preparing", total=None, more="")

        def listen(event: "ProgressEvent") -> None:
            if event.kind == "epoch":
                results.print(
                    f"epoch {event.epoch}/{event.epochs}  {_values(event.logs)}  {event.elapsed:.1f} s", markup=False
                )
                results.file.flush()
            shown = {key: value for key, value in event.logs.items() if not key.startswith("val_")}
            bar.update(
                task, description=f"epoch {event.epoch}/{event.epochs}", total=event.steps, completed=event.step,
                more=_values(shown) or "compiling",
            )  # fmt: skip

        yield listen


def _values(logs: Config) -> str:
    return "  ".join(f"{key} {value:.4f}" for key, value in logs.items())
