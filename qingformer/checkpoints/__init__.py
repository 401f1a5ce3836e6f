"""Find, fetch, read and write the weight files of this field: TensorFlow checkpoints, safetensors, PyTorch files.

Neither TensorFlow nor PyTorch is needed, nothing is unpickled, and a file that lies about itself is a CheckpointError.
"""

from qingformer.checkpoints.checkpoint import Checkpoint
from qingformer.checkpoints.opening import open_checkpoint
from qingformer.checkpoints.safetensors_writer import write_safetensors
from qingformer.checkpoints.sources import PretrainedFiles, locate
from qingformer.checkpoints.tensor_bundle_writer import write_tensor_bundle

__all__ = [
    "Checkpoint",
    "PretrainedFiles",
    "locate",
    "open_checkpoint",
    "write_safetensors",
    "write_tensor_bundle",
]
