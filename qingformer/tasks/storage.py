"""A task on disk: encoder, layers on top, vocabulary, settings, all of them or none."""

import math
import os
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import keras
import numpy as np

from qingformer.adapters import adapter_files
from qingformer.adapters.adapted_layers import adapted_layers
from qingformer.checkpoints import finite_weights, open_checkpoint, own_files, write_safetensors
from qingformer.data.cells import plain
from qingformer.errors import CheckpointError, ConfigError
from qingformer.files import write_json
from qingformer.folders import updated_directory
from qingformer.json_files import quoted, read_object
from qingformer.models import Backbone
from qingformer.tasks.task_registry import TASK_FILE
from qingformer.tokenization import Tokenizer
from qingformer.tokenization.tokenizer_saving import check_companions
from qingformer.types import Config, Values
from qingformer.version import __version__

HEAD_FILE = own_files.HEAD
ADAPTERS = "adapters"


def check_fit(backbone: Backbone, tokenizer: Tokenizer, max_length: int, source: str = "the tokenizer") -> None:
    """Refuse a vocabulary larger than the token table, or inputs longer than the position table.

    Raises:
        ConfigError: names both sizes.
    """
    config = backbone.config
    if tokenizer.vocab_size > config.vocab_size:
        raise ConfigError(
            f"{source}: the vocabulary has {tokenizer.vocab_size} tokens but the weights have {config.vocab_size} rows;"
            " use the vocabulary that belongs to these weights"
        )
    longest = config.max_position_embeddings
    if config.hierarchical_position is not None:
        longest *= longest
    if not 3 <= max_length <= longest:
        raise ConfigError(
            f"max_length is {max_length}, but this model reads 3 to {longest} tokens; "
            "choose a length in between with max_length="
        )


def note_spare_rows(backbone: Backbone, tokenizer: Tokenizer) -> None:
    """Warn, once for a backbone, of rows of the token table that no token of the vocabulary names."""
    tokens, rows = tokenizer.vocab_size, backbone.config.vocab_size
    if tokens < rows and not getattr(backbone, "spare_rows_noted", False):
        backbone.spare_rows_noted = True
        warnings.warn(
            f"the vocabulary has {tokens} tokens, the token table {rows} rows: rows {tokens} to {rows - 1} are spare; "
            f"they stay, also in what is saved (vocab_size={tokens} leaves them out)",
            stacklevel=4,
        )


def refuse_another_vocabulary(backbone: Backbone, tokenizer: Tokenizer, vocabulary: str) -> None:
    """Refuse a vocabulary from elsewhere that is shorter than the table: nothing says that it is the model's.

    Raises:
        ConfigError: names both sizes and the way.
    """
    tokens, rows = tokenizer.vocab_size, backbone.config.vocab_size
    if tokens < rows:
        raise ConfigError(
            f"{vocabulary}: the vocabulary has {tokens} tokens but the weights have {rows} rows; use the one that "
            f"belongs to these weights, or pass vocab_size={tokens} if their last {rows - tokens} rows are spare"
        )


def save(task: Any, directory: str | os.PathLike[str], check_finite: bool) -> Path:
    """See `Task.save`."""
    if task.model is None:
        raise ConfigError("there is nothing to save yet: call fit, or give labels")
    if check_finite:
        finite_weights.check_finite(task.backbone.weight_arrays() | _head_arrays(task))
    with updated_directory(directory, lambda folder: _superseded(task, temporary, folder)) as temporary:
        write(task, temporary)
    return Path(directory)


def _superseded(task: object, new: Path, folder: Path) -> list[str]:
    check_companions(new, folder)
    own_files.check_same_task(folder, settings_of(task), own_files.ADAPTERS[0], "the adapters")
    inside = [f"{ADAPTERS}/{name}" for name in own_files.ADAPTERS]
    return [*own_files.of_earlier_model(folder), *(name for name in inside if (folder / name).is_file())]


def write(task: Any, folder: Path) -> None:
    """Fill `folder` with all files of the task."""
    task.backbone.save_pretrained(folder, tokenizer=task.tokenizer, check_finite=False)
    write_safetensors(folder / HEAD_FILE, _head_arrays(task), metadata={"format": "qingformer"})
    write_json(folder / TASK_FILE, settings_of(task))
    if adapted_layers(task.model):  # the weights above have them merged in; training goes on from these
        adapter_files.save(task.model, task.backbone, folder / ADAPTERS, "qingformer")


def _head_arrays(task: object) -> dict[str, np.ndarray]:
    return {path: keras.ops.convert_to_numpy(variable.value) for path, variable in head_variables(task).items()}


def as_files(task: Any) -> tuple[dict[str, bytes], str]:
    """All files of a task by name, and the policy of its types.

    Raises:
        ConfigError: there is nothing to save yet.
    """
    if task.model is None:
        raise ConfigError("there is nothing to pickle yet: call fit, or give labels")
    with tempfile.TemporaryDirectory() as folder:
        write(task, Path(folder))
        paths = [path for path in Path(folder).rglob("*") if path.is_file()]
        return {str(path.relative_to(folder)): path.read_bytes() for path in paths}, task.backbone.dtype_policy.name


def from_files(cls: object, files: Mapping[str, bytes], dtype: str) -> Any:
    """The inverse of `as_files`."""
    with tempfile.TemporaryDirectory() as folder:
        for name, content in files.items():
            path = Path(folder, name)
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)
        return load(cls, Path(folder), dtype=dtype)


def settings_of(task: Any) -> dict[str, Any]:
    """What `task.json` holds."""
    settings = {key: plain(getattr(task, key)) for key in task.settings_types}  # NumPy's numbers are no JSON
    return {"task": task.task_name, "qingformer_version": __version__, **settings}


def load(cls: Any, directory: Path, **options: Any) -> Any:
    """See `Task.load`; `options` are the backbone's, such as `dtype`."""
    settings = read_settings(directory / TASK_FILE, cls.settings_types, cls.later_settings)
    backbone, tokenizer = Backbone.from_pretrained(directory, **options), Tokenizer.from_pretrained(directory)
    check_fit(backbone, tokenizer, settings["max_length"], str(directory))
    # The warning was given when the model was made; loading repeats nothing.
    backbone.spare_rows_noted = True  # when the task was made
    # The layers on top start at random here and are overwritten by the next line.
    task = cls(backbone, tokenizer, **settings)
    read_into(directory / HEAD_FILE, head_variables(task))
    return task


def read_weights(task: Any, directory: Path) -> None:
    """Read the weights that `save` wrote into a task that is there already."""
    if adapted_layers(task.model):
        adapter_files.load(task.model, task.backbone, directory / ADAPTERS)
        return
    read_into(directory / own_files.WEIGHTS, task.backbone.named_variables())
    read_into(directory / HEAD_FILE, head_variables(task))


def head_variables(task: Any) -> dict[str, keras.Variable]:
    """The variables of the layers on top of the encoder by path, without the states of random generators."""
    encoder = {id(variable) for variable in task.backbone.variables}
    return {
        variable.path: variable
        for variable in task.model.variables
        # The states of dropout belong to a run, not to a model.
        if id(variable) not in encoder and not variable.path.endswith("seed_generator_state")
    }


def read_into(path: Path, variables: dict[str, keras.Variable]) -> None:
    """Read all `variables`, and no others, from a file that `write` wrote.

    Raises:
        CheckpointError: other names or shapes; a damaged file.
    """
    with open_checkpoint(path, verify=True) as checkpoint:
        if set(checkpoint.names()) != set(variables):
            wrong = sorted(set(checkpoint.names()) ^ set(variables))
            raise CheckpointError(
                f"{path}: does not fit the model at {', '.join(wrong[:3])}; it belongs to another model"
            )
        for name, variable in variables.items():
            found, wanted = tuple(checkpoint.shape(name)), tuple(variable.shape)
            if found != wanted:
                raise CheckpointError(
                    f"{path}: {name} has shape {found}, but the model described by {TASK_FILE} needs {wanted}; "
                    "the files belong to different models"
                )
            variable.assign(np.array(checkpoint.read(name)))  # a copy: the file may change


def read_settings(path: Path, types: Mapping[str, type], later: Values = MappingProxyType({})) -> Config:
    """The settings in a `task.json`, checked by name and type; `later` are those that older files do not have.

    Raises:
        ConfigError: a key is missing, unknown or of the wrong type.
    """
    values = {**later, **read_object(path, ConfigError)}
    known = {"task", "qingformer_version", *types}
    unknown = [key for key in values if key not in known]
    if unknown:
        raise ConfigError(f"{path}: unknown key {unknown[0]!r}; known keys: {', '.join(sorted(known))}")
    for key, kind in types.items():
        if type(values.get(key)) is not kind:
            raise ConfigError(f"{path}: {key} is {quoted(values.get(key))}, expected {kind.__name__}")
        if kind is list and not all(isinstance(part, str) and part for part in values[key]):
            raise ConfigError(f"{path}: {key} holds {quoted(_no_name(values[key]))}, expected names alone")
        if kind is list and len(set(values[key])) < len(values[key]):
            raise ConfigError(f"{path}: {key} names the same thing twice")
        if kind is float and not math.isfinite(values[key]):
            raise ConfigError(f"{path}: {key} is {values[key]}, expected a finite number")
    return {key: values[key] for key in types}


def _no_name(values: list[Any]) -> Any:
    return next(part for part in values if not isinstance(part, str) or not part)
