"""Find the files of a pretrained model: in a directory, by the prefix of a checkpoint, by one file, or on the Hub."""

import difflib
import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from qingformer.checkpoints.checkpoint import HUB_PREFIX, PathLike
from qingformer.checkpoints.tensor_bundle import bundle_prefix
from qingformer.errors import CheckpointError
from qingformer.files import is_path
from qingformer.folders import finish_update, model_of_run
from qingformer.json_files import quoted, read_json

Layout = Literal["tensorflow", "huggingface", "qingformer"]
Kind = Literal["config", "weights", "vocabulary"]

_CONFIGS = ("config.json", "bert_config.json", "hparams.json")
_VOCABULARIES = ("tokenizer.json", "vocab.txt", "spiece.model", "sentencepiece.model", "tokenizer.model", "merges.txt")
_INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
_WEIGHTS = ("model.safetensors", _INDEXES[0], "pytorch_model.bin", _INDEXES[1])
_SHARD = re.compile(r"-\d{5}-of-\d{5}$")
_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".ckpt")
_ADAPTERS = "adapter_config.json"
_NO_CONFIGS = ("tokenizer_config.json", "generation_config.json", "preprocessor_config.json", _ADAPTERS)
_EXPECTED = {
    "config": "config.json or bert_config.json",
    "weights": "model.safetensors, pytorch_model.bin or a TensorFlow checkpoint (NAME.index and NAME.data-...)",
    "vocabulary": "vocab.txt, tokenizer.json, spiece.model or merges.txt with vocab.json",
}

# Weights of other programs: the ending, and how they become a file that is read here.
_UNREAD = (
    (".h5", "Keras' or transformers' TensorFlow weights; load them in transformers below 5 with from_tf=True and save"),
    (".msgpack", "Flax weights; load them in transformers below 5 with from_flax=True and save"),
    (".pdparams", "PaddlePaddle weights; convert them to safetensors with PaddleNLP's or your own script"),
    (".onnx", "an ONNX graph; take the original weights"),
    (".gguf", "llama.cpp's quantised weights; take the original ones"),
    (".ot", "weights for rust-bert; take the original ones"),
    (".keras", "a model that Keras saved; read it with keras.models.load_model"),
)


@dataclass(frozen=True)
class PretrainedFiles:
    """The files of one pretrained model; None where there is no such file, or more than one and none was asked for.

    Attributes:
        directory: the folder that holds them.
        config: the JSON configuration.
        weights: what `open_checkpoint` opens: a file, an index of shards, or the prefix of a TensorFlow checkpoint.
        vocabulary: `tokenizer.json`, `vocab.txt`, `spiece.model`, ..., `merges.txt`, the first that exists.
        layout: whose names the weights carry: "tensorflow" (Google), "huggingface", or "qingformer".
    """

    directory: Path
    config: Path | None
    weights: Path | None
    vocabulary: Path | None
    layout: Layout

    def require(self, kind: Kind) -> Path:
        """Return the file of this kind.

        Raises:
            CheckpointError: there is none; the message lists what the folder holds.
        """
        path: Path | None = getattr(self, kind)
        if path is None:
            raise CheckpointError(f"{self.directory}: no {kind} ({_EXPECTED[kind]}); {_listing(self.directory)}")
        return path


def locate(source: PathLike, revision: str | None = None, *, need: Sequence[Kind] = ()) -> PretrainedFiles:
    """Find configuration, weights and vocabulary of a pretrained model.

    Args:
        source: a directory, the prefix or any file of a TensorFlow checkpoint, a weights or vocabulary file, or
            "hf://org/name[@revision]", which is downloaded into the Hub's cache.
        revision: branch, tag or commit of a Hub model; the same as "@revision".
        need: what must be there, of "config", "weights", "vocabulary". Empty: anything, but at least one of them.
            From the Hub only what is needed is downloaded (everything when empty).

    Raises:
        CheckpointError: nothing there, several candidates, or a needed file is missing; lists what is there.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> _ = (folder / "config.json").write_text("{}"), (folder / "vocab.txt").write_text("[PAD]")
        >>> files = locate(folder)
        >>> files.layout, files.require("config").name, files.require("vocabulary").name, files.weights
        ('huggingface', 'config.json', 'vocab.txt', None)
    """
    if not is_path(source):
        raise CheckpointError(f"the source is {quoted(source)}, expected a path or {HUB_PREFIX}org/name")
    text = str(source)
    if text.startswith(HUB_PREFIX):
        from qingformer.checkpoints.hub import download  # the client takes 0.1 s to import, local files do not need it

        return _in_directory(download(text, revision, need), need)
    if revision is not None:
        raise CheckpointError(f"{text}: a revision ({revision}) is for {HUB_PREFIX}org/name sources only")
    path = model_of_run(Path(source).expanduser())
    finish_update(path)
    if path.is_dir():
        return _in_directory(path, need)
    prefix = bundle_prefix(path)
    if Path(f"{prefix}.index").is_file():
        return _around(path.parent, prefix, need)
    if path.is_file():
        return _beside_file(path, need)
    raise CheckpointError(f"{path}: no such file, directory or checkpoint prefix; {_meant(text, path)}")


def unread_weights(directory: Path) -> str:
    """Which weights of other programs lie there and what to do with them, "" where there are none."""
    for suffix, advice in _UNREAD:
        for path in sorted(directory.glob(f"*{suffix}")):
            return f"{path.name[:60]} is {advice}"
    return ""


def without_config(files: PretrainedFiles) -> str:
    """Why there is no configuration, and what to give instead."""
    if files.weights is not None and not (files.directory / _ADAPTERS).is_file():
        return "no config.json or bert_config.json beside the weights; add it"
    if files.weights is None and any((files.directory / name).is_file() for name in _CONFIGS):
        return "is not a weights file; give the folder of the model"
    return f"no config.json or bert_config.json and no weights there; {_listing(files.directory)}"


def _meant(text: str, path: Path) -> str:
    """What a source that is not there may stand for: a name of the Hub, a name misspelled; else what is there."""
    if not text.startswith((".", "/", "~")) and not Path(text).suffix and text.count("/") < 2:
        name = text if "/" in text else f"ORGANISATION/{text}"
        hint = f'for a model on the Hugging Face Hub write "{HUB_PREFIX}{name}"'
        return f"{hint}; {_listing(path.parent)}" if "/" in text else hint
    there = [inner.name for inner in path.parent.iterdir()] if path.parent.is_dir() else []
    close = difflib.get_close_matches(path.name, there, 3)
    return f"did you mean {', '.join(close)}?" if close else _listing(path.parent, below=False)


def _beside_file(path: Path, need: Sequence[Kind]) -> PretrainedFiles:
    if path.name in _VOCABULARIES or (path.suffix == ".txt" and "vocab" in path.name):
        files = PretrainedFiles(path.parent, None, None, path, "huggingface")
        for kind in need:
            files.require(kind)
        return files
    if path.suffix in _SUFFIXES or path.name.endswith(".index.json"):
        return _around(path.parent, path, need)
    if path.suffix == ".json":
        return _in_directory(path.parent, need)
    return _around(path.parent, path, need)


def _in_directory(directory: Path, need: Sequence[Kind]) -> PretrainedFiles:
    candidates = _weights(directory)
    if len(candidates) > 1 and (not need or "weights" in need):
        names = ", ".join(path.name for path in candidates)
        raise CheckpointError(f"{directory}: several sets of weights ({names}); name the one you mean")
    return _around(directory, candidates[0] if len(candidates) == 1 else None, need)


def _around(directory: Path, weights: Path | None, need: Sequence[Kind]) -> PretrainedFiles:
    configs = _configs(directory)
    if len(configs) > 1 and "config" in need:
        names = ", ".join(path.name for path in configs)
        raise CheckpointError(f"{directory}: several configurations ({names}); rename the right one to config.json")
    config = configs[0] if len(configs) == 1 else None
    vocabulary = next((directory / name for name in _VOCABULARIES if (directory / name).is_file()), None)
    if weights is config is vocabulary is None and not configs:
        raise CheckpointError(f"{directory}: no pretrained model here; {_listing(directory)}")
    files = PretrainedFiles(directory, config, weights, vocabulary, _layout(config, weights))
    for kind in need:
        files.require(kind)
    return files


def _configs(directory: Path) -> list[Path]:
    """The known name if one exists, otherwise everything that can be a configuration."""
    for name in _CONFIGS:
        if (directory / name).is_file():
            return [directory / name]
    return sorted(path for path in directory.glob("*config*.json") if path.name not in _NO_CONFIGS)


def _weights(directory: Path) -> list[Path]:
    """The known name if one exists, then the prefix in `checkpoint`, then all candidates."""
    for name in _WEIGHTS:
        if (directory / name).is_file():
            return [directory / name]
    latest = _latest_prefix(directory)
    if latest is not None:
        return [latest]
    prefixes = [bundle_prefix(path) for path in directory.glob("*.index")]
    if prefixes:
        return sorted(prefixes)
    for suffix in _SUFFIXES:
        indexes = sorted(directory.glob(f"*{suffix}.index.json"))
        single = [path for path in sorted(directory.glob(f"*{suffix}")) if path.name != "training_args.bin"]
        found = indexes + [path for path in single if not (indexes and _SHARD.search(path.stem))]
        if found:
            return found
    return []


def _latest_prefix(directory: Path) -> Path | None:
    """The prefix that the text file `checkpoint` names, if it lies in this directory."""
    state = directory / "checkpoint"
    if not state.is_file() or state.stat().st_size > 1 << 20:
        return None
    for line in state.read_text(encoding="utf-8", errors="replace").splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model_checkpoint_path":
            # the path is often that of the machine which wrote it: only its last part counts
            name = value.strip().strip('"').replace("\\", "/").rpartition("/")[2]
            prefix = directory / name
            return prefix if name and Path(f"{prefix}.index").is_file() else None
    return None


def _layout(config: Path | None, weights: Path | None) -> Layout:
    if weights is not None and Path(f"{weights}.index").is_file():
        return "tensorflow"
    if config is not None and config.name == "config.json":
        content: Any = read_json(config, CheckpointError)
        if isinstance(content, dict) and "qingformer_version" in content:
            return "qingformer"
    if weights is None and config is not None and config.name != "config.json":
        return "tensorflow"
    return "huggingface"


def _listing(directory: Path, below: bool = True) -> str:
    """What the folder holds, for a message, and, if `below`, in which folders of it a model lies."""
    if not directory.is_dir():
        return f"there is no directory {directory}"
    names = sorted(path.name + ("/" if path.is_dir() else "") for path in directory.iterdir())
    if not names:
        return "it is empty"
    nested = _below(directory) if below else ""
    shown = names[: 6 if nested else 20]
    more = f" and {len(names) - len(shown)} more" if len(names) > len(shown) else ""
    return f"{nested}it holds: {', '.join(shown)}{more}"


def _below(directory: Path) -> str:
    """The folders in it that hold a model (an unpacked archive, a run of other programs, the Hub's cache)."""
    if (directory / _ADAPTERS).is_file():
        return "these are adapters: load the model that they belong to, then load_adapters; "
    folders = itertools.islice((path for path in directory.iterdir() if path.is_dir()), 200)
    inner = [deep for path in folders for deep in (path, *(path.glob("*") if path.name == "snapshots" else ()))]
    found = sorted(path for path in inner if any((path / name).is_file() for name in _CONFIGS))
    names = ", ".join(f"{path.relative_to(directory)}/"[:60] for path in found[:3])
    more = f" and {len(found) - 3} more" if len(found) > 3 else ""
    return f"give the folder of one model: {names}{more}; " if found else ""
