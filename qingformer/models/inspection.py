"""What lies in a pretrained model's files, learnt from names and shapes without reading a weight."""

import math
import re
from dataclasses import dataclass, field

from qingformer.checkpoints import PretrainedFiles, locate, open_checkpoint
from qingformer.checkpoints.stored_names import without_wrappers
from qingformer.errors import ConfigError
from qingformer.json_files import read_json
from qingformer.models import BackboneConfig
from qingformer.models.config import unknown_keys
from qingformer.models.family_registry import family_class, family_of
from qingformer.models.loading import Plan, Request, loader_of, settle
from qingformer.models.stored_roles import Role, Shapes, Tensors, best_role, roles_of
from qingformer.types import Config

PARTS = (
    (r"embedding|^embeddings|position_bias/", "embeddings"),
    (r"/attention", "attention"),
    (r"/cross_attention", "attention to the encoder"),
    (r"/feed_forward", "feed_forward"),
    (r"^pooler/", "pooler"),
    (r"^(mlm_|next_sentence|replaced_|lm_head)", "heads"),
    (r"final_norm/", "last norms"),
)


@dataclass(frozen=True)
class Stored:
    """The files of a source, its configuration, and its tensors by stored name.

    `paths` maps the model's variable paths to stored names where the family is known; `config` is None where it is not
    and `problem` says why. `roles` are the heads of the family, where there are weights; `best` the fullest of them.
    """

    files: PretrainedFiles
    values: Config
    unknown_keys: list[str]
    family: str | None
    config: BackboneConfig | None
    format: str | None
    tensors: Tensors
    paths: dict[str, str]
    roles: list[Role] = field(default_factory=list)
    problem: str | None = None

    @property
    def best(self) -> Role | None:
        """The head that uses most of the stored weights."""
        return best_role(self.roles) if self.roles else None

    @property
    def left_over(self) -> list[str]:
        """Stored names that the family knows and the fullest head does not read."""
        return self.best.report.left_over if self.best else []

    @property
    def unknown_tensors(self) -> list[str]:
        """Stored names that the family gives no meaning to."""
        return self.best.report.unknown if self.best else []

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


def inspect(source: str, family: str | None = None, folder: str | None = None) -> Stored:
    """Look at a source, whose files lie in `folder` where that is another place.

    Raises:
        CheckpointError, ConfigError: what is missing or damaged.
    """
    files = locate(folder or source)
    values = read_json(files.config, ConfigError) if files.config is not None else {}
    if not isinstance(values, dict):
        raise ConfigError(f"{files.config}: expected a JSON object with the model's configuration")
    format, tensors = None, {}
    if files.weights is not None:
        with open_checkpoint(files.weights) as checkpoint:
            format = checkpoint.format
            tensors = {
                name: (tuple(checkpoint.shape(name)), str(checkpoint.dtype(name))) for name in checkpoint.names()
            }
    if not values:
        return Stored(files, values, [], family, None, format, tensors, {})
    try:
        family = family or family_of(values, str(files.config), without_wrappers(tensors))
        family_class(family)
    except ConfigError as problem:
        named = family or values.get("family") or values.get("model_type")
        return Stored(files, values, [], named, None, format, tensors, {}, problem=str(problem))
    unknown = unknown_keys(values, str(files.config), family_class(family))
    plan = plan_of(source, files, {key: values[key] for key in values if key not in unknown}, family, tensors)
    roles = roles_of(plan, tensors) if tensors else []
    return Stored(files, values, unknown, family, plan.config, format, tensors, paths_of(plan, tensors), roles)


def plan_of(source: str, files: PretrainedFiles, values: Config, family: str, tensors: Tensors) -> Plan:
    """The configuration as loading would settle it."""
    request = Request(family=family, strict=False)
    stored, config = settle(values, str(files.config), files.layout, [*tensors], request)
    return Plan(source, files.weights or files.directory, files.layout, stored, config, request)


def paths_of(plan: Plan, tensors: Tensors) -> dict[str, str]:
    """The model's paths to stored names, for all that the family gives a meaning to."""
    return {path: name for path, (_, name) in loader_of(plan, [*tensors]).find(Shapes(tensors)).items()}
