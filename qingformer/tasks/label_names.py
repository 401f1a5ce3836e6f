"""Names of labels and relations that a caller gives."""

from collections.abc import Iterable

from qingformer.data.cells import label_text, quoted
from qingformer.errors import ConfigError, DataError


def check_names(names: Iterable[str], what: str) -> list[str]:
    """Names that a caller gave, as text, in the order given.

    Raises:
        ConfigError: a single string, none, an empty one, or one that occurs twice.
    """
    if isinstance(names, str):
        raise ConfigError(f"{what} is {quoted(names)}; give a list of {what}")
    try:
        # An empty name is let through here, to be refused below with the name of the list.
        found = [name if isinstance(name, str) and not name else checked_name(name, what) for name in names]
    except DataError as problem:
        raise ConfigError(str(problem)) from None
    twice = next((name for place, name in enumerate(found) if name in found[:place]), None)
    if twice is not None:
        raise ConfigError(
            f"{what.removesuffix('s')} {quoted(twice)} occurs twice among the {what}; each may be there once"
        )
    if "" in found:
        raise ConfigError(f"one of the {what} is empty; give each a name")
    return found


def checked_name(name: object, what: str) -> str:
    """One of the names that a caller gave: text as it is, a number as labels of data are spelled."""
    spelled = label_text(name, what)
    return str(name) if isinstance(name, str) else spelled
