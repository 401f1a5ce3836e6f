"""The bricks of which models are made; each is a `keras.layers.Layer` over stock Keras layers."""

from qingformer.layers.attention import MultiHeadAttention
from qingformer.layers.attention_context import AttentionContext
from qingformer.layers.block import TransformerBlock
from qingformer.layers.chunk_attention import MixedChunkAttention
from qingformer.layers.cosine import CosineClassifier
from qingformer.layers.dense import Dense
from qingformer.layers.dropout import Dropout
from qingformer.layers.dropout_streams import DropoutStream
from qingformer.layers.feed_forward import FeedForward
from qingformer.layers.gated_attention import GatedAttentionUnit
from qingformer.layers.global_pointer import EfficientGlobalPointer, GlobalPointer
from qingformer.layers.linear_attention import LinearAttention
from qingformer.layers.linear_chain import ConditionalRandomField, MaximumEntropyMarkovModel
from qingformer.layers.mask import AttentionMask
from qingformer.layers.normalization import ConditionalLayerNormalization, LayerNormalization, RMSNormalization
from qingformer.layers.output_bias import OutputBias, TokenPooling, ZerosLike
from qingformer.layers.pooling import GlobalAveragePooling, GlobalMaxPooling
from qingformer.layers.positions import PositionEmbedding, SinusoidalPositionEmbedding
from qingformer.layers.relative_attention import RelativeMultiHeadAttention
from qingformer.layers.relative_positions import RelativePositionBias, RotaryPositions
from qingformer.layers.scale_offset import ScaleOffset
from qingformer.layers.softmax_tagging import IndependentTags
from qingformer.layers.start_end_pointers import StartEndPointers

__all__ = [
    "AttentionContext",
    "AttentionMask",
    "ConditionalLayerNormalization",
    "ConditionalRandomField",
    "CosineClassifier",
    "Dense",
    "Dropout",
    "DropoutStream",
    "EfficientGlobalPointer",
    "FeedForward",
    "GatedAttentionUnit",
    "GlobalAveragePooling",
    "GlobalMaxPooling",
    "GlobalPointer",
    "IndependentTags",
    "LayerNormalization",
    "LinearAttention",
    "MaximumEntropyMarkovModel",
    "MixedChunkAttention",
    "MultiHeadAttention",
    "OutputBias",
    "PositionEmbedding",
    "RMSNormalization",
    "RelativeMultiHeadAttention",
    "RelativePositionBias",
    "RotaryPositions",
    "ScaleOffset",
    "SinusoidalPositionEmbedding",
    "StartEndPointers",
    "TokenPooling",
    "TransformerBlock",
    "ZerosLike",
]
