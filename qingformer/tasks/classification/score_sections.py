"""The scores of a classifier as text: by label, and what was taken for what."""

from typing import Any

_WIDEST_MATRIX = 12


def score_sections(report: Any, labels: list[str]) -> list[tuple[str, str]]:
    """Headings and texts: accuracy and F1, the scores of each label, the confusions ("" where there is no heading)."""
    found = [("", str(report.headline)), ("", str(report.format_table(labels)))]
    if not hasattr(report, "format_confusion"):  # with several labels a text there is no such table
        return found
    if len(labels) <= _WIDEST_MATRIX:
        return [*found, ("confusion matrix", report.format_confusion(labels))]
    lines = [f"{count:6d}  {true} taken for {taken}" for count, true, taken in confusions(report.confusion, labels)]
    return [*found, ("most frequent confusions", "\n".join(lines[:10]))]


def confusions(matrix: Any, labels: list[str]) -> list[tuple[int, str, str]]:
    """The wrong cells of a confusion matrix, largest first: (count, true label, predicted label)."""
    cells = [
        (count, labels[true], labels[predicted])
        for true, row in enumerate(matrix)
        for predicted, count in enumerate(row)
        if count and true != predicted
    ]
    return sorted(cells, key=lambda cell: (-cell[0], cell[1], cell[2]))
