"""What every report has, whatever the task."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

from qingformer.types import Config

if TYPE_CHECKING:
    from qingformer.evaluation.classification import ClassScore


class Report(Protocol):
    """Scores of predictions on labelled data: those of each label, the ones that matter in a line, all as numbers."""

    @property
    def per_label(self) -> Mapping[str, "ClassScore"]:
        """Precision, recall, F1 and support of each label; empty where a task has no labels."""

    @property
    def headline(self) -> str:
        """The scores that matter in one line."""

    def to_dict(self) -> Config:
        """All numbers as nested dictionaries and lists that JSON can hold."""
