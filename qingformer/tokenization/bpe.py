"""Byte pair encoding from a vocabulary and a list of merges: GPT-2's over bytes, GPT's over characters."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, processors
from tokenizers import Tokenizer as RustTokenizer

from qingformer.errors import TokenizerError
from qingformer.files import check_not_pointer
from qingformer.json_files import quoted, read_object
from qingformer.tokenization.special_token_templates import around, frame, roberta
from qingformer.tokenization.special_tokens import check_names
from qingformer.tokenization.tokenizer_options import Options, first
from qingformer.tokenization.vocabulary import read_vocabulary
from qingformer.types import Values

# GPT's tokenizer marks the last piece of a word, GPT2's the space before the first.
_WORD_END = "</w>"
_END_OF_TEXT = "<|endoftext|>"
_GPT2 = dict.fromkeys(("unk_token", "bos_token", "eos_token"), _END_OF_TEXT)
_ROBERTA = {
    "unk_token": "<unk>",
    "bos_token": "<s>",
    "eos_token": "</s>",
    "pad_token": "<pad>",
    "mask_token": "<mask>",
}


def from_bpe(
    vocabulary: Path, merges: Path, options: Options, settings: Values
) -> tuple[RustTokenizer, dict[str, str]]:
    """The Rust tokenizer of a vocabulary with merges, and its special tokens by name.

    GPT-2 (Radford et al. 2019) merges bytes, each written as a printable character, and needs no unknown token; GPT
    (Radford et al. 2018) merges the characters of lower-cased words that end in "</w>". Which of the two it is, is seen
    from the merges (Sennrich et al. 2015, arXiv 1508.07909). Nothing is put around a text, unless the settings have
    `add_bos_token`, `add_eos_token` or the class RobertaTokenizer, or cls_token or sep_token are chosen.
    """
    ids, pairs = _read_ids(vocabulary), _read_merges(merges)
    for left, right in pairs:
        for token in (left, right, left + right):
            if token not in ids:
                raise TokenizerError(f"{merges}: the merge {left!r} {right!r} needs {token!r}, not in {vocabulary}")
    special = _special_tokens(ids, options, settings, str(vocabulary))
    if any(right.endswith(_WORD_END) for _, right in pairs):
        options.refuse(("max_word_length", "normalization"), str(vocabulary), "a BPE")
        rust = _characters(ids, pairs, special, options, settings)
    else:
        options.refuse(
            ("strip_accents", "tokenize_chinese_chars", "max_word_length", "normalization"), str(vocabulary), "a BPE"
        )
        rust = _bytes(ids, pairs, special, options, settings, str(vocabulary))
    present = [token for token in (_END_OF_TEXT, *_ROBERTA.values()) if token in ids]
    rust.add_special_tokens(
        [AddedToken(token, normalized=False, special=True) for token in dict.fromkeys((*present, *special.values()))]
    )
    return rust, special


def _bytes(
    ids: dict[str, int],
    merges: list[tuple[str, str]],
    special: Mapping[str, str],
    options: Options,
    settings: Values,
    where: str,
) -> RustTokenizer:
    # With all 256 bytes in the vocabulary nothing is ever unknown.
    missing = set(pre_tokenizers.ByteLevel.alphabet()) - ids.keys()
    if missing and "unk_token" not in special:
        raise TokenizerError(
            f"{where}: {len(missing)} of the 256 byte tokens are missing ({min(missing)!r} for one) and there is no "
            f"unknown token; name one with special_tokens={{'unk_token': ...}}"
        )
    rust = RustTokenizer(models.BPE(ids, merges, unk_token=special.get("unk_token") if missing else None))
    if first(options.lowercase, settings.get("do_lower_case"), False):
        rust.normalizer = normalizers.Lowercase()
    prefix = bool(settings.get("add_prefix_space", False))
    rust.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix)
    rust.decoder = decoders.ByteLevel()
    template = _frame(ids, special, options, settings)
    # Offsets are trimmed by this package, for all kinds of tokenizers alike.
    trim = processors.ByteLevel(trim_offsets=False)
    rust.post_processor = template if template is not None else trim
    return rust


def _characters(
    ids: dict[str, int],
    merges: list[tuple[str, str]],
    special: Mapping[str, str],
    options: Options,
    settings: Values,
) -> RustTokenizer:
    rust = RustTokenizer(models.BPE(ids, merges, unk_token=special.get("unk_token"), end_of_word_suffix=_WORD_END))
    rust.normalizer = normalizers.BertNormalizer(
        lowercase=first(options.lowercase, settings.get("do_lower_case"), True),
        strip_accents=first(options.strip_accents, settings.get("strip_accents")),
        handle_chinese_chars=first(options.tokenize_chinese_chars, settings.get("tokenize_chinese_chars"), True),
    )
    rust.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    rust.decoder = decoders.BPEDecoder(suffix=_WORD_END)
    template = _frame(ids, special, options, settings)
    if template is not None:
        rust.post_processor = template
    return rust


def _frame(
    ids: Mapping[str, int], special: Mapping[str, str], options: Options, settings: Values
) -> processors.TemplateProcessing | None:
    if {"cls_token", "sep_token"} & options.special_tokens.keys():
        return frame(special, ids)
    bos, eos = special.get("bos_token"), special.get("eos_token")
    if "Roberta" in str(settings.get("tokenizer_class")) and bos and eos:
        return roberta(bos, eos, ids)
    start = bos if settings.get("add_bos_token") else None
    end = eos if settings.get("add_eos_token") else None
    return around(start, end, ids, repeat=True)


def _special_tokens(ids: Mapping[str, int], options: Options, settings: Values, where: str) -> dict[str, str]:
    family = _ROBERTA if "<s>" in ids or _END_OF_TEXT not in ids else _GPT2
    named: dict[str, str | None] = {name: token for name, token in family.items() if token in ids}
    stored = settings.get("special_tokens", {})
    named.update({name: token for name, token in stored.items() if token is None or token in ids})
    chosen = check_names(options.special_tokens)
    for name, token in chosen.items():
        if token is not None and token not in ids:
            raise TokenizerError(
                f"{where}: special token {name}={token!r} is not in the vocabulary; choose one that is"
            )
    return {name: token for name, token in {**named, **chosen}.items() if token is not None}


def _read_ids(path: Path) -> dict[str, int]:
    """A vocabulary as JSON object from token to id, or as text with one token a line."""
    if path.suffix != ".json":
        return {token: index for index, token in enumerate(read_vocabulary(path))}
    content = read_object(path, TokenizerError)
    if not content:
        raise TokenizerError(f"{path}: expected a JSON object from tokens to ids")
    for token, index in content.items():
        if type(index) is not int:
            raise TokenizerError(f"{path}: the id of {quoted(token)} is {quoted(index)}, expected an integer")
    by_id = {index: token for token, index in content.items()}
    # A gap or a double id: some row of the embedding would belong to no token, or to two.
    missing = next((index for index in range(len(content)) if index not in by_id), None)
    if missing is not None:
        raise TokenizerError(
            f"{path}: {len(content)} tokens, but none has the id {missing}; expected the ids 0..{len(content) - 1}"
        )
    return content


def _read_merges(path: Path) -> list[tuple[str, str]]:
    """One merge a line, two tokens with a space between; a first line "#version: ..." does not count."""
    try:
        content = path.read_bytes()
        check_not_pointer(content, path, TokenizerError)
        lines = content.decode("utf-8").replace("\r\n", "\n").split("\n")
    except OSError as problem:
        raise TokenizerError(f"{path}: cannot be read ({problem.strerror}); expected merges, one a line") from None
    except UnicodeDecodeError:
        raise TokenizerError(f"{path}: not UTF-8; expected merges, one a line") from None
    return [_merge(path, number, line) for number, line in enumerate(lines, 1) if not _is_remark(number, line)]


def _is_remark(number: int, line: str) -> bool:
    return not line.strip() or (number == 1 and line.startswith("#version"))


def _merge(path: Path, number: int, line: str) -> tuple[str, str]:
    parts: Sequence[str] = line.rstrip("\r").split(" ")
    if len(parts) != 2 or not all(parts):
        raise TokenizerError(f"{path}, line {number}: expected two tokens with a space between, found {line[:60]!r}")
    return parts[0], parts[1]
