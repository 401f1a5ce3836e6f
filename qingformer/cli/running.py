"""What verbs that run a model do first; imported only when they run."""

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qingformer import backend

if TYPE_CHECKING:
    from qingformer.tasks import TextClassifier


def prepare() -> None:
    """Keep freed memory for the next step, and compiled programs for the next run.

    A home that cannot be written to is no reason to stop.
    """
    backend.keep_freed_memory()
    # JAX complains when a program cannot be kept or read back; it compiles anew, which is all that matters here.
    warnings.filterwarnings("ignore", message="Error (reading|writing) persistent compilation cache")
    try:
        backend.enable_compilation_cache()
    except OSError:
        return


def new_classifier(
    source: str | None, from_scratch: str | None, vocabulary: str | Path | None, **options: Any
) -> "TextClassifier":
    """A classifier that starts from pretrained weights or from random ones; one of the two is given."""
    from qingformer.tasks import TextClassifier

    if from_scratch is not None:
        return TextClassifier.from_scratch(from_scratch, vocabulary, **options)
    assert source is not None
    return TextClassifier.from_pretrained(source, vocabulary=vocabulary, **options)


def load_model(path: Path) -> "TextClassifier":
    """The classifier that `train` wrote."""
    from qingformer.tasks import load

    prepare()
    classifier: TextClassifier = load(path)
    return classifier
