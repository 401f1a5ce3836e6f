"""A SentencePiece model as a Rust tokenizer: the same ids, with the offsets that SentencePiece does not keep."""

import json
from collections.abc import Mapping
from typing import Any

from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers
from tokenizers import Tokenizer as RustTokenizer

from qingformer.errors import TokenizerError
from qingformer.tokenization.characters import SPACE
from qingformer.tokenization.charsmap import removed_controls
from qingformer.tokenization.sentencepiece_model import (
    BPE,
    CONTROL,
    NORMAL,
    UNIGRAM,
    UNKNOWN,
    USER_DEFINED,
    SentencePieceModel,
)
from qingformer.tokenization.special_token_templates import around, frame, xlnet
from qingformer.tokenization.special_tokens import check_names
from qingformer.tokenization.tokenizer_options import Options, first
from qingformer.tokenization.tokenizer_sources import one_line
from qingformer.types import Values

_NAMES = {
    "pad_token": ("[PAD]", "<pad>"),
    "cls_token": ("[CLS]", "<cls>"),
    "sep_token": ("[SEP]", "<sep>"),
    "mask_token": ("[MASK]", "<mask>"),
}
_COMPOSING = ("nfkc", "nmt_nfkc", "nfkc_cf", "nmt_nfkc_cf")


def from_sentencepiece(
    model: SentencePieceModel, options: Options, settings: Values, where: str
) -> tuple[RustTokenizer, dict[str, str]]:
    """The Rust tokenizer of a SentencePiece model, and its special tokens by name.

    Unigram: the pieces of greatest total score (Kudo 2018, arXiv 1804.10959); BPE: neighbours are merged, best score
    first (Sennrich et al. 2015, arXiv 1508.07909). Around a text stand, by what the vocabulary has: [CLS] a [SEP]
    (ALBERT), a </s> where there is an end but no start (T5), <s> a for BPE (LLaMA), nothing else (CPM); settings
    (`add_bos_token`, `add_eos_token`, the class XLNetTokenizer) and special tokens that are chosen overrule that.
    """
    options.refuse(("tokenize_chinese_chars", "max_word_length", "normalization"), where, "a SentencePiece model")
    try:
        rust = RustTokenizer(_unigram(model) if model.algorithm == UNIGRAM else _bpe(model))
        _set_spaces(rust, model, _cleaning(model, options, settings))
    except Exception as problem:  # the library raises plain Exception
        raise TokenizerError(f"{where}: a damaged SentencePiece model: {one_line(problem)}") from None
    steps = [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    rust.decoder = decoders.Sequence([*steps, *[decoders.Strip(" ", 1, 0)] * model.add_dummy_prefix])
    special = _special_tokens(model, options, settings, where)
    control = [piece.text for piece in model.pieces if piece.kind in (CONTROL, UNKNOWN)]
    rust.add_special_tokens(
        [AddedToken(token, normalized=False, special=True) for token in (*control, *special.values())]
    )
    _set_frame(rust, model, special, options, settings)
    return rust, special


def _unigram(model: SentencePieceModel) -> models.Unigram:
    normal = [piece.score for piece in model.pieces if piece.kind == NORMAL] or [0.0]
    # So low that no text is cut into control symbols, but finite, as the library adds scores up.
    best, unreachable = max(normal), 100 * min(*normal, -1.0)

    def score(text: str, value: float, kind: int) -> float:
        if kind == NORMAL:
            return value
        # SentencePiece's own figure, which makes a symbol of the user better than whatever it could be cut into.
        return len(text.encode()) * best - 0.1 if kind == USER_DEFINED else unreachable

    table = [(piece.text, score(*piece)) for piece in model.pieces]
    return models.Unigram(table, unk_id=model.unk_id, byte_fallback=model.byte_fallback)


def _bpe(model: SentencePieceModel) -> models.BPE:
    """SentencePiece has no list of merges: two neighbours may merge if the result is a piece, the best score first."""
    ids = {piece.text: index for index, piece in enumerate(model.pieces)}
    normal = sorted((piece for piece in model.pieces if piece.kind == NORMAL), key=lambda piece: -piece.score)
    known = {piece.text for piece in normal}
    merges = [
        (text[:cut], text[cut:])
        for text, _, _ in normal
        for cut in range(1, len(text))
        if text[:cut] in known and text[cut:] in known
    ]
    unknown = model.pieces[model.unk_id].text
    return models.BPE(ids, merges, unk_token=unknown, fuse_unk=True, byte_fallback=model.byte_fallback)


def _cleaning(model: SentencePieceModel, options: Options, settings: Values) -> list[Any]:
    """What Google's ALBERT does to a text before SentencePiece sees it, where the vocabulary has no capitals."""
    pieces = [piece.text for piece in model.pieces if piece.kind == NORMAL]
    uncased = any(text != text.upper() for text in pieces) and all(text == text.lower() for text in pieces)
    lowercase = first(options.lowercase, settings.get("do_lower_case"), uncased)
    keep_accents = settings.get("keep_accents")
    stripped = None if keep_accents is None else not keep_accents
    steps: list[Any] = []
    if first(options.strip_accents, stripped, lowercase):
        steps += [normalizers.Replace(Regex("``|''"), '"'), normalizers.NFKD(), normalizers.StripAccents()]
    return [*steps, normalizers.Lowercase()] if lowercase else steps


def _set_spaces(rust: RustTokenizer, model: SentencePieceModel, steps: list[Any]) -> None:
    """Normaliser and pre-tokeniser: compatibility forms, superfluous spaces, the mark of a space before words."""
    if model.charsmap:
        # The Rust form of the table sees one character with its marks at a time; NFC joins what it must find joined.
        compose = [normalizers.NFC()] * (model.normalization in _COMPOSING)
        steps = [*steps, *compose, *_leading_controls(model), normalizers.Precompiled(model.charsmap), *compose]
    if not model.remove_extra_whitespaces:
        prefix = [normalizers.Prepend(SPACE)] * model.add_dummy_prefix
        rust.normalizer = normalizers.Sequence([*steps, *prefix, normalizers.Replace(" ", SPACE)])
        return
    squeeze = [normalizers.Replace(Regex(" +$"), ""), normalizers.Replace(Regex(" {2,}"), " ")]
    if not model.add_dummy_prefix:
        squeeze.append(normalizers.Replace(Regex("^ "), ""))
    rust.normalizer = normalizers.Sequence([*steps, *squeeze])
    # A text that goes on after a special token is not given a space that it does not have.
    prepend = "first" if model.add_dummy_prefix else "never"
    whole_words = not any(SPACE in piece.text[1:] for piece in model.pieces)
    rust.pre_tokenizer = pre_tokenizers.Metaspace(SPACE, prepend_scheme=prepend, split=whole_words)


def _leading_controls(model: SentencePieceModel) -> list[Any]:
    """Take out beforehand what a text begins with and the table takes out: the library's offsets would be shifted."""
    controls = removed_controls(model.charsmap)
    if not controls:
        return []
    # A space there is squeezed with others into the mark that a text begins with anyway.
    space = " " if model.remove_extra_whitespaces else ""
    return [normalizers.Replace(Regex("^[" + "".join(f"\\x{{{ord(char):x}}}" for char in controls) + "]+"), space)]


def _special_tokens(model: SentencePieceModel, options: Options, settings: Values, where: str) -> dict[str, str]:
    reserved = {piece.text for piece in model.pieces if piece.kind in (CONTROL, USER_DEFINED)}
    named: dict[str, str | None] = {"unk_token": model.pieces[model.unk_id].text}
    for name, choices in _NAMES.items():
        named[name] = next((token for token in choices if token in reserved), None)
    named["pad_token"] = model.piece_at(model.pad_id) or named["pad_token"]
    for name, index in (("bos_token", model.bos_id), ("eos_token", model.eos_id)):
        token = model.piece_at(index)
        named[name] = None if token in (named["cls_token"], named["sep_token"]) else token
    tokens = {piece.text for piece in model.pieces}
    stored = settings.get("special_tokens", {})
    named.update({name: token for name, token in stored.items() if token is None or token in tokens})
    chosen = check_names(options.special_tokens)
    if "unk_token" in chosen and chosen["unk_token"] != model.pieces[model.unk_id].text:
        raise TokenizerError(f"{where}: unk_token is {model.pieces[model.unk_id].text!r} in the model, leave it out")
    for name, token in chosen.items():
        if token is not None and token not in tokens:
            raise TokenizerError(f"{where}: special token {name}={token!r} is not a piece of the model; choose one")
    return {name: token for name, token in {**named, **chosen}.items() if token is not None}


def _set_frame(
    rust: RustTokenizer,
    model: SentencePieceModel,
    special: Mapping[str, str],
    options: Options,
    settings: Values,
) -> None:
    ids = {piece.text: index for index, piece in enumerate(model.pieces)}
    cls, sep = special.get("cls_token"), special.get("sep_token")
    bos, eos = special.get("bos_token"), special.get("eos_token")
    chosen = {"cls_token", "sep_token"} & options.special_tokens.keys()
    if "XLNet" in str(settings.get("tokenizer_class")) and cls and sep and not chosen:
        rust.post_processor = xlnet(cls, sep, ids)
    elif chosen or "[CLS]" in (cls, sep) or "[SEP]" in (cls, sep):
        rust.post_processor = frame(special, ids)
    else:
        start = first(settings.get("add_bos_token"), model.algorithm == BPE)
        end = first(settings.get("add_eos_token"), model.bos_id < 0)
        rust.post_processor = around(bos if start else None, eos if end else None, ids, repeat=True)


def without_special(rust: RustTokenizer) -> RustTokenizer:
    """A copy to which special tokens in a text are ordinary characters: their pieces get names that no text has."""
    state = json.loads(rust.to_str())
    special = {entry["content"] for entry in state["added_tokens"] if entry["special"]}
    own = {text for text, _ in state["model"]["vocab"]}
    state["added_tokens"] = [entry for entry in state["added_tokens"] if entry["content"] not in special & own]
    table = [[f" {text}" if text in special else text, score] for text, score in state["model"]["vocab"]]
    return RustTokenizer.from_str(json.dumps({**state, "model": {**state["model"], "vocab": table}}))
