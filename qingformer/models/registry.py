"""The families of models by name; each family file enters its backbone class here."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from qingformer.errors import ConfigError

FAMILIES: dict[str, Any] = {}
Family = TypeVar("Family", bound=type)


def register_family(name: str, huggingface_class: str) -> Callable[[Family], Family]:
    """Enter a backbone class under the family's name, which is also its `model_type` in Hugging Face files."""

    def enter(cls: Family) -> Family:
        cls.family = name  # type: ignore[attr-defined]
        cls.huggingface_class = huggingface_class  # type: ignore[attr-defined]
        FAMILIES[name] = cls
        return cls

    return enter


def family_class(name: str) -> Any:
    """The backbone class of a family; `ConfigError` lists the families there are."""
    if name not in FAMILIES:
        raise ConfigError(f"unknown family {name!r}; known are {', '.join(sorted(FAMILIES))}")
    return FAMILIES[name]


def family_of(values: Mapping[str, Any], source: str) -> str:
    """The family that a configuration names; Google's own files name none and are BERT's."""
    name = values.get("family", values.get("model_type", "bert"))
    if name not in FAMILIES:
        raise ConfigError(f"{source}: {name!r} is no family of this package; known are {', '.join(sorted(FAMILIES))}")
    return name
