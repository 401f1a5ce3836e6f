"""Losses, one a file: each a `keras.losses.Loss` on logits, computed in float32, safe at extreme and masked scores."""

from qingformer.losses.cosent import CoSENT
from qingformer.losses.dice import DiceLoss
from qingformer.losses.focal import FocalLoss
from qingformer.losses.function import FunctionLoss
from qingformer.losses.info_nce import InfoNCE
from qingformer.losses.label_smoothing import LabelSmoothedCrossentropy
from qingformer.losses.logit_adjustment import LogitAdjustedCrossentropy
from qingformer.losses.margin_softmax import AMSoftmax, ArcFace, ASoftmax, MarginSoftmax
from qingformer.losses.multilabel import MultilabelCategoricalCrossentropy, SparseMultilabelCategoricalCrossentropy
from qingformer.losses.named_losses import named_loss
from qingformer.losses.power_binary import PowerBinaryCrossentropy
from qingformer.losses.sequence import SequenceCrossentropy, sequence_targets
from qingformer.losses.smooth_f1 import SmoothF1Crossentropy
from qingformer.losses.span import SpanCrossentropy
from qingformer.losses.triplet import TripletLoss

__all__ = [
    "AMSoftmax",
    "ASoftmax",
    "ArcFace",
    "CoSENT",
    "DiceLoss",
    "FocalLoss",
    "FunctionLoss",
    "InfoNCE",
    "LabelSmoothedCrossentropy",
    "LogitAdjustedCrossentropy",
    "MarginSoftmax",
    "MultilabelCategoricalCrossentropy",
    "PowerBinaryCrossentropy",
    "SequenceCrossentropy",
    "SmoothF1Crossentropy",
    "SpanCrossentropy",
    "SparseMultilabelCategoricalCrossentropy",
    "TripletLoss",
    "named_loss",
    "sequence_targets",
]
