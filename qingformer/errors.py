"""The errors a user can meet: each message is one line that names the thing, what was expected and what to do."""


class QingFormerError(ValueError):
    """Base of the errors that come from the input, not from a bug; on the command line they are exit code 2."""


class ConfigError(QingFormerError):
    """A configuration has an unknown key, a missing key, or a value that cannot be."""


class CheckpointError(QingFormerError):
    """A checkpoint is missing, damaged, of another format, or does not fit the model."""


class TokenizerError(QingFormerError):
    """A vocabulary or tokenizer file is missing, damaged, or does not fit the request."""


class DataError(QingFormerError):
    """A data file is missing, empty, badly encoded, or a line of it does not hold what the task needs."""
