"""Where output goes: results to standard output, everything about the work itself to standard error."""

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


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
    return re.sub(r"\b([a-z]+(?:_[a-z]+)*)=(?:True\b)?(?=[ ;,.]|$)", lambda found: f"--{found[1].replace('_', '-')}", message)
