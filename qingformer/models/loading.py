"""From a source to a model's weights: find the files, settle the configuration, read through the weight map."""

import contextlib
import dataclasses
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import keras
import numpy as np

from qingformer.checkpoints import locate, open_checkpoint
from qingformer.checkpoints.computed_tables import check_computed
from qingformer.checkpoints.examination import Examined
from qingformer.checkpoints.loader import Loader, Stored
from qingformer.checkpoints.loading_report import LoadingReport
from qingformer.checkpoints.sources import unread_weights, without_config
from qingformer.checkpoints.stored_heads import HEAD_PATHS, WITHOUT_OUTPUT_TABLE, fine_tuned_patterns
from qingformer.checkpoints.stored_names import renamed, without_wrappers
from qingformer.checkpoints.weight_map import Row, WeightMap
from qingformer.errors import CheckpointError, ConfigError
from qingformer.json_files import read_json
from qingformer.models.config import BackboneConfig, block_group, check_known, unknown_keys
from qingformer.models.family_registry import check_role, family_class, family_of
from qingformer.models.fine_tuned import StoredHead, find_head
from qingformer.models.limits import check_stored_sizes
from qingformer.models.look_alikes import check_look_alike
from qingformer.models.surgery import FirstRows, Stretch, VocabularySurgery, spare_rows_advice
from qingformer.types import Values

# What the body may lack: the variables, the keys of the configuration that decide it, and how to have them.
LEAVES_OUT: tuple[tuple[str, tuple[str, ...], str], ...] = (
    (r"/attention/output/bias$", ("attention_output_bias", "use_bias"), "attention_output_bias=True"),
    (r"/attention/\w+/bias$", ("attention_bias", "use_bias"), "attention_bias=True"),
    (r"/(query|key)_norm/", ("query_key_norm",), "query_key_norm=True"),
    (r"norm/beta$", ("norm_type",), "norm_type='layer_norm'"),
    (r"^embeddings_norm/", ("embedding_norm",), "embedding_norm=True"),
    (r"final_norm/", ("norm_position",), "norm_position='pre'"),
    (r"norm/gamma$", ("norm_type",), "norm_type='rms_norm'"),
    (r"/bias$", ("use_bias",), "use_bias=True"),
    (r"^segment_embedding/", ("type_vocab_size", "shared_segment_embeddings"), "type_vocab_size= its number of rows"),
    (r"^position_embedding/", ("position_embedding_type",), "position_embedding_type='absolute'"),
    (r"position_bias/", ("position_embedding_type",), "position_embedding_type='bucketed'"),
    (r"^embedding_projection/", ("embedding_projection", "embedding_size"), "embedding_projection=True"),
    (r"^token_projection/", ("project_tokens",), "project_tokens=True"),
)
# The half of an encoder-decoder that a model made for one role leaves in the file.
OTHER_HALF = {"encoder": (r"^decoder_",), "decoder": (r"^encoder_",)}
NEW_CONDITION = (r"/condition_(hidden|gamma|beta)/kernel$",)


@dataclasses.dataclass(frozen=True)
class Request:
    """What the caller of `from_pretrained` asked for."""

    kind: str = "Backbone"
    needs_pooler: bool = False
    application: str = "encoder"
    application_given: bool = False
    family: str | None = None
    surgery: VocabularySurgery = dataclasses.field(default_factory=VocabularySurgery)
    autoresize: bool = False
    strict: bool = True
    verify: bool = True
    changes: Values = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Plan:
    """A source made ready: the weights file, its layout, the stored and the wanted configuration."""

    source: str
    weights: Path
    layout: str
    stored_config: BackboneConfig
    config: BackboneConfig
    request: Request
    advice: str = ""
    head: StoredHead | None = None
    unknown_keys: tuple[str, ...] = ()


def plan(source: str | os.PathLike[str], revision: str | None, request: Request) -> Plan:
    """Find the files of `source` and settle the configuration of the model to be built."""
    check_known(request.changes, "options")
    files = locate(source, revision)
    if files.config is None:
        raise ConfigError(f"{source}: {without_config(files)}")
    if files.weights is None:
        other = unread_weights(files.directory)
        raise CheckpointError(
            f"{source}: no weights there (model.safetensors, pytorch_model.bin or *.ckpt.index)"
            + (other and f"; {other}")
        )
    values = read_json(files.config, ConfigError)
    if not isinstance(values, dict):
        raise ConfigError(f"{files.config}: expected a JSON object with the model's configuration")
    # Names and shapes first: the family, the pooler and the sizes are settled before a weight is read.
    with open_checkpoint(files.weights) as checkpoint:
        names = checkpoint.names()
        shapes = {name: tuple(checkpoint.shape(name)) for name in names}
    unknown: tuple[str, ...] = ()
    if not request.strict:
        family = request.family or family_of(values, str(files.config), without_wrappers(names))
        unknown = tuple(unknown_keys(values, str(files.config), family_class(family)))
        values = {key: value for key, value in values.items() if key not in unknown}
    stored, config = settle(values, str(files.config), files.layout, names, request)
    check_stored_sizes(config, str(files.config), shapes, request.strict and not request.autoresize)
    advice = about_family(values, names, request, config.family)
    aliases = aliases_of(stored, files.layout, names)
    head = find_head(values, Path(files.weights), shapes, aliases, config.family, files.layout)
    return Plan(str(source), Path(files.weights), files.layout, stored, config, request, advice, head, unknown)


def settle(
    values: Values, source: str, layout: str, names: list[str], request: Request
) -> tuple[BackboneConfig, BackboneConfig]:
    """The stored and the wanted configuration, from what the file says, the names of the weights and the request."""
    family = request.family or family_of(values, source, without_wrappers(names))
    # In our own files weights have our names, which say nothing about the family.
    if layout == "qingformer" and family != values.get("family", family):
        raise ConfigError(
            f"{source}: the model was saved as family {values['family']!r}, which family={family!r} cannot change; "
            "leave family out, or load the original files"
        )
    check_look_alike(values, source, family)
    stored = BackboneConfig.from_dict(values, source, family=family)
    names = list(aliases_of(stored, layout, names))
    # What the caller asks for comes first; then the names decide what neither the file nor the caller says.
    config = family_class(family).adapt_config(stored.replace(**request.changes), layout, names)
    if not request.needs_pooler:
        config = without_absent_pooler(config, layout, names, request.changes)
    application = request.application if request.application_given else default_application(config, request)
    if not request.application_given:
        check_role(request.kind, family, application)
    vocab_size = request.surgery.new_size(config.vocab_size)
    return stored, config.replace(application=application, vocab_size=vocab_size)


def aliases_of(config: BackboneConfig, layout: str, names: list[str]) -> dict[str, str]:
    """The names as the family knows them, to the stored names."""
    if layout == "qingformer":
        return dict(zip(names, names))
    return renamed(names, Loader(map_for(config, layout, []), layout).known())


def about_family(values: Values, names: list[str], request: Request, family: str) -> str:
    """How an error about names ends: what family the files look like, or how to say another."""
    if request.family is None:
        silent = family == "bert" and not {"family", "model_type"} & set(values)
        return " (nothing names the family, so it is taken for BERT; family= says another)" if silent else ""
    try:
        likely = family_of(values, "", without_wrappers(names))
    except ConfigError:
        return ""
    return "" if likely == family else f" (the files look like the family {likely}, not {family})"


def default_application(config: BackboneConfig, request: Request) -> str:
    """What was saved, unless that is an encoder and the class asks for more."""
    return config.application if config.application != "encoder" else request.application


def without_absent_pooler(config: BackboneConfig, layout: str, names: list[str], changes: Values) -> BackboneConfig:
    """Files of masked language models often have no pooler: then the model has none either, unless it was asked for.

    Half a pooler is none that could be left out: what is missing of it will be an error.
    """
    if "pooler" in changes or not config.pooler or not names:
        return config
    weight_map = map_for(config, layout, [])
    rows = [row for row in weight_map.rows if row.ours.startswith("pooler/")]
    there = ["pooler/kernel", "pooler/bias"] if layout == "qingformer" else [row.name(layout) for row in rows]
    spellings = {spelling for name in there if name for spelling in weight_map.candidates(name, layout)}
    return config if spellings & set(names) else config.replace(pooler=False)


def map_for(
    config: BackboneConfig, layout: str, paths: list[str], stored_config: BackboneConfig | None = None
) -> WeightMap:
    """The weight map of a layout; our own files store every variable under its path.

    Where the stored blocks share their weights and the wanted ones do not, each reads those of its group.
    """
    if layout != "qingformer":
        return family_class(config.family).weight_map(config)
    stored = stored_config or config
    names = {path: path for path in paths}
    if stored.share_blocks and not config.share_blocks:
        names = {
            path: re.sub(r"^block_(\d+)", lambda m: f"block_{block_group(stored, int(m[1]))}", path) for path in paths
        }
    return WeightMap(tuple(Row(path, name, name) for path, name in names.items()))


@contextlib.contextmanager
def opened(plan: Plan) -> Iterator[Stored]:
    """The weights of `plan`, whose examination begins at once, beside the building of the model."""
    with open_checkpoint(plan.weights, verify=False) as checkpoint:
        if not plan.request.verify:
            yield checkpoint
            return
        with Examined(checkpoint) as examined:
            yield examined


def load(model: keras.Model, plan: Plan, stored: Stored) -> LoadingReport:
    """Read the weights of `plan` into `model`; see `PretrainedModel.from_pretrained`."""
    variables = model.named_variables()
    shapes = {path: tuple(variable.shape) for path, variable in variables.items()}
    loader = loader_of(plan, list(variables))
    arrays, report = loader.load(stored, shapes, plan.source)
    if plan.request.strict and plan.layout == "huggingface":
        tables = family_class(plan.config.family).computed_tables(plan.stored_config)
        check_computed(loader.aliases(stored), stored.read, tables, plan.source)
    for path, array in arrays:
        # A copy: JAX would otherwise go on reading the mapped file, which may change or vanish under it.
        variables[path].assign(np.array(array))
    # Kept for a task, which may take the fine-tuned head out of the same files.
    report.head, report.unknown_keys = plan.head, list(plan.unknown_keys)
    start_anew([variables[path] for path in report.missing], plan.config)
    return report


def loader_of(plan: Plan, paths: list[str]) -> Loader:
    """What reads the weights at `paths` of the model."""
    return Loader(
        weight_map=map_for(plan.config, plan.layout, paths, plan.stored_config),
        layout=plan.layout,
        change=change_of(plan),
        about_shape=spare_rows_advice,
        about_missing=tied_output_advice,
        resize=Stretch(plan.config.activations[0], plan.config.attention_scale) if plan.request.autoresize else None,
        may_be_missing=NEW_CONDITION,
        allow_left_over=left_over_patterns(plan),
        why_unused=lambda path: why_unused(path, plan),
        compare_copies=plan.request.kind not in WITHOUT_OUTPUT_TABLE,
        strict=plan.request.strict,
        advice=plan.advice,
    )


def tied_output_advice(missing: list[str]) -> str | None:
    """How to load files whose only lack is the output's matrix: where it is the token table they need not have it."""
    return "pass tie_word_embeddings=True if the output is the token table" if missing == ["lm_head/kernel"] else None


def change_of(plan: Plan) -> Callable[[str, np.ndarray], np.ndarray]:
    """What changes the vocabulary on its way in; a `vocab_size` that the caller gives leaves out rows beyond it."""
    size = plan.request.changes.get("vocab_size")
    return plan.request.surgery if size is None else FirstRows(size, plan.request.surgery)


def left_over_patterns(plan: Plan) -> tuple[str, ...]:
    """Stored names that may stay unread: heads in our own files, and layers beyond the number that was asked for."""
    patterns = fine_tuned_patterns(plan.layout)
    if plan.layout == "qingformer":
        patterns += HEAD_PATHS + OTHER_HALF.get(plan.config.application, ())
    for side, wanted, stored in (
        ("", plan.config.num_hidden_layers, plan.stored_config.num_hidden_layers),
        ("^decoder.*", plan.config.decoder_layers, plan.stored_config.decoder_layers),
    ):
        # Loading fewer layers than the file has is asked for with num_hidden_layers; the others are no surprise.
        for index in range(wanted, stored):
            patterns += (rf"{side}(^|[/._])(h|layer|layers|block|blocks)[/._]?0*{index}([/._]|$)",)
    if {"type_vocab_size", "shared_segment_embeddings"} & set(plan.request.changes):
        patterns += (r"token_type_embeddings", r"^segment_embedding/")
    return patterns


def why_unused(path: str, plan: Plan) -> str | None:
    """Which value of the configuration leaves a variable of the body out; None where it may stay in the file.

    A head may, and so may the other half of an encoder-decoder and what the caller's own changes take out.
    """
    if any(re.search(pattern, path) for pattern in HEAD_PATHS + OTHER_HALF.get(plan.config.application, ())):
        return None
    for pattern, keys, remedy in LEAVES_OUT:
        if re.search(pattern, path):
            if set(keys) & set(plan.request.changes):
                return None
            values = " and ".join(f"{key} is {getattr(plan.config, key)!r}" for key in keys)
            return f"{values}, which leaves {path} out: pass {remedy}"
    return f"the configuration leaves {path} out"


def start_anew(variables: list[keras.Variable], config: BackboneConfig) -> None:
    """Give missing matrices their random start: the model was built with zeros, since most are overwritten."""
    initializer = keras.initializers.TruncatedNormal(stddev=config.initializer_range)
    for variable in variables:
        if re.search(r"(kernel|embeddings)$", variable.path) and "/condition_" not in variable.path:
            variable.assign(initializer(variable.shape, dtype=variable.dtype))
