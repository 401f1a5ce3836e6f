"""Where a tokenizer comes from: a vocabulary file, a `tokenizer.json`, a directory in Hugging Face form, the hub."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer as RustTokenizer

from qingformer.errors import TokenizerError
from qingformer.files import read_json
from qingformer.tokenization.special_tokens import read_special_tokens
from qingformer.tokenization.vocabulary import read_vocabulary

CONFIG_FILE, MODEL_FILE, VOCABULARY_FILE = "tokenizer_config.json", "tokenizer.json", "vocab.txt"
_WEIGHT_SUFFIXES = (".safetensors", ".bin", ".h5", ".keras", ".index", ".pt", ".pth")


@dataclass(frozen=True)
class Source:
    """The files of one tokenizer: one of `model` (tokenizer.json) and `vocabulary` is given."""

    model: Path | None = None
    vocabulary: Path | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    added_tokens: tuple[str, ...] = ()

    @property
    def where(self) -> str:
        """The path that messages name."""
        return str(self.model or self.vocabulary)


def find_source(source: str | os.PathLike[str]) -> Source:
    """Find the files behind `source`; raises TokenizerError, naming the place and what was looked for."""
    if str(source).startswith("hf://"):
        from qingformer.checkpoints import locate  # only here: local sources need no hub

        located = locate(str(source), need=["vocabulary"])  # and not the weights
        return _from_directory(Path(located.directory), str(source))
    path = Path(source).expanduser()
    if path.is_dir():
        return _from_directory(path, str(path))
    if Path(f"{path}.index").is_file() or (path.suffix in _WEIGHT_SUFFIXES and path.is_file()):
        return _from_directory(path.parent, str(path.parent))
    if not path.exists():
        raise TokenizerError(
            f"{path}: no such file or directory; expected a directory, {VOCABULARY_FILE}, "
            f"{MODEL_FILE} or hf://organisation/name"
        )
    if path.suffix == ".json":
        return Source(model=path)
    if path.suffix in (".model", ".spm", ".vocab"):
        raise TokenizerError(
            f"{path}: a SentencePiece model; expected {VOCABULARY_FILE} or {MODEL_FILE} (transformers "
            f"writes the latter with save_pretrained)"
        )
    return Source(vocabulary=path)


def _from_directory(directory: Path, shown: str) -> Source:
    settings: dict[str, Any] = {}
    for name in ("special_tokens_map.json", CONFIG_FILE):
        if (directory / name).is_file():
            settings.update(_read_object(directory / name))
    settings["special_tokens"] = read_special_tokens(settings)
    if (directory / MODEL_FILE).is_file():
        return Source(model=directory / MODEL_FILE, settings=settings)
    vocabulary = _find_vocabulary(directory, shown)
    return Source(vocabulary=vocabulary, settings=settings, added_tokens=_added_tokens(directory, settings, vocabulary))


def _find_vocabulary(directory: Path, shown: str) -> Path:
    if (directory / VOCABULARY_FILE).is_file():
        return directory / VOCABULARY_FILE
    others = sorted(directory.glob("*vocab*.txt"))
    if len(others) == 1:
        return others[0]
    found = f"there are {', '.join(path.name for path in others)}: name one" if others else "there is neither"
    raise TokenizerError(f"{shown}: expected {MODEL_FILE} or {VOCABULARY_FILE} in this directory; {found}")


def _added_tokens(directory: Path, settings: dict[str, Any], vocabulary: Path) -> tuple[str, ...]:
    """Tokens beyond the vocabulary file: `added_tokens.json`, or `added_tokens_decoder` in the settings."""
    by_id: dict[int, str] = {}
    path = directory / "added_tokens.json"
    if path.is_file():
        by_id.update({index: token for token, index in _read_object(path).items()})
    for index, entry in (settings.get("added_tokens_decoder") or {}).items():
        by_id[int(index)] = entry["content"] if isinstance(entry, dict) else str(entry)
    size = len(read_vocabulary(vocabulary))
    beyond = sorted((index, token) for index, token in by_id.items() if index >= size)
    if [index for index, _ in beyond] != list(range(size, size + len(beyond))):
        found = [index for index, _ in beyond][:8]
        raise TokenizerError(
            f"{directory}: the added tokens have the ids {found}; expected ids "
            f"that follow the {size} lines of {vocabulary.name}"
        )
    return tuple(token for _, token in beyond)


def _read_object(path: Path) -> dict[str, Any]:
    value = read_json(path, TokenizerError)
    if not isinstance(value, dict):
        raise TokenizerError(f"{path}: expected a JSON object, found {type(value).__name__}")
    return value


def read_model(path: Path) -> RustTokenizer:
    """Read a `tokenizer.json`; padding and truncation stored in it are dropped, they belong to each call."""
    state = _read_object(path)
    if "model" not in state:
        raise TokenizerError(f"{path}: no field 'model'; expected a tokenizer.json of the tokenizers library")
    try:
        rust = RustTokenizer.from_file(str(path))
    except Exception as problem:  # the library raises plain Exception
        raise TokenizerError(f"{path}: not a tokenizer of the tokenizers library: {one_line(problem)}") from None
    rust.no_padding()
    rust.no_truncation()
    return rust


def one_line(problem: BaseException) -> str:
    """The message of a foreign exception on one line."""
    return " ".join(str(problem).split())
