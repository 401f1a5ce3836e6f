"""Writing a tokenizer so that this package and `transformers` read the same one back."""

import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from tokenizers import Tokenizer as RustTokenizer
from tokenizers import models, normalizers, pre_tokenizers

from qingformer.errors import TokenizerError
from qingformer.files import write_json
from qingformer.folders import updated_directory
from qingformer.tokenization.added import ADDED_FILE
from qingformer.tokenization.build import CUSTOM_WORDS, build
from qingformer.tokenization.special_tokens import BERT_SPECIAL_TOKENS, STANDARD_NAMES
from qingformer.tokenization.tokenizer_options import Options
from qingformer.tokenization.tokenizer_sources import (
    CONFIG_FILE,
    MODEL_FILE,
    SPECIAL_FILE,
    VOCABULARY_FILE,
    find_source,
)
from qingformer.tokenization.vocabulary import check_line, vocabulary_lines
from qingformer.tokenization.words import WordSplitter
from qingformer.types import Config


def save(
    directory: Path,
    rust: RustTokenizer,
    vocabulary: Sequence[str],
    special_tokens: Mapping[str, str],
    pre_tokenize: str | WordSplitter | None,
    split_special_tokens: bool,
    normalization: str | None,
) -> None:
    """Write `tokenizer.json`, `tokenizer_config.json` and, for WordPiece, `vocab.txt`: all of them or none."""
    wordpiece = isinstance(rust.model, models.WordPiece)
    if wordpiece:
        for index, token in enumerate(vocabulary):
            if "\n" in token or token.endswith("\r"):
                check_line(token, f"token {index}")
    config = _config(rust, special_tokens)
    if split_special_tokens:
        config["split_special_tokens"] = True
    if normalization is not None:
        config["qingformer_normalization"] = normalization
    if pre_tokenize is not None:
        config["qingformer_pre_tokenize"] = pre_tokenize if isinstance(pre_tokenize, str) else CUSTOM_WORDS

    def superseded(target: Path) -> list[str]:
        check_companions(folder, target)
        return []

    with updated_directory(directory, superseded, error=TokenizerError) as folder:
        if wordpiece:
            (folder / VOCABULARY_FILE).write_text(vocabulary_lines(vocabulary), encoding="utf-8", newline="\n")
        (folder / MODEL_FILE).write_text(_state(rust), encoding="utf-8", newline="\n")
        write_json(folder / CONFIG_FILE, config)


def check_companions(new: Path, target: Path) -> None:
    """Refuse to put the tokenizer in `new` into `target` where files stay that would make another one of it.

    `added_tokens.json` and `special_tokens_map.json`, which others write, are read together with `tokenizer.json`.

    Raises:
        TokenizerError: names the file.
    """
    companions = [name for name in (SPECIAL_FILE, ADDED_FILE) if (target / name).is_file()]
    if not companions or not (new / MODEL_FILE).is_file():
        return
    with tempfile.TemporaryDirectory() as scratch:
        for name in (MODEL_FILE, CONFIG_FILE):
            shutil.copyfile(new / name, Path(scratch, name))
        alone = _tokenizer_in(scratch)
        for name in companions:
            shutil.copyfile(target / name, Path(scratch, name))
            if _tokenizer_in(scratch) != alone:
                raise TokenizerError(
                    f"{target}: holds {name} of another tokenizer, which would be read together with the new one; "
                    "remove it, or choose another folder"
                )


def _tokenizer_in(folder: str) -> tuple[str, dict[str, str], bool] | None:
    """Everything that makes up the tokenizer of a folder but its splitter of words; None where its files disagree."""
    try:
        parts = build(find_source(folder), Options(pre_tokenize=str.split))  # a splitter, in case the saved one is code
    except TokenizerError:
        return None
    return parts.rust.to_str(), dict(parts.special_tokens), parts.split_special_tokens


def _state(rust: RustTokenizer) -> str:
    copy = RustTokenizer.from_str(rust.to_str())
    copy.no_truncation()
    return json.dumps(json.loads(copy.to_str()), ensure_ascii=False, indent=2) + "\n"


def _config(rust: RustTokenizer, special_tokens: Mapping[str, str]) -> Config:
    config: Config = {
        "tokenizer_class": "BertTokenizer" if _is_plain_bert(rust, special_tokens) else "PreTrainedTokenizerFast",
        "model_max_length": 10**30,
        "model_input_names": ["input_ids", "token_type_ids", "attention_mask"],
    }
    if isinstance(rust.normalizer, normalizers.BertNormalizer):
        config["do_lower_case"] = rust.normalizer.lowercase
        config["strip_accents"] = rust.normalizer.strip_accents
        config["tokenize_chinese_chars"] = rust.normalizer.handle_chinese_chars
    config.update(dict.fromkeys(BERT_SPECIAL_TOKENS))  # a null says that there is none
    config.update({name: token for name, token in special_tokens.items() if name in STANDARD_NAMES})
    extra = {name: token for name, token in special_tokens.items() if name not in STANDARD_NAMES}
    if extra:
        config["extra_special_tokens"] = extra
    return config


def _is_plain_bert(rust: RustTokenizer, special_tokens: Mapping[str, str]) -> bool:
    """Whether the class BertTokenizer, which rebuilds everything from the vocabulary, would rebuild just this."""
    return (
        isinstance(rust.model, models.WordPiece)
        and rust.model.max_input_chars_per_word == 100
        and isinstance(rust.normalizer, normalizers.BertNormalizer)
        and isinstance(rust.pre_tokenizer, pre_tokenizers.BertPreTokenizer)
        and set(BERT_SPECIAL_TOKENS) <= set(special_tokens)
    )
