"""Metrics: how good predictions are."""

from qingformer.evaluation.classification import (
    ClassificationReport,
    ClassScore,
    MultiLabelReport,
    evaluate_classification,
    evaluate_multi_label,
)

__all__ = ["ClassScore", "ClassificationReport", "MultiLabelReport", "evaluate_classification", "evaluate_multi_label"]
