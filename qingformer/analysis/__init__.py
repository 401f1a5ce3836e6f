"""Numbers about a model that need no run: parameters, floating-point operations, memory."""

from qingformer.analysis.cost import EncoderCost, activation_bytes, encoder_cost

__all__ = ["EncoderCost", "activation_bytes", "encoder_cost"]
