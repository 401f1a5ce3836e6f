"""The command line: `qingformer train|evaluate|predict|convert|info`. Thin: it parses, calls a task, prints."""

from qingformer.cli.main import main, run

__all__ = ["main", "run"]
