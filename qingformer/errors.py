"""The errors a user can meet: each message is one line that names the thing, what was expected and what to do."""

import re

LONGEST = 399
_LINE_BREAKS = re.compile("[\r\n\v\f\x1c-\x1e\x85\u2028\u2029]+")


class QingFormerError(ValueError):
    """Base of the errors that come from the input, not from a bug; on the command line they are exit code 2.

    Whatever a message quotes, it stays one line of under 400 characters: its beginning, which names the thing, and its
    end, which says what to do.
    """

    def __init__(self, *arguments: object) -> None:
        super().__init__(*(one_line(part) if isinstance(part, str) else part for part in arguments))


def one_line(message: str) -> str:
    """The message without line breaks, and without its middle if it is longer than `LONGEST` characters."""
    parts = _LINE_BREAKS.split(message)
    if len(parts) > 1:
        message = " ".join(filter(None, map(str.strip, parts)))
    # Half of a surrogate pair could not be printed.
    message = message.encode("utf-8", "backslashreplace").decode()
    if len(message) > LONGEST:
        message = f"{message[:260]} ... {message[-(LONGEST - 265) :]}"
    return message


class ConfigError(QingFormerError):
    """A configuration has an unknown key, a missing key, or a value that cannot be."""


class CheckpointError(QingFormerError):
    """A checkpoint is missing, damaged, of another format, or does not fit the model."""


class TokenizerError(QingFormerError):
    """A vocabulary or tokenizer file is missing, damaged, or does not fit the request."""


class HeadWarning(UserWarning):
    """A fine-tuned head in the files was left out, or replaced by a new one."""


class DataError(QingFormerError):
    """A data file is missing, empty, badly encoded, or a line of it does not hold what the task needs."""
