"""Options, declared as values, made into commands; and the options that every task has."""

import inspect
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from qingformer.errors import ConfigError
from qingformer.tasks.task_options import DATA, START, Option, TaskEntry, task_entries
from qingformer.types import Config, Values

__all__ = ["BATCH_SIZE", "DATA", "FROM_SCRATCH", "MODEL", "SOURCE", "START", "VOCABULARY", "Option"]

MODEL = Option(
    "model", Path, "What `train --output` wrote: the run's folder.", flags=("--model", "-m"), required=True,
    shows_default=False,
)  # fmt: skip
SOURCE = Option("source", str, "Pretrained weights: a folder, a .ckpt or hf://org/name.", START)
FROM_SCRATCH = Option("from_scratch", str, "Random weights of a size: tiny, small or base.", START)
VOCABULARY = Option("vocabulary", Path, "vocab.txt; [dim]else the source's own, or counted from the data.[/dim]", START)
BATCH_SIZE = Option("batch_size", int, "Texts per step.", default=32, least=1)


def make_command(
    work: Callable[[Config], None], options: Sequence[Option], arguments: Values | None = None
) -> Callable[..., None]:
    """A function that typer takes for a command: its parameters are `options`, its help the docstring of `work`.

    `arguments` are positional: a name, and a pair of `typer.Argument` and the default (`...` for none).
    """

    def command(**values: Any) -> None:
        for option in options:
            if option.splits and values[option.name] is not None:
                values[option.name] = [part.strip() for part in values[option.name].split(",")]
        work(values)

    parameters = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=_default(default), annotation=annotation)
        for name, (annotation, default) in (arguments or {}).items()
    ]
    parameters += [
        inspect.Parameter(
            option.name, inspect.Parameter.KEYWORD_ONLY, annotation=_annotation(option),
            default=inspect.Parameter.empty if option.required else option.default,
        )
        for option in options
    ]  # fmt: skip
    # typer reads a command from its signature and annotations, which may be made as well as written.
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    command.__doc__ = work.__doc__
    return command


def _default(default: object) -> Any:
    return inspect.Parameter.empty if default is ... else default


def _annotation(option: Option) -> Any:
    optional = option.default is None and not option.required
    bounds: Config = {"min": option.least, "max": option.most} if option.kind in (int, float, list[int]) else {}
    details = typer.Option(
        *option.flags, help=option.help, rich_help_panel=option.panel, show_default=option.shows_default, **bounds
    )
    return Annotated[option.kind | None if optional else option.kind, details]


def task_options(verb: str) -> list[Option]:
    """The options of all tasks for a verb, each once, in the order of the tasks."""
    found: dict[str, Option] = {}
    for entry in task_entries().values():
        for option in entry.options(verb):
            # A flag has one meaning in a verb, whichever tasks have it.
            if found.setdefault(option.name, option) != option:
                raise ConfigError(f"{option.flag} is declared in two ways by the tasks; share one Option")
    return list(found.values())


def in_panels(options: Iterable[Option], panels: Sequence[str | None]) -> list[Option]:
    """The options sorted by the order of their panels in `--help`."""
    return sorted(options, key=lambda option: panels.index(option.panel))


def refuse_others(entry: TaskEntry, verb: str, values: Values, chosen: str) -> None:
    """Refuse options that other tasks have and this one has not, and those of its own that do not go together.

    `chosen` says what was chosen, for messages.

    Raises:
        ConfigError: names the option, and the tasks that have it.
    """
    own = {option.name for option in entry.options(verb)}
    for option in task_options(verb):
        if option.name not in own and option.is_given(values):
            owners = [each.name for each in task_entries().values() if option in each.options(verb)]
            raise ConfigError(f"{option.flag} does not go with {chosen}, only with {', '.join(owners)}")
    entry.task_class().check_options(values)


def epilog(verb: str, *sections: str) -> str:
    """The text under the options of a verb: the examples of all tasks, then further sections."""
    lines = ["[bold]Examples[/bold]"]
    for entry in task_entries().values():
        lines += [f"{title}:  qingformer {line}" for title, line in entry.examples.get(verb, ())]
    return "\n\n".join([*lines, *sections]) + "\n"
