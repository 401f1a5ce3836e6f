"""Where output goes: results to standard output or a file, everything about the work itself to standard error."""

import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from qingformer.errors import ConfigError
from qingformer.tasks.task_options import TaskEntry

if TYPE_CHECKING:
    from rich.console import Console

# Arguments of the library that the command line has under the same name.
_OPTIONS = (
    "text_column pair_column label_column format columns encoding quoting skip_empty skip_unlabelled "
    "label_separator no_label multi_label max_length epochs "
    "batch_size learning_rate class_weights seed save_every resume head scheme lr_multiplier design pointer schema "
    "labels monitor patience stride max_question_length max_answer_length joiner strict digits metric n_best threshold"
).split()
# A remedy of the library that the command line has not: whether a file has labels is decided by the verb.
_UNLABELLED = re.compile(
    r",? or (pass )?labelled=False( for a test set without real answers)?|pass labelled=False, or "
)


def results() -> "Console":
    """Standard output."""
    from rich.console import Console

    # Lines go out whole: wrapped ones could not be searched or piped.
    return Console(highlight=False, soft_wrap=True)


def status() -> "Console":
    """Standard error: bars, which show on a terminal only, and notes."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, soft_wrap=True)


def note(line: str) -> None:
    """One line on standard error that is no error."""
    status().print(f"note: {as_options(line)}", markup=False)


def as_options(message: str) -> str:
    """Python's `max_length=` in a message as `--max-length`, which is what the user of a shell can change."""

    def option(found: re.Match[str]) -> str:
        value = found[2].strip('"') if found[2] not in (None, "True", "False") else ""
        flag = ("no-" if found[2] == "False" else "") + found[1].replace("_", "-")
        return f"--{flag} {value}".rstrip()

    # Messages are written for Python, where most users meet them.
    message = _UNLABELLED.sub("", message).replace(" separator=", " label_separator=")  # of Columns
    names = "|".join(_OPTIONS)
    return re.sub(rf'\b({names})=(True\b|False\b|"[^"]*")?(?=[ ;,.)]|$)', option, message)


def check_output(output: Path | None, file: str) -> None:
    """Refuse an output that could not be written, or would take the place of the data it is made from.

    Raises:
        ConfigError: a folder, or the file that is read.
    """
    if output is None or not output.exists():
        return
    if output.is_dir():
        raise ConfigError(f"{output}: is a folder; name a file with --output")
    if os.path.exists(file) and output.is_file() and output.samefile(file):
        raise ConfigError(f"{output}: is the file that is read, which --output would replace; name another file")


def choose_form(entry: TaskEntry, output: Path | None, form: str | None, color: bool | None) -> str | None:
    """The format to write, or None for coloured text: on a terminal, or with --color.

    Raises:
        ConfigError: what the model cannot write, or options that do not go together.
    """
    formats, coloured, whose = entry.formats, entry.coloured, f"a model for {entry.name}"
    if form is not None and form not in formats:
        raise ConfigError(f"--output-format {form} does not go with {whose}; it writes {', '.join(formats)}")
    if color:
        if not coloured:
            raise ConfigError(f"--color does not go with {whose}; it writes {', '.join(formats)}")
        if output is not None or form is not None:
            raise ConfigError("--color is for reading on a terminal; leave out --output and --output-format")
        return None
    if form == "brat":
        if output is None:
            raise ConfigError("--output-format brat writes a folder of .txt and .ann files; name it with --output")
        if output.exists() and (not output.is_dir() or any(output.iterdir())):
            raise ConfigError(
                f"{output}: is there already; name a new folder with --output for the .txt and .ann files"
            )
    # Colours only for eyes: a pipe or a file gets JSON.
    if form is None and output is None and coloured and color is None and sys.stdout.isatty():
        return None
    return form or "jsonl"


def coloured_results() -> "Console":
    """Standard output with colours, also where it is no terminal."""
    from rich.console import Console

    return Console(highlight=False, soft_wrap=True, force_terminal=True)
