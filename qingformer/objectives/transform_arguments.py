"""What the arguments of transforms must be, said in one way."""

from qingformer.errors import ConfigError


def not_negative(owner: str, name: str, value: float) -> float:
    """`value` as a float; raises `ConfigError` for a number that is negative or not finite.

    Example:
        >>> not_negative("FGM", "epsilon", 1)
        1.0
    """
    if not 0 <= value < float("inf"):
        raise ConfigError(f"{owner}: {name} is {value}; it must be a finite number that is not negative")
    return float(value)


def radius(
    owner: str, epsilon: float | None, relative: float | None, default: float
) -> tuple[float | None, float | None]:
    """The length of a perturbation: `(epsilon, None)` in units of the weights, or `(None, relative)` in theirs.

    Raises:
        ConfigError: both, or a number that cannot be.

    Example:
        >>> radius("FGM", None, None, 0.3)
        (None, 0.3)
    """
    if epsilon is not None and relative is not None:
        raise ConfigError(f"{owner}: epsilon is {epsilon} and relative is {relative}; give one of the two")
    if epsilon is not None:
        return not_negative(owner, "epsilon", epsilon), None
    return None, not_negative(owner, "relative", default if relative is None else relative)


def one_of(owner: str, name: str, value: str, choices: tuple[str, ...]) -> str:
    """`value`; raises `ConfigError` for a word that is not among `choices`."""
    if value not in choices:
        raise ConfigError(f"{owner}: {name} is {value!r}; it must be one of {', '.join(choices)}")
    return value
