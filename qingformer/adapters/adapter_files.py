"""Adapters on disk, in our own form (adapters.json, adapters.safetensors) or in that of `peft`."""

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from qingformer.adapters import peft_reading, peft_writing
from qingformer.adapters.adapter_state import Adapter, Adapters, gather, put
from qingformer.checkpoints import finite_weights, open_checkpoint, own_files, write_safetensors
from qingformer.errors import CheckpointError
from qingformer.files import write_json
from qingformer.folders import finish_update, updated_directory
from qingformer.json_files import check_kinds, quoted, read_object
from qingformer.types import Values
from qingformer.version import __version__

SETTINGS, WEIGHTS = own_files.ADAPTERS
FORMATS = ("qingformer", "peft")
_KINDS: dict[str, type | tuple[type, ...]] = {"rank": int, "alpha": float, "symmetric": bool}
_KINDS["probe"] = (list, type(None))
_PARTS = ("lora_kernel_a", "lora_kernel_b", "lora_start_a", "lora_start_b")


def save(
    model: object, backbone: object, directory: str | os.PathLike[str], format: str, check_finite: bool = False
) -> Path:
    """See `PretrainedModel.save_adapters`; `model` holds the layers of `backbone` and maybe a head on top."""
    if format not in FORMATS:
        raise CheckpointError(f"unknown format {format!r} of adapters; use one of {', '.join(FORMATS)}")
    adapters = gather(model, backbone)
    if check_finite:
        finite_weights.check_finite(arrays_of(adapters))
    names = own_files.PEFT if format == "peft" else own_files.ADAPTERS
    with updated_directory(directory, lambda folder: own_files.of_earlier_adapters(folder, names)) as folder:
        if format == "peft":
            peft_writing.write(folder, backbone, adapters)
        else:
            write(folder, adapters)
    return Path(directory)


def load(model: object, backbone: object, directory: str | os.PathLike[str], strict: bool = True) -> list[str]:
    """See `PretrainedModel.load_adapters`."""
    folder = Path(directory)
    finish_update(folder)
    if (folder / SETTINGS).is_file():
        return put(model, backbone, read(folder), strict)
    if (folder / peft_writing.SETTINGS).is_file():
        return put(model, backbone, peft_reading.read(folder, backbone).of_body(strict), strict)
    what = f"holds neither {SETTINGS} nor {peft_writing.SETTINGS}" if folder.is_dir() else "no such directory"
    raise CheckpointError(f"{folder}: {what}; give the folder that save_adapters wrote")


def arrays_of(adapters: Adapters) -> dict[str, np.ndarray]:
    """All arrays by the path of the layer and the name of the variable."""
    arrays: dict[str, np.ndarray] = {f"trained/{key}": value for key, value in adapters.trained.items()}
    for path, adapter in adapters.layers.items():
        for name, value in zip(_PARTS, (adapter.a, adapter.b, *(adapter.start or ()))):
            arrays[f"{path}/{name}"] = value
    return arrays


def write(folder: Path, adapters: Adapters) -> None:
    """Settings as JSON, arrays under the path of the layer and the name of the variable."""
    layers = {}
    for path, adapter in adapters.layers.items():
        layers[path] = {
            "rank": int(adapter.a.shape[1]),
            "alpha": adapter.alpha,
            "symmetric": adapter.start is not None,
            "probe": adapter.probe,
        }
    settings = {"qingformer_version": __version__, "base": adapters.base, "layers": layers}
    write_json(folder / SETTINGS, {**settings, "trained": list(adapters.trained)})
    write_safetensors(folder / WEIGHTS, arrays_of(adapters), metadata={"format": "qingformer"})


def read(folder: Path) -> Adapters:
    """The inverse of `write`.

    Raises:
        CheckpointError: a file is missing or damaged, or the two do not belong together.
    """
    where = folder / SETTINGS
    settings = read_object(where, CheckpointError, {"base": dict, "layers": dict, "trained": list})
    if not {"base", "layers", "trained"} <= settings.keys():
        raise CheckpointError(f"{where}: expected an object with base, layers and trained")
    if not all(isinstance(key, str) for key in settings["trained"]):
        raise CheckpointError(f"{where}: trained holds {quoted(settings['trained'])}, expected paths of layers")
    for path, layer in settings["layers"].items():
        if not isinstance(layer, dict):
            raise CheckpointError(f"{where}: {quoted(path)} is {quoted(layer)}, expected an object")
        check_kinds(layer, _KINDS, f"{where}: {path}", CheckpointError)
        if not all(type(value) in (int, float) for value in layer.get("probe") or ()):
            raise CheckpointError(f"{where}: {path}: probe is {quoted(layer['probe'])}, expected numbers")
    with open_checkpoint(folder / WEIGHTS, verify=True) as file:
        arrays = {name: np.array(file.read(name)) for name in file.names()}
    wanted = {f"trained/{key}" for key in settings["trained"]}
    for path, layer in settings["layers"].items():
        wanted |= {f"{path}/{name}" for name in (_PARTS if layer.get("symmetric") else _PARTS[:2])}
    if wanted != set(arrays):
        wrong = sorted(wanted ^ set(arrays))
        raise CheckpointError(f"{folder}: {SETTINGS} and {WEIGHTS} disagree about {', '.join(wrong[:3])}")
    layers = {path: _adapter(path, layer, arrays, folder) for path, layer in settings["layers"].items()}
    trained = {key: arrays[f"trained/{key}"] for key in settings["trained"]}
    return Adapters(str(folder), layers, trained, settings["base"])


def _adapter(path: str, layer: Values, arrays: Mapping[str, np.ndarray], folder: Path) -> Adapter:
    a, b = (arrays[f"{path}/{name}"] for name in _PARTS[:2])
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != layer.get("rank") or b.shape[0] != layer.get("rank"):
        raise CheckpointError(
            f"{folder}: {path} has rank {layer.get('rank')} in {SETTINGS}, but factors of shapes {a.shape}, {b.shape}"
        )
    start = (arrays[f"{path}/{_PARTS[2]}"], arrays[f"{path}/{_PARTS[3]}"]) if layer.get("symmetric") else None
    return Adapter(a, b, float(layer.get("alpha", a.shape[1])), start, layer.get("probe"))
