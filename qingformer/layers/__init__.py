"""The bricks of which models are made; each is a `keras.layers.Layer` over stock Keras layers."""

from qingformer.layers.attention import MultiHeadAttention
from qingformer.layers.block import TransformerBlock
from qingformer.layers.dense import Dense
from qingformer.layers.dropout import Dropout
from qingformer.layers.feed_forward import FeedForward
from qingformer.layers.mask import AttentionMask
from qingformer.layers.normalization import ConditionalLayerNormalization, LayerNormalization, RMSNormalization
from qingformer.layers.output import OutputBias, TokenPooling
from qingformer.layers.positions import PositionEmbedding
from qingformer.layers.scale_offset import ScaleOffset

__all__ = [
    "AttentionMask",
    "ConditionalLayerNormalization",
    "Dense",
    "Dropout",
    "FeedForward",
    "LayerNormalization",
    "MultiHeadAttention",
    "OutputBias",
    "PositionEmbedding",
    "RMSNormalization",
    "ScaleOffset",
    "TokenPooling",
    "TransformerBlock",
]
