"""From files to batches: readers that stream, examples, length-bucketed batches, class weights."""

from qingformer.data.batches import PaddedBatches
from qingformer.data.examples import TextExample, read_classification
from qingformer.data.mixed import MixedBatches
from qingformer.data.packed import PackedFeatures
from qingformer.data.readers import Row, read_rows
from qingformer.data.weights import class_weights

__all__ = [
    "MixedBatches",
    "PackedFeatures",
    "PaddedBatches",
    "Row",
    "TextExample",
    "class_weights",
    "read_classification",
    "read_rows",
]
