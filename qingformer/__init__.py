"""QingFormer: the clearest transformer toolkit on Keras 3."""

import os
import sys

if "keras" not in sys.modules:
    # Keras would fall back to TensorFlow, which most users of this package do not have.
    os.environ.setdefault("KERAS_BACKEND", "jax")

from qingformer.version import __version__

__all__ = ["__version__"]
