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

from qingformer.environment import check_backend, note_backend
from qingformer.version import __version__

if TYPE_CHECKING:
    import qingformer.losses as losses
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
    from qingformer.objectives import (
        FGM,
        PGD,
        VAT,
        ChildTuningD,
        ChildTuningF,
        ClipGradients,
        EmbeddingNoise,
        Flooding,
        Freeze,
        GradientAccumulation,
        GradientNormalization,
        GradientPenalty,
        L2Regularization,
        LabelSmoothing,
        RandomReplacement,
        RDrop,
        ScaleGradients,
        ScaleShiftInvariance,
        TrainableModel,
        VirtualAdversarialTraining,
    )
    from qingformer.tasks import (
        MultipleChoice,
        ReadingComprehension,
        RelationExtractor,
        SequenceTagger,
        TextClassifier,
        load,
    )
    from qingformer.tokenization import Encoding, Tokenizer

_ROOMS = {
    "Backbone": "models",
    "BackboneConfig": "models",
    "CausalLM": "models",
    "ChildTuningD": "objectives",
    "ChildTuningF": "objectives",
    "ClipGradients": "objectives",
    "EmbeddingNoise": "objectives",
    "Encoding": "tokenization",
    "FGM": "objectives",
    "Flooding": "objectives",
    "Freeze": "objectives",
    "GradientAccumulation": "objectives",
    "GradientNormalization": "objectives",
    "GradientPenalty": "objectives",
    "L2Regularization": "objectives",
    "LabelSmoothing": "objectives",
    "MaskedLM": "models",
    "MultipleChoice": "tasks",
    "NextSentencePrediction": "models",
    "PGD": "objectives",
    "PreTraining": "models",
    "QingFormerError": "errors",
    "RDrop": "objectives",
    "RandomReplacement": "objectives",
    "ReadingComprehension": "tasks",
    "RelationExtractor": "tasks",
    "ReplacedTokenDetection": "models",
    "ScaleGradients": "objectives",
    "ScaleShiftInvariance": "objectives",
    "SentenceOrderPrediction": "models",
    "Seq2SeqLM": "models",
    "SequenceTagger": "tasks",
    "Similarity": "models",
    "TextClassifier": "tasks",
    "Tokenizer": "tokenization",
    "TrainableModel": "objectives",
    "VAT": "objectives",
    "VirtualAdversarialTraining": "objectives",
    "load": "tasks",
}

note_backend()

__all__ = [
    "FGM",
    "PGD",
    "VAT",
    "Backbone",
    "BackboneConfig",
    "CausalLM",
    "ChildTuningD",
    "ChildTuningF",
    "ClipGradients",
    "EmbeddingNoise",
    "Encoding",
    "Flooding",
    "Freeze",
    "GradientAccumulation",
    "GradientNormalization",
    "GradientPenalty",
    "L2Regularization",
    "LabelSmoothing",
    "MaskedLM",
    "MultipleChoice",
    "NextSentencePrediction",
    "PreTraining",
    "QingFormerError",
    "RDrop",
    "RandomReplacement",
    "ReadingComprehension",
    "RelationExtractor",
    "ReplacedTokenDetection",
    "ScaleGradients",
    "ScaleShiftInvariance",
    "SentenceOrderPrediction",
    "Seq2SeqLM",
    "SequenceTagger",
    "Similarity",
    "TextClassifier",
    "Tokenizer",
    "TrainableModel",
    "VirtualAdversarialTraining",
    "__version__",
    "load",
    "losses",
    "optimizers",
]


def __getattr__(name: str) -> Any:
    if "keras" not in sys.modules:
        check_backend()
    if name in ("losses", "optimizers"):
        return importlib.import_module(f"qingformer.{name}")
    if name in _ROOMS:
        return getattr(importlib.import_module(f"qingformer.{_ROOMS[name]}"), name)
    raise AttributeError(f"qingformer has no {name!r}; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    return sorted(__all__)
