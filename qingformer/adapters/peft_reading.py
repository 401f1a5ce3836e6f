"""Adapters out of the files of the library `peft`: adapter_config.json and adapter_model.safetensors or .bin.

Names and layouts are those of `qingformer.adapters.peft_writing`. One adapter of a joined matrix (GPT2's `c_attn`, with
`fan_in_fan_out`) is one for each part here, all with the same A. Modules of the body that were saved whole
(`modules_to_save`: pooler, norms, tables) take their place and stay trainable; other weights that are not adapters, and
adapters of modules that the body does not have, belong to a head, which a task may take.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from qingformer.adapters.adapter_state import Adapter, Adapters
from qingformer.checkpoints import open_checkpoint, own_files
from qingformer.checkpoints.loading_report import shorten
from qingformer.checkpoints.stored_heads import WITHOUT_OUTPUT_TABLE, fine_tuned_head
from qingformer.checkpoints.weight_map import TRANSPOSE
from qingformer.errors import CheckpointError
from qingformer.json_files import quoted, read_object
from qingformer.types import Values

SETTINGS, WEIGHTS = own_files.PEFT
PICKLED = "adapter_model.bin"
# How peft wraps a model: every stored name begins so.
PREFIX = "base_model.model."
# Variants of the method that compute something else; the value that means "not used".
REFUSED: dict[str, tuple[Any, ...]] = {
    "use_dora": (False, None),
    "use_qalora": (False, None),
    "use_bdlora": (False, None),
    "lora_bias": (False, None),
    "bias": ("none", None),
    "layer_replication": (None, []),
    "trainable_token_indices": (None, []),
    "target_parameters": (None, []),
    "alora_invocation_tokens": (None, []),
    "arrow_config": (None,),
    "velora_config": (None,),
    "monteclora_config": (None,),
    "kasa_config": (None,),
}
# Starts that leave the base weights as they are; others take their product off it, which the file does not hold.
STARTS = (True, False, None, "gaussian", "orthogonal", "eva", "true", "false")
_FACTOR = re.compile(r"^(?P<module>.+)\.lora_(?P<side>[AB])(\.default)?\.weight$")
Parts = dict[str, tuple[int, int] | None]
_WHOLE = re.compile(r"\.(modules_to_save|original_module)(\.default)?\.")


@dataclass(frozen=True)
class PeftFile:
    """What is in the files: adapters of the body by path, those of a head by module, and modules saved whole.

    `trained` are the variables of the body that were saved whole, by path, `others` the arrays of other modules.
    """

    folder: Path
    task_type: str | None
    layers: Mapping[str, Adapter]
    head_layers: Mapping[str, Adapter]
    others: Mapping[str, np.ndarray]
    trained: Mapping[str, np.ndarray]

    def of_body(self, strict: bool) -> Adapters:
        """The adapters of the body alone. Errors: `CheckpointError` names what else there is, if `strict`."""
        if self.head_layers and strict:
            raise CheckpointError(
                f"{self.folder}: {shorten(list(self.head_layers))} is a head's module, which this model does not have; "
                "load it into the task that has it (TextClassifier, ...), or pass strict=False to leave it out"
            )
        if self.others and strict:
            raise CheckpointError(
                f"{self.folder}: {shorten(list(self.others))} are not adapters (a head, or modules saved whole), which "
                "this model does not take; load a head into its task (TextClassifier, ...), or pass strict=False"
            )
        return Adapters(str(self.folder), self.layers, self.trained)


def read(folder: Path, backbone: object) -> PeftFile:
    """Read adapters of any model class that has the body of `backbone`.

    Raises:
        CheckpointError: another method than LoRA, a module that this model lacks, a damaged file.
    """
    settings = read_object(folder / SETTINGS, CheckpointError, {"r": int, "lora_alpha": float})
    _check(settings, folder)
    found, others = _pair(_arrays(folder))
    tables = [name for name in others if ".lora_embedding_" in name]
    if tables:
        raise CheckpointError(
            f"{folder}: {tables[0]} is the adapter of an embedding table, which the output may be tied to; merge it "
            "in peft into a table of its own, or train the other modules alone"
        )
    names, layers, head_layers = _names(backbone), {}, {}
    for module, sides in found.items():
        adapter = _adapter(module, sides, settings, folder)
        if fine_tuned_head(f"{module}.weight", "huggingface") is not None:
            head_layers[module] = adapter
            continue
        for path, part in _paths(module, names, folder).items():
            number, count = part or (0, 1)
            if adapter.b.shape[1] % count:
                raise CheckpointError(f"{folder}: lora_B of {module} has {adapter.b.shape[1]} rows, not {count} parts")
            b = np.ascontiguousarray(np.split(adapter.b, count, axis=1)[number])
            layers[path] = Adapter(adapter.a, b, adapter.alpha)
    if not layers:
        raise CheckpointError(f"{folder}: holds no adapters (lora_A, lora_B) of this model")
    kind = settings.get("task_type")
    trained, others = _whole(others, backbone, folder)
    return PeftFile(folder, kind if isinstance(kind, str) else None, layers, head_layers, others, trained)


def _whole(
    arrays: Mapping[str, np.ndarray], model: Any, folder: Path
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Arrays of modules saved whole: those of the model's variables by path, and the others as they are.

    `peft` may save the base of an adapted output beside its adapter: that counts as one.

    Raises:
        CheckpointError: a table was trained apart from the output that this model ties to it.
    """
    weight_map, variables = model.weight_map(model.config), model.named_variables()
    arrays = {name.replace(".base_layer.", "."): array for name, array in arrays.items()}
    found: dict[str, np.ndarray] = {}
    used: set[str] = set()
    for row in weight_map.rows:
        if row.huggingface is None or row.ours not in variables or row.ours in found:
            continue
        for name in set(weight_map.candidates(row.huggingface, "huggingface")) & set(arrays):
            found[row.ours] = np.asarray(row.load(np.asarray(arrays[name], "float32"), "huggingface"))
            used.add(name)
    is_body = hasattr(type(model), "spec")
    if not is_body and type(model).__name__ not in WITHOUT_OUTPUT_TABLE:
        for pair in weight_map.copies.get("huggingface", {}).items():
            both = [set(weight_map.candidates(name, "huggingface")) & set(arrays) for name in pair]
            _check_tied(both[0], both[1], arrays, folder)
            used |= both[0]
    return found, {name: array for name, array in arrays.items() if name not in used}


def _check_tied(copies: set[str], originals: set[str], arrays: Mapping[str, np.ndarray], folder: Path) -> None:
    together = bool(copies) == bool(originals)
    if not together or any(not np.array_equal(arrays[a], arrays[b]) for a in copies for b in originals):
        raise CheckpointError(
            f"{folder}: {shorten(sorted(copies | originals))} was trained apart from the matrix that this model ties "
            "to it (tie_word_embeddings); merge the adapters in peft and load the whole model, or leave it out there"
        )


def _arrays(folder: Path) -> dict[str, np.ndarray]:
    path = folder / WEIGHTS if (folder / WEIGHTS).is_file() or not (folder / PICKLED).is_file() else folder / PICKLED
    with open_checkpoint(path) as file:
        return {name: np.array(file.read(name)) for name in file.names()}


def _adapter(module: str, sides: Mapping[str, np.ndarray], settings: Values, folder: Path) -> Adapter:
    if set(sides) != {"A", "B"} or any(side.ndim != 2 for side in sides.values()):
        raise CheckpointError(f"{folder}: {module} needs two matrices lora_A and lora_B")
    a, b = (np.asarray(sides[side].T, dtype="float32") for side in "AB")
    rank = a.shape[1]
    alpha = _alpha(module, settings, rank, folder)
    # The scale of the "rank-stabilised" variant is alpha / sqrt(r).
    return Adapter(a, b, alpha * (float(np.sqrt(rank)) if settings.get("use_rslora") else 1.0))


def _alpha(module: str, settings: Values, rank: int, folder: Path) -> float:
    """That of the first pattern which the end of the module's name matches, else that of all."""
    alpha = settings.get("lora_alpha", settings.get("r", rank))
    patterns = settings.get("alpha_pattern") or {}
    try:
        matching = (value for key, value in patterns.items() if re.match(rf"(.*\.)?({key})$", module))
        alpha = float(next(matching, alpha))
    except (AttributeError, TypeError, ValueError, re.error):
        alpha = 0.0
    if not 0 < alpha < float("inf"):
        raise CheckpointError(f"{folder / SETTINGS}: lora_alpha or alpha_pattern gives {module} no positive number")
    return alpha


def _names(backbone: Any) -> dict[str, Parts]:
    """Module name, in every spelling, to the paths of its layers and which part of a joined matrix each is."""
    weight_map = backbone.weight_map(backbone.config)
    found: dict[str, Parts] = {}
    for row in weight_map.rows:
        if row.huggingface and row.ours.endswith("/kernel") and row.huggingface_steps in ((), (TRANSPOSE,)):
            for spelling in weight_map.candidates(row.huggingface, "huggingface"):
                found.setdefault(spelling.removesuffix(".weight"), {})[row.ours.removesuffix("/kernel")] = row.part
    return found


def _paths(module: str, names: Mapping[str, Parts], folder: Path) -> Parts:
    """The layers of a module; "bert.encoder..." in a class with a head, "encoder..." in one without."""
    if module in names:
        return names[module]
    near = [parts for name, parts in names.items() if name.endswith(f".{module}") or module.endswith(f".{name}")]
    if len({tuple(parts) for parts in near}) != 1:
        raise CheckpointError(
            f"{folder}: {module} is not a linear layer of this model; it is another family's adapter, or that of a "
            "head which no task here has"
        )
    return near[0]


def _check(settings: Values, folder: Path) -> None:
    kind = settings.get("peft_type")
    if kind != "LORA":
        raise CheckpointError(f"{folder / SETTINGS}: peft_type is {quoted(kind)}; only LORA can be read")
    for key, unused in REFUSED.items():
        if settings.get(key) not in unused:
            raise CheckpointError(
                f"{folder / SETTINGS}: {key}={quoted(settings[key])} is another method than plain LoRA"
            )
    start = settings.get("init_lora_weights")
    if start not in STARTS:
        raise CheckpointError(
            f"{folder / SETTINGS}: init_lora_weights={quoted(start)} changed the base weights, which the file does "
            "not hold; let peft convert the adapter (path_initial_model_for_weight_conversion), or merge it there"
        )


def _pair(arrays: Mapping[str, np.ndarray]) -> tuple[dict[str, dict[str, np.ndarray]], dict[str, np.ndarray]]:
    """Factors by module and side, and the other arrays by the names that they have in the model."""
    found: dict[str, dict[str, np.ndarray]] = {}
    others = {}
    for name, array in arrays.items():
        match = _FACTOR.match(name.removeprefix(PREFIX))
        if match is None:
            others[_WHOLE.sub(".", name.removeprefix(PREFIX))] = array
        else:
            found.setdefault(match["module"], {})[match["side"]] = array
    return found, others
