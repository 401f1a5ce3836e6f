"""Where a tokenizer comes from: one of its files, a directory in Hugging Face form, the hub."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tokenizers import Tokenizer as RustTokenizer

from qingformer.errors import TokenizerError
from qingformer.files import is_path
from qingformer.folders import finish_update, model_of_run
from qingformer.json_files import quoted, read_object
from qingformer.tokenization.special_tokens import STANDARD_NAMES, read_special_tokens
from qingformer.types import Options

CONFIG_FILE, MODEL_FILE, VOCABULARY_FILE = "tokenizer_config.json", "tokenizer.json", "vocab.txt"
SPECIAL_FILE = "special_tokens_map.json"
_NULL = type(None)
_MODEL_SUFFIXES = (".model", ".spm")
_SHIFTED = ("sentencepiece.bpe.model", "XLMRoberta", "Camembert", "MBart", "Barthez")
# What a key of `tokenizer_config.json` and `special_tokens_map.json` may hold.
_SWITCHES = (
    "do_lower_case strip_accents tokenize_chinese_chars keep_accents add_bos_token add_eos_token add_prefix_space"
)
_KINDS: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys(_SWITCHES.split(), (bool, _NULL)),
    **dict.fromkeys(("tokenizer_class", "qingformer_pre_tokenize", "qingformer_normalization"), (str, _NULL)),
    **dict.fromkeys(STANDARD_NAMES, (str, dict, _NULL)),
    "extra_ids": (int, _NULL),
    "additional_special_tokens": (list, _NULL),
    "extra_special_tokens": (list, dict, _NULL),
    "added_tokens_decoder": (dict, _NULL),
}
MAXIMUM_EXTRA_IDS = 10_000
_WEIGHT_SUFFIXES = (".safetensors", ".bin", ".h5", ".keras", ".index", ".pt", ".pth")


@dataclass(frozen=True)
class Source:
    """The files of a tokenizer: `model` (tokenizer.json), `sentencepiece`, or `vocabulary` with or without `merges`."""

    model: Path | None = None
    vocabulary: Path | None = None
    merges: Path | None = None
    sentencepiece: Path | None = None
    settings: Options = field(default_factory=dict)
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
    if not is_path(source):
        raise TokenizerError(f"the source is {quoted(source)}, expected a path or hf://org/name")
    path = model_of_run(Path(source).expanduser())
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
    settings: Options = {}
    for name in (SPECIAL_FILE, CONFIG_FILE):
        if (directory / name).is_file():
            found_there = read_object(directory / name, TokenizerError, _KINDS)
            if not 0 <= (found_there.get("extra_ids") or 0) <= MAXIMUM_EXTRA_IDS:
                raise TokenizerError(f"{directory / name}: extra_ids is not in 0..{MAXIMUM_EXTRA_IDS}")
            settings.update(found_there)
    settings["special_tokens"] = read_special_tokens(settings)
    if (directory / MODEL_FILE).is_file():
        return Source(model=directory / MODEL_FILE, settings=settings, beside=directory)
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


def _check_not_shifted(path: Path, settings: Options) -> None:
    """XLM-R and its kin use the ids of the model shifted by one, behind special tokens in another order."""
    named = (path.name, str(settings.get("tokenizer_class", "")))
    if any(sign in name for sign in _SHIFTED for name in named):
        raise TokenizerError(f"{path}: XLM-R's ids are not those of its SentencePiece model; use its {MODEL_FILE}")


def read_model(path: Path) -> RustTokenizer:
    """Read a `tokenizer.json`; padding and truncation stored in it are dropped, they belong to each call."""
    state = read_object(path, TokenizerError)
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
