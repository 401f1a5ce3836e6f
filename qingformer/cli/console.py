"""Where output goes: results to standard output, everything about the work itself to standard error."""

import re
from typing import TYPE_CHECKING

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

    message = _UNLABELLED.sub("", message).replace(" separator=", " label_separator=")  # of Columns
    names = "|".join(_OPTIONS)
    return re.sub(rf'\b({names})=(True\b|False\b|"[^"]*")?(?=[ ;,.)]|$)', option, message)
