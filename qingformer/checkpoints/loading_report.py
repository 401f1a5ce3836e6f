"""What a load did with every weight of the model and every tensor of the file."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(repr=False)
class LoadingReport:
    """What a load did; printed it is one line, `details()` has the names.

    Variable paths: `loaded`, `missing` (left at their initial values), `resized` (path to old and new shape). Stored
    names: `copies` (to the name whose weights they repeat), `left_over` (known to the family, not part of this model)
    and `unknown`. Keys of the configuration that were passed over: `unknown_keys`. `prefix` is what all stored names
    of the model began with. `head` is the fine-tuned head in the files, if any, `head_taken` whether a task uses it.
    """

    source: str
    loaded: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    left_over: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    resized: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = field(default_factory=dict)
    copies: dict[str, str] = field(default_factory=dict)
    unknown_keys: list[str] = field(default_factory=list)
    prefix: str = ""
    head: Any = None
    head_taken: bool = False

    def summary(self) -> str:
        """One line with the counts."""
        counts = [f"{len(self.loaded)} loaded"]
        for name in ("resized", "missing", "copies", "left_over", "unknown", "unknown_keys"):
            if getattr(self, name):
                counts.append(f"{len(getattr(self, name))} {name.replace('_', ' ')}")
        if self.head is not None:
            counts.append(f"{self.head.described} {'taken' if self.head_taken else 'left out'}")
        return f"{self.source}: {', '.join(counts)}"

    def __repr__(self) -> str:
        return f"<LoadingReport {self.summary()}; details() has the names>"

    def details(self) -> str:
        """All names, a heading before each group."""
        lines = [self.summary()]
        if self.prefix:
            lines.append(f"prefix of the stored names: {self.prefix}")
        for name in ("loaded", "resized", "missing", "copies", "left_over", "unknown", "unknown_keys"):
            group = getattr(self, name)
            if group:
                lines += [f"{name.replace('_', ' ')}:", *(f"  {entry}" for entry in _entries(group))]
        return "\n".join(lines)


def _entries(group: list[str] | dict[str, object]) -> list[str]:
    return [f"{key}: {value}" for key, value in group.items()] if isinstance(group, dict) else group


def shorten(names: list[str], count: int = 3) -> str:
    """The first names and how many more there are."""
    more = f", and {len(names) - count} more" if len(names) > count else ""
    return ", ".join(names[:count]) + more
