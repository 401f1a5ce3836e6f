"""Weights of classes as they are written on a command line."""

from qingformer.errors import ConfigError


def parse_class_weights(text: str | None) -> dict[str, float] | str | None:
    """`balanced` and `sqrt` as they are, `spam=2,ham=1` as numbers by label."""
    if text is None or "=" not in text:
        return text
    weights = {}
    for part in text.split(","):
        label, _, value = part.rpartition("=")
        try:
            weights[label.strip()] = float(value)
        except ValueError:
            raise ConfigError(f"--class-weights {text}: {value!r} is not a number") from None
    return weights
