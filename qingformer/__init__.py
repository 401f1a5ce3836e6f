"""QingFormer: the clearest transformer toolkit on Keras 3.

The names below are loaded when first used, so that importing the package costs next to nothing.
"""

import importlib
import os
import sys
from typing import TYPE_CHECKING, Any

if "keras" not in sys.modules:
    # Without this Keras takes TensorFlow, which most users of this package do not have.
    os.environ.setdefault("KERAS_BACKEND", "jax")

from qingformer.version import __version__

if TYPE_CHECKING:
    import qingformer.optimizers as optimizers
    from qingformer.errors import QingFormerError
    from qingformer.models import (
        Backbone,
        BackboneConfig,
        CausalLM,
        MaskedLM,
        NextSentencePrediction,
        PreTraining,
        ReplacedTokenDetection,
        SentenceOrderPrediction,
        Seq2SeqLM,
        Similarity,
    )
    from qingformer.objectives import FGM, TrainableModel
    from qingformer.tasks import TextClassifier, load
    from qingformer.tokenization import Encoding, Tokenizer

_ROOMS = {
    "FGM": "objectives",
    "Backbone": "models",
    "BackboneConfig": "models",
    "CausalLM": "models",
    "Encoding": "tokenization",
    "MaskedLM": "models",
    "NextSentencePrediction": "models",
    "PreTraining": "models",
    "QingFormerError": "errors",
    "ReplacedTokenDetection": "models",
    "SentenceOrderPrediction": "models",
    "Seq2SeqLM": "models",
    "Similarity": "models",
    "TextClassifier": "tasks",
    "Tokenizer": "tokenization",
    "TrainableModel": "objectives",
    "load": "tasks",
}

__all__ = [
    "FGM",
    "Backbone",
    "BackboneConfig",
    "CausalLM",
    "Encoding",
    "MaskedLM",
    "NextSentencePrediction",
    "PreTraining",
    "QingFormerError",
    "ReplacedTokenDetection",
    "SentenceOrderPrediction",
    "Seq2SeqLM",
    "Similarity",
    "TextClassifier",
    "Tokenizer",
    "TrainableModel",
    "__version__",
    "load",
    "optimizers",
]


def __getattr__(name: str) -> Any:
    if name == "optimizers":
        return importlib.import_module("qingformer.optimizers")
    if name in _ROOMS:
        return getattr(importlib.import_module(f"qingformer.{_ROOMS[name]}"), name)
    raise AttributeError(f"qingformer has no {name!r}; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    return sorted(__all__)
