"""The families of models by name; each family file enters its backbone class here."""

import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, TypeVar

from qingformer.errors import ConfigError
from qingformer.json_files import quoted
from qingformer.types import Config, Values

FAMILIES: Config = {}
Family = TypeVar("Family", bound=type)


def register_family(name: str, huggingface_class: str | None = None) -> Callable[[Family], Family]:
    """Enter a backbone class under the family's name; `huggingface_class` is its class in `transformers`, if any."""

    def enter(cls: Family) -> Family:
        spec = replace(cls.spec, name=name, huggingface_class=huggingface_class)  # type: ignore[attr-defined]
        cls.spec = spec  # type: ignore[attr-defined]
        FAMILIES[name] = cls
        return cls

    return enter


def family_class(name: str) -> Any:
    """The backbone class of a family; `ConfigError` lists the families there are."""
    if not isinstance(name, str) or name not in FAMILIES:
        raise ConfigError(f"unknown family {quoted(name)}; known are {', '.join(sorted(FAMILIES))}")
    return FAMILIES[name]


def check_role(kind: str, family: str, application: str) -> None:
    """Raise `ConfigError` if a class of models needs an application that the family does not have."""
    cls = family_class(family)
    if application not in cls.spec.applications:
        raise ConfigError(
            f"{kind} needs the application {application!r}, which the family {family} does not have; "
            f"its heads are {', '.join(cls.spec.heads)}"
        )


def family_of(values: Values, source: str, names: Iterable[str] = ()) -> str:
    """The family of a model, from its configuration and the names of its stored weights.

    In this order: what the configuration says (`family`); keys that one family alone has; its `model_type`; names of
    weights that one family alone has; BERT. Errors: `ConfigError` for a family that is not here, and where the files
    fit two families.
    """
    names = list(names)  # read several times, and it may be an iterator
    if "family" in values:
        return known_family(values["family"], source)
    # Before `model_type`: published files of NEZHA say "bert" there.
    for name, cls in FAMILIES.items():
        # A key that one family alone has is a surer sign than `model_type`, which is copied along with code.
        if any(values.get(key) for key in cls.spec.config_signatures):
            return name
    if values.get("model_type") is not None:
        kinds = {kind: name for name, cls in FAMILIES.items() for kind in (name, *cls.spec.model_types)}
        kind = values["model_type"]
        return known_family(kinds.get(kind, kind) if isinstance(kind, str) else kind, source)
    for name, cls in FAMILIES.items():
        # Last of all: names have prefixes and suffixes of whatever program wrote them.
        if any(re.search(mark, stored) for mark in cls.spec.weight_signatures for stored in names):
            return name
    if any(stored.startswith("bert/encoder/layer_0/") for stored in names):
        return family_without_positions(names, source)
    return "bert"


def family_without_positions(names: list[str], source: str) -> str:
    """BERT, unless there is no table of positions: then one of the families that turn or compare them."""
    if "bert/embeddings/position_embeddings" in names:
        return "bert"
    if not any(name.endswith("/bias") for name in names if name.startswith("bert/")):
        return "roformer_v2"
    raise ConfigError(
        f"{source}: weights without a table of positions are RoFormer's or NEZHA's, and nothing tells which; "
        "pass family='roformer' or family='nezha'"
    )


def known_family(name: str, source: str) -> str:
    """The name itself if there is such a family."""
    if not isinstance(name, str) or name not in FAMILIES:
        raise ConfigError(
            f"{source}: {quoted(name)} is not a family of this package; known are {', '.join(sorted(FAMILIES))}"
        )
    return name
