"""What can be wrong with the texts and lengths given to a tokenizer."""

from collections.abc import Sequence

from qingformer.errors import QingFormerError, TokenizerError

TRUNCATIONS = ("longest_first", "only_first", "only_second")
SIDES = ("right", "left")


def check_truncation(max_length: int | None, truncation: str, side: str, special: int) -> None:
    """Raise TokenizerError if the length leaves no room for the `special` tokens around a text, or a name is wrong."""
    if truncation not in TRUNCATIONS:
        raise TokenizerError(f"truncation: expected one of {', '.join(TRUNCATIONS)}, not {truncation!r}")
    if side not in SIDES:
        raise TokenizerError(f"truncation_side: expected one of {', '.join(SIDES)}, not {side!r}")
    if max_length is None:
        return
    if isinstance(max_length, bool) or not isinstance(max_length, int):
        raise TokenizerError(f"max_length: expected a whole number of tokens or None, not {max_length!r}")
    if max_length < max(special, 1):
        raise TokenizerError(
            f"max_length={max_length} leaves no room for the {special} special tokens around a text; "
            f"choose {special + 1} or more"
        )


def explain(problem: Exception, texts: Sequence[object], pairs: Sequence[object] | None) -> QingFormerError:
    """The one-line error for what the library could not encode: which text, what it is, what was expected."""
    if isinstance(problem, QingFormerError):
        return problem
    for name, rows in (("text", texts), ("pair", pairs or ())):
        for number, row in enumerate(rows):
            if not isinstance(row, str):
                return TokenizerError(f"{name} {number}: expected a string, not {type(row).__name__} {str(row)[:40]!r}")
            for place, character in enumerate(row):
                if "\ud800" <= character <= "\udfff":
                    return TokenizerError(
                        f"{name} {number}, character {place}: half of a surrogate pair "
                        f"(U+{ord(character):04X}) is not text; decode the input as UTF-8 or UTF-16"
                    )
    message = " ".join(str(problem).split())
    if "TokenizerError: " in message:  # raised in a word splitter, below the library
        return TokenizerError(message.split("TokenizerError: ", 1)[1])
    if "runcation" in message:
        return TokenizerError(
            "truncation: the text that may be cut is shorter than what must go; "
            "use truncation='longest_first' or a greater max_length"
        )
    return TokenizerError(f"the text cannot be encoded: {message}")
