"""Where a tokenizer comes from: one of its files, a directory in Hugging Face form, the hub."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer as RustTokenizer

from qingformer.errors import TokenizerError
from qingformer.files import read_json
from qingformer.folders import finish_update
from qingformer.tokenization.special_tokens import read_special_tokens

CONFIG_FILE, MODEL_FILE, VOCABULARY_FILE = "tokenizer_config.json", "tokenizer.json", "vocab.txt"
_MODEL_SUFFIXES = (".model", ".spm")
_SHIFTED = ("sentencepiece.bpe.model", "XLMRoberta", "Camembert", "MBart", "Barthez")
_WEIGHT_SUFFIXES = (".safetensors", ".bin", ".h5", ".keras", ".index", ".pt", ".pth")


@dataclass(frozen=True)
class Source:
    """The files of a tokenizer: `model` (tokenizer.json), `sentencepiece`, or `vocabulary` with or without `merges`."""

    model: Path | None = None
    vocabulary: Path | None = None
    merges: Path | None = None
    sentencepiece: Path | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    beside: Path | None = None  # the directory, for files of added tokens

    @property
    def where(self) -> str:
        """The path that messages name."""
        return str(self.model or self.sentencepiece or self.vocabulary)


def find_source(source: str | os.PathLike[str]) -> Source:
    """Find the files behind `source`; raises TokenizerError, naming the place and what was looked for."""
    if str(source).startswith("hf://"):
        from qingformer.checkpoints import locate  # only here: local sources need no hub

        located = locate(str(source), need=["vocabulary"])  # and not the weights
        return _from_directory(Path(located.directory), str(source))
    path = Path(source).expanduser()
    finish_update(path)
    if path.is_dir():
        return _from_directory(path, str(path))
    if Path(f"{path}.index").is_file() or (path.suffix in _WEIGHT_SUFFIXES and path.is_file()):
        return _from_directory(path.parent, str(path.parent))
    if not path.exists():
        raise TokenizerError(
            f"{path}: no such file or directory; expected a directory, {VOCABULARY_FILE}, "
            f"{MODEL_FILE}, a SentencePiece model or hf://organisation/name"
        )
    return _from_file(path)


def _from_file(path: Path) -> Source:
    if path.suffix in _MODEL_SUFFIXES:
        _check_not_shifted(path, {})
        return Source(sentencepiece=path)
    if path.suffix == ".vocab":
        raise TokenizerError(f"{path}: only the list of a SentencePiece model; name the .model file")
    if _is_merges(path) or (path.suffix == ".json" and _is_bpe_vocabulary(path)):
        found = _bpe_files(path.parent, str(path))
        assert found is not None  # the path itself is one of the two files
        return Source(vocabulary=found[0], merges=found[1])
    return Source(model=path) if path.suffix == ".json" else Source(vocabulary=path)


def _from_directory(directory: Path, shown: str) -> Source:
    settings: dict[str, Any] = {}
    for name in ("special_tokens_map.json", CONFIG_FILE):
        if (directory / name).is_file():
            settings.update(_read_object(directory / name))
    settings["special_tokens"] = read_special_tokens(settings)
    if (directory / MODEL_FILE).is_file():
        return Source(model=directory / MODEL_FILE, settings=settings)
    found: dict[str, dict[str, Path]] = {}
    bpe = _bpe_files(directory, shown)
    if bpe is not None:
        found[f"{bpe[0].name} with {bpe[1].name} (BPE)"] = {"vocabulary": bpe[0], "merges": bpe[1]}
    vocabulary = _only(directory, (VOCABULARY_FILE,), "*vocab*.txt", shown)
    if vocabulary is not None and (bpe is None or vocabulary != bpe[0]):
        found[f"{vocabulary.name} (WordPiece)"] = {"vocabulary": vocabulary}
    # Beside another vocabulary a file that only ends in .model may be anything.
    pattern = "*.model" if not found else "spiece.model"
    model = _only(directory, ("spiece.model", "sentencepiece.model", "tokenizer.model"), pattern, shown)
    if model is not None:
        _check_not_shifted(model, settings)
        found[f"{model.name} (SentencePiece)"] = {"sentencepiece": model}
    if len(found) != 1:
        what = f"there are {' and '.join(found)}, which cannot both be right: name one" if found else "there is neither"
        kinds = f"{MODEL_FILE}, {VOCABULARY_FILE}, vocab.json with merges.txt or a SentencePiece model"
        raise TokenizerError(f"{shown}: expected {kinds} in this directory; {what}")
    return Source(**next(iter(found.values())), settings=settings, beside=directory)


def _only(directory: Path, names: Sequence[str], pattern: str, shown: str) -> Path | None:
    """The first of the names that is there, or else the one file of the pattern; several are an error."""
    for name in names:
        if (directory / name).is_file():
            return directory / name
    others = sorted(path for path in directory.glob(pattern) if path.is_file())
    if len(others) > 1:
        raise TokenizerError(f"{shown}: there are {', '.join(path.name for path in others)}: name one")
    return others[0] if others else None


def _bpe_files(directory: Path, shown: str) -> tuple[Path, Path] | None:
    """The vocabulary and the merges, None if there are no merges; one without the other is an error."""
    merges = _only(directory, ("merges.txt", "vocab.bpe"), "*merges*.txt", shown)
    vocabulary = _only(directory, ("vocab.json", "encoder.json"), "*vocab*.json", shown)
    if merges is None:
        if vocabulary is None or any(path.suffix in _MODEL_SUFFIXES for path in directory.iterdir()):
            return None  # CPM-LM has a table of the ids beside its SentencePiece model
        raise TokenizerError(f"{shown}: {vocabulary.name} without merges; put merges.txt beside it")
    vocabulary = vocabulary or _only(directory, (VOCABULARY_FILE,), "*vocab*.txt", shown)
    if vocabulary is None:
        raise TokenizerError(f"{shown}: {merges.name} without a vocabulary; put vocab.json beside it")
    return vocabulary, merges


def _is_merges(path: Path) -> bool:
    return path.suffix == ".bpe" or (path.suffix == ".txt" and "merges" in path.name)


def _is_bpe_vocabulary(path: Path) -> bool:
    return "vocab" in path.name or path.name == "encoder.json"


def _check_not_shifted(path: Path, settings: dict[str, Any]) -> None:
    """XLM-R and its kin use the ids of the model shifted by one, behind special tokens in another order."""
    named = (path.name, str(settings.get("tokenizer_class", "")))
    if any(sign in name for sign in _SHIFTED for name in named):
        raise TokenizerError(f"{path}: XLM-R's ids are not those of its SentencePiece model; use its {MODEL_FILE}")


def added_tokens(source: Source, size: int) -> tuple[str, ...]:
    """Tokens beyond the `size` of the vocabulary: `added_tokens.json`, `added_tokens_decoder`, or T5's `extra_ids`."""
    if source.beside is None:
        return ()
    by_id: dict[int, str] = {}
    path = source.beside / "added_tokens.json"
    if path.is_file():
        by_id.update({index: token for token, index in _read_object(path).items()})
    for index, entry in (source.settings.get("added_tokens_decoder") or {}).items():
        by_id[int(index)] = entry["content"] if isinstance(entry, dict) else str(entry)
    beyond = sorted((index, token) for index, token in by_id.items() if index >= size)
    extra = source.settings.get("extra_ids")
    if not beyond and isinstance(extra, int):  # in T5 the last id is that of <extra_id_0>
        beyond = [(size + place, f"<extra_id_{extra - 1 - place}>") for place in range(extra)]
    if [index for index, _ in beyond] != list(range(size, size + len(beyond))):
        found = [index for index, _ in beyond][:8]
        raise TokenizerError(
            f"{source.beside}: the added tokens have the ids {found}; expected ids "
            f"that follow the {size} tokens of {Path(source.where).name}"
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
