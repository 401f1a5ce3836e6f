"""Numbers about a model: what it costs, from its configuration alone; and how it starts and learns, measured."""

from qingformer.analysis.cost import EncoderCost, encoder_cost
from qingformer.analysis.curvature import CurvedNoise, measure_curvature
from qingformer.analysis.depth import DepthSignal, NormGain, depth_signal, format_norm_gains, norm_gains
from qingformer.analysis.dimension import direction_entropy, direction_entropy_slope, suggest_dimension
from qingformer.analysis.gradients import measure_gradients
from qingformer.analysis.initialization import (
    StackSignal,
    input_weight,
    second_moment,
    simulate_stack,
    suggest_deviation,
    truncated_normal_deviation,
)
from qingformer.analysis.memory_estimate import activation_bytes
from qingformer.analysis.noise_scale import GradientMoments, NoiseScale, per_example_estimate, two_batch_estimate
from qingformer.analysis.parameters import count_parameters
from qingformer.analysis.rate_laws import SignLaw, SignStep, mean_sign, power_rate, sgd_rate, sign_step
from qingformer.analysis.suggestion import RateSuggestion, suggest_learning_rate
from qingformer.analysis.thresholds import AttentionThresholds, attention_thresholds
from qingformer.analysis.trade_off import TradeOff, fit_trade_off

__all__ = [
    "AttentionThresholds",
    "CurvedNoise",
    "DepthSignal",
    "EncoderCost",
    "GradientMoments",
    "NoiseScale",
    "NormGain",
    "RateSuggestion",
    "SignLaw",
    "SignStep",
    "StackSignal",
    "TradeOff",
    "activation_bytes",
    "attention_thresholds",
    "count_parameters",
    "depth_signal",
    "direction_entropy",
    "direction_entropy_slope",
    "encoder_cost",
    "fit_trade_off",
    "format_norm_gains",
    "input_weight",
    "mean_sign",
    "measure_curvature",
    "measure_gradients",
    "norm_gains",
    "per_example_estimate",
    "power_rate",
    "second_moment",
    "sgd_rate",
    "sign_step",
    "simulate_stack",
    "suggest_deviation",
    "suggest_dimension",
    "suggest_learning_rate",
    "truncated_normal_deviation",
    "two_batch_estimate",
]
