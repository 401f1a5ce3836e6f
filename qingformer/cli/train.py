"""`qingformer train`: from a data file and a model source to a model that predicts."""

from pathlib import Path

from qingformer.cli import options
from qingformer.cli.options import Option, epilog, in_panels, make_command, task_options
from qingformer.tasks.task_options import DATA, ENCODING, LEARN, TASKS, task_entries
from qingformer.types import Config

NAME = "train"
RUN = "The run"
_NAMES = list(task_entries())
_LENGTHS = {entry.max_length: entry.name for entry in task_entries().values()}


def _capitalized(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]


EPILOG = epilog(
    NAME,
    "After Ctrl-C:  the same command and --resume",
    "[bold]Data[/bold]  .gz and .xz are read as they are. "
    + _capitalized("; ".join(entry.summary for entry in task_entries().values())) + ".",
    "[bold]What lands in --output[/bold]  best/ (the model of the best epoch, for evaluate and predict), curve.jsonl "
    "and curve.png (the learning curve), report.json (the score on --test), state/ (the resume point), run.json (the "
    "settings).",
)  # fmt: skip

_DATA_FILES = (
    Option("train", Path, "Training data.", required=True, shows_default=False),
    Option(
        "output", Path, "Folder for everything this run writes.", flags=("--output", "-o"), required=True,
        shows_default=False,
    ),
    Option("dev", Path, "Held-out data scored after every epoch; the best epoch is kept."),
    Option("test", Path, "Held-out data scored once, at the end."),
    Option("task", str, f"{', '.join(_NAMES[:-1])} or {_NAMES[-1]}.", default=_NAMES[0]),
)  # fmt: skip
_LEARNING = (
    Option("epochs", int, "Passes over the training data.", LEARN, 3, least=1),
    Option("batch_size", int, "Texts per step.", LEARN, 32, least=1),
    Option(
        "learning_rate", float,
        "Peak rate. [dim]5e-5 for pretrained weights, 1e-3 tiny, 5e-4 small, 1e-4 base.[/dim]", LEARN,
    ),
    Option(
        "max_length", int,
        f"Longest input in tokens. [dim]128, {', '.join(f'{name} {n}' for n, name in _LENGTHS.items() if n != 128)}"
        "[/dim]", LEARN,
    ),
    Option(
        "transform", list[str],
        "A training trick, may be given several times: fgm, fgm=30%, pgd, vat, gradient_penalty, r_drop=4, "
        "child_tuning=0.2, child_tuning_d, flooding, label_smoothing, "
        "embedding_noise, l2, weissi, accumulation, clip.", LEARN,
    ),
    Option(
        "monitor", str,
        "The score on --dev that picks the best epoch: accuracy, loss, macro_f1 or weighted_f1 of classes, f1, "
        "precision or recall of what is found, f1 or exact of answers.", LEARN,
    ),
    Option("patience", int, "Stop after so many epochs without a better score on --dev.", LEARN, least=1),
    Option("precision", str, "float32 or mixed_bfloat16.", LEARN, "float32"),
)  # fmt: skip
_SEED = Option("seed", int, "The same seed and data give the same run.", RUN, 0)
_STEERING = (
    Option("save_every", int, "Steps between resume points. [dim]One after each epoch.[/dim]", RUN, least=1),
    Option("resume", bool, "Go on exactly where a stopped run was.", RUN, False, ("--resume",)),
    Option("overwrite", bool, "Replace the run that is in --output.", RUN, False, ("--overwrite",)),
)  # fmt: skip

# Two runs in which all of these are equal, and their data, are the same run.
SETTINGS: tuple[Option, ...] = (
    *(option for option in _DATA_FILES if option.name != "output"),
    options.SOURCE, options.FROM_SCRATCH, options.VOCABULARY, *_LEARNING, *task_options(NAME), ENCODING, _SEED,
)  # fmt: skip
_ALL = in_panels(
    (*_DATA_FILES, *(option for option in SETTINGS if option not in _DATA_FILES), *_STEERING),
    [None, options.START, DATA, TASKS, LEARN, RUN],
)


def work(values: Config) -> None:
    """Train a text classifier, or with --task another model, and score it.

    Needs a data file and something to start from: --source or --from-scratch.
    """
    from qingformer.cli.training import train_task

    steering = {name: values.pop(name) for name in ("save_every", "resume", "overwrite")}
    train_task(values, values.pop("output"), **steering)


command = make_command(work, _ALL)
