"""The small classification problem of the objectives' tests."""

from tests.objectives.conftest import rows

__all__ = ["rows"]
