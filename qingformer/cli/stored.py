"""What lies in a pretrained model's files, learnt from names and shapes without reading a weight."""

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qingformer.checkpoints import PretrainedFiles, locate, open_checkpoint
from qingformer.errors import ConfigError
from qingformer.files import read_json
from qingformer.models import FAMILIES, BackboneConfig
from qingformer.models.config import ONLY_VALUES, WITHOUT_EFFECT
from qingformer.models.loading import map_for
from qingformer.tasks.registry import BEST, TASK_FILE

PARTS = (
    (r"embedding|^embeddings", "embeddings"),
    (r"/attention", "attention"),
    (r"/feed_forward", "feed_forward"),
    (r"^pooler/", "pooler"),
    (r"^(mlm|next_sentence)", "pre-training heads"),
)


@dataclass(frozen=True)
class Stored:
    """The files of a source, its configuration, and its tensors by stored name.

    `paths` maps the model's variable paths to stored names where the family is known; `config` is None where it is not.
    """

    files: PretrainedFiles
    values: dict[str, Any]
    unknown_keys: list[str]
    family: str | None
    config: BackboneConfig | None
    format: str | None
    tensors: dict[str, tuple[tuple[int, ...], str]]
    paths: dict[str, str]

    @property
    def unknown_tensors(self) -> list[str]:
        """Stored names that the family gives no meaning to."""
        known = set(self.paths.values())
        return [name for name in self.tensors if name not in known] if self.config is not None else []

    def parameters(self) -> dict[str, int]:
        """Number of values by part; "other" is what no part claims."""
        path_of = {name: path for path, name in self.paths.items()}
        counts: dict[str, int] = {}
        for name, (shape, _) in self.tensors.items():
            path = path_of.get(name, "")
            part = next((part for pattern, part in PARTS if re.search(pattern, path)), "other")
            counts[part] = counts.get(part, 0) + math.prod(shape)
        order = [*(part for _, part in PARTS), "other"]
        return {part: counts[part] for part in order if part in counts}


def inspect(source: str) -> Stored:
    """Look at a source. Errors: `CheckpointError`, `ConfigError` for what is missing or damaged."""
    files = locate(run_model(source))
    values = read_json(files.config, ConfigError) if files.config is not None else {}
    if not isinstance(values, dict):
        raise ConfigError(f"{files.config}: expected a JSON object with the model's configuration")
    family = values.get("family", values.get("model_type", "bert")) if values else None
    config, unknown = _configuration(values, str(files.config), family)
    format, tensors = None, {}
    if files.weights is not None:
        with open_checkpoint(files.weights) as checkpoint:
            format = checkpoint.format
            tensors = {
                name: (tuple(checkpoint.shape(name)), str(checkpoint.dtype(name))) for name in checkpoint.names()
            }
    paths = {} if config is None else _paths(config, files.layout, list(tensors))
    return Stored(files, values, unknown, family, config, format, tensors, paths)


def run_model(source: str) -> str:
    """The model's folder where `source` is the output folder of `train`."""
    inner = Path(source) / BEST
    return str(inner) if (inner / TASK_FILE).is_file() else source


def _configuration(values: dict[str, Any], source: str, family: str | None) -> tuple[BackboneConfig | None, list[str]]:
    if family not in FAMILIES:
        return None, []
    fields = set(BackboneConfig.__dataclass_fields__)
    unknown = [key for key in values if key not in fields | WITHOUT_EFFECT | set(ONLY_VALUES) | {"is_decoder"}]
    known = {key: value for key, value in values.items() if key not in unknown}
    return BackboneConfig.from_dict(known, source, family=family), unknown


def _paths(config: BackboneConfig, layout: str, names: list[str]) -> dict[str, str]:
    weight_map = map_for(config, layout, names)
    there, found = set(names), {}
    for row in weight_map.rows:
        name = row.name(layout)
        spellings = weight_map.candidates(name, layout) if name else []
        stored = next((spelling for spelling in spellings if spelling in there), None)
        if stored is not None:
            found[row.ours] = stored
    return found
