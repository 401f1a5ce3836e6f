"""Numbers about a model that need no run: parameters, floating-point operations, memory, lengths that matter."""

from qingformer.analysis.cost import EncoderCost, encoder_cost
from qingformer.analysis.memory import activation_bytes
from qingformer.analysis.parameters import count_parameters
from qingformer.analysis.thresholds import AttentionThresholds, attention_thresholds

__all__ = [
    "AttentionThresholds",
    "EncoderCost",
    "activation_bytes",
    "attention_thresholds",
    "count_parameters",
    "encoder_cost",
]
