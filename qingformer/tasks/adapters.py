"""The adapters of a classifier on disk: what its training changed, without the encoder that it started from."""

import os
from pathlib import Path
from typing import Any

from qingformer.errors import CheckpointError, ConfigError
from qingformer.files import atomic_directory, write_json
from qingformer.models import adapter_files
from qingformer.models.adapter_state import gather
from qingformer.tasks.registry import TASK_FILE
from qingformer.tasks.storage import read_settings, settings_of


def save(classifier: Any, directory: str | os.PathLike[str]) -> Path:
    """See `TextClassifier.save_adapters`."""
    if classifier.model is None:
        raise ConfigError("there is nothing to save yet: call fit, or give labels")
    adapters = gather(classifier.model, classifier.backbone)
    with atomic_directory(directory) as folder:
        adapter_files.write(folder, adapters)
        write_json(folder / TASK_FILE, settings_of(classifier))
    return Path(directory)


def load(classifier: Any, directory: str | os.PathLike[str], strict: bool) -> list[str]:
    """See `TextClassifier.load_adapters`."""
    folder = Path(directory)
    settings = read_settings(folder / TASK_FILE)
    if classifier.backbone is None:
        raise ConfigError("load_adapters: this classifier has no encoder yet; make it with from_pretrained")
    ours = classifier.labels or settings["labels"]
    if ours != settings["labels"] or classifier.multi_label != settings["multi_label"]:
        raise CheckpointError(
            f"{folder}: the adapters were trained for the labels {', '.join(settings['labels'])} "
            f"(multi_label={settings['multi_label']}), but this classifier has {', '.join(ours)} "
            f"(multi_label={classifier.multi_label}); leave labels out to take those of the file"
        )
    classifier.labels = settings["labels"]
    classifier._make_model()
    return adapter_files.load(classifier.model, classifier.backbone, folder, strict)
