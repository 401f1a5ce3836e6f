"""Scores as text on standard output."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

_WIDEST_MATRIX = 12


def print_report(out: "Console", report: Any, labels: list[str], title: str) -> None:
    """Accuracy and F1, the scores of each label, and what was taken for what."""
    out.print(title, markup=False, style="bold")
    out.print(report.headline, markup=False)
    out.print(report.format_table(labels), markup=False)
    if not hasattr(report, "format_confusion"):  # with several labels a text there is no such table
        return
    if len(labels) <= _WIDEST_MATRIX:
        out.print("confusion matrix", markup=False, style="bold")
        out.print(report.format_confusion(labels), markup=False)
    else:
        out.print("most frequent confusions", markup=False, style="bold")
        for count, true, predicted in confusions(report.confusion, labels)[:10]:
            out.print(f"{count:6d}  {true} taken for {predicted}", markup=False)


def confusions(matrix: Any, labels: list[str]) -> list[tuple[int, str, str]]:
    """The wrong cells of a confusion matrix, largest first: (count, true label, predicted label)."""
    cells = [
        (count, labels[true], labels[predicted])
        for true, row in enumerate(matrix)
        for predicted, count in enumerate(row)
        if count and true != predicted
    ]
    return sorted(cells, key=lambda cell: (-cell[0], cell[1], cell[2]))
