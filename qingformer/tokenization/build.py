"""From files and options to a Rust tokenizer with named special tokens."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tokenizers import Tokenizer as RustTokenizer
from tokenizers import models, normalizers

from qingformer.errors import TokenizerError
from qingformer.json_files import quoted
from qingformer.tokenization.added import add_named, named_tokens
from qingformer.tokenization.bpe import from_bpe
from qingformer.tokenization.characters import is_cjk
from qingformer.tokenization.published import NORMALIZATIONS
from qingformer.tokenization.sentencepiece import from_sentencepiece
from qingformer.tokenization.sentencepiece_model import read_sentencepiece
from qingformer.tokenization.special_token_templates import frame
from qingformer.tokenization.special_tokens import BERT_SPECIAL_TOKENS, check_names, resolve_special_tokens
from qingformer.tokenization.tokenizer_options import Options, first
from qingformer.tokenization.tokenizer_sources import Source, read_model
from qingformer.tokenization.vocabulary import check_line, read_vocabulary
from qingformer.tokenization.wordpiece import add_special, build_wordpiece
from qingformer.tokenization.words import WordSplitter
from qingformer.types import Values

CUSTOM_WORDS = "custom"  # what a saved tokenizer says of a word splitter that is a function of the user
# Uncased vocabularies hold a few capitals of special tokens; cased ones tens of percent.
_CASED_SHARE = 0.05


class Parts(NamedTuple):
    """What a Tokenizer is made of."""

    rust: RustTokenizer
    special_tokens: dict[str, str]
    pre_tokenize: str | WordSplitter | None
    split_special_tokens: bool
    normalization: str | None = None


def build(source: Source, options: Options) -> Parts:
    """Read the files of `source` and apply `options`; raises TokenizerError for whatever does not fit."""
    if source.model is not None:
        rust, special_tokens = _from_model(source, options)
    else:
        rust, special_tokens = _from_files(source, options)
    _add_named(rust, source, options)
    split = options.split_special_tokens
    if split is None:
        split = bool(source.settings.get("split_special_tokens", False))
    return Parts(rust, special_tokens, _words(rust, source, options), split, _normalization(rust, source, options))


def has_bert_normalizer(rust: RustTokenizer) -> bool:
    """Whether the tokenizer follows BERT's algorithm, of which Google's form and the library's differ a little."""
    return isinstance(rust.model, models.WordPiece) and isinstance(rust.normalizer, normalizers.BertNormalizer)


def _normalization(rust: RustTokenizer, source: Source, options: Options) -> str | None:
    """Google's published algorithm, unless the options or what we saved say the library's."""
    if not has_bert_normalizer(rust):
        if options.normalization is not None:
            raise TokenizerError(f"{source.where}: the option normalization needs WordPiece with BERT's normaliser")
        return None
    stored = source.settings.get("qingformer_normalization")
    if stored not in (None, *NORMALIZATIONS):
        raise TokenizerError(f"{source.beside}: qingformer_normalization is {quoted(stored)}, expected a name of ours")
    return str(first(options.normalization, stored, "google"))


def _add_named(rust: RustTokenizer, source: Source, options: Options) -> None:
    """The tokens that the folder names, but for the special ones that the options overrule."""
    if source.beside is None:
        return
    settings = {key: value for key, value in source.settings.items() if key not in options.special_tokens}
    named = named_tokens(settings, source.beside)
    if isinstance(rust.model, models.WordPiece):
        for entry in named:
            check_line(entry.token.content, entry.where)
    extra_ids = 0 if source.model is not None else source.settings.get("extra_ids") or 0
    add_named(rust, named, extra_ids, Path(source.where).name)


def _from_files(source: Source, options: Options) -> tuple[RustTokenizer, dict[str, str]]:
    if source.sentencepiece is not None:
        model = read_sentencepiece(source.sentencepiece)
        return from_sentencepiece(model, options, source.settings, source.where)
    assert source.vocabulary is not None
    if source.merges is not None:
        return from_bpe(source.vocabulary, source.merges, options, source.settings)
    return from_tokens(read_vocabulary(source.vocabulary), options, source.where, source.settings)


def from_tokens(
    vocabulary: Sequence[str], options: Options, where: str, settings: Values | None = None
) -> tuple[RustTokenizer, dict[str, str]]:
    """The Rust tokenizer of a WordPiece vocabulary, and its special tokens by name."""
    settings = settings or {}
    chosen = {**settings.get("special_tokens", {}), **check_names(options.special_tokens)}
    if chosen.get("mask_token") not in vocabulary and "mask_token" not in options.special_tokens:
        chosen.pop("mask_token", None)  # the files of GPT models name a [MASK] that their vocabulary does not have
    special_tokens = resolve_special_tokens(vocabulary, chosen, where)
    lowercase = first(options.lowercase, settings.get("do_lower_case"), not _looks_cased(vocabulary))
    rust = build_wordpiece(
        vocabulary,
        special_tokens,
        lowercase=lowercase,
        strip_accents=first(options.strip_accents, settings.get("strip_accents")),
        tokenize_chinese_chars=first(options.tokenize_chinese_chars, settings.get("tokenize_chinese_chars"), True),
        max_word_length=first(options.max_word_length, 100),
    )
    return rust, special_tokens


def _looks_cased(vocabulary: Sequence[str]) -> bool:
    """Whether lower-casing would make many tokens unreachable: over 5% have capitals (uncased BERTs 0%, cased 29%)."""
    capitals = sum(token != token.lower() for token in vocabulary if not token.startswith("["))
    return capitals > _CASED_SHARE * len(vocabulary)


def _from_model(source: Source, options: Options) -> tuple[RustTokenizer, dict[str, str]]:
    assert source.model is not None
    rust = read_model(source.model)
    if rust.get_vocab_size() == 0:
        raise TokenizerError(f"{source.model}: the vocabulary is empty")
    vocabulary = rust.get_vocab()
    _adjust_normalizer(rust, source, options)
    if options.max_word_length is not None:
        _wordpiece_model(rust, "max_word_length", source.where).max_input_chars_per_word = options.max_word_length
    defaults: dict[str, str | None] = {n: token for n, token in BERT_SPECIAL_TOKENS.items() if token in vocabulary}
    if isinstance(rust.model, models.WordPiece):
        defaults["unk_token"] = rust.model.unk_token
    settings = source.settings.get("special_tokens", {})
    stored = {name: token for name, token in settings.items() if token is None or token in vocabulary}
    chosen = check_names(options.special_tokens)
    for name, token in chosen.items():
        if token is not None and token not in vocabulary:
            raise TokenizerError(
                f"{source.where}: special token {name}={token!r} is not in the vocabulary; add it "
                f"to the vocabulary or choose one of its tokens"
            )
    named = {**defaults, **stored, **chosen}
    special_tokens = {name: token for name, token in named.items() if token is not None}
    add_special(rust, special_tokens.values())
    if "unk_token" in chosen:
        _wordpiece_model(rust, "unk_token", source.where).unk_token = special_tokens["unk_token"]
    if chosen.keys() & {"cls_token", "sep_token"}:
        rust.post_processor = frame(special_tokens, vocabulary)
    return rust, special_tokens


def _wordpiece_model(rust: RustTokenizer, option: str, where: str) -> models.WordPiece:
    if not isinstance(rust.model, models.WordPiece):
        kind = type(rust.model).__name__
        raise TokenizerError(f"{where}: the option {option} needs a WordPiece model, this is {kind}")
    return rust.model


def _adjust_normalizer(rust: RustTokenizer, source: Source, options: Options) -> None:
    """Let the settings beside the file, then the options, overrule BERT's normaliser in it."""
    names = {
        "lowercase": "do_lower_case",
        "strip_accents": "strip_accents",
        "tokenize_chinese_chars": "tokenize_chinese_chars",
    }
    attributes = {"tokenize_chinese_chars": "handle_chinese_chars"}
    bert = isinstance(rust.normalizer, normalizers.BertNormalizer)
    for option, setting in names.items():
        chosen = getattr(options, option)
        if chosen is not None and not bert:
            raise TokenizerError(
                f"{source.where}: the option {option} needs BERT's normaliser, this file has "
                f"{type(rust.normalizer).__name__}"
            )
        value = first(chosen, source.settings.get(setting))
        if value is not None and bert:
            setattr(rust.normalizer, attributes.get(option, option), value)


def _words(rust: RustTokenizer, source: Source, options: Options) -> str | WordSplitter | None:
    stored = source.settings.get("qingformer_pre_tokenize")
    if options.pre_tokenize is None and stored == CUSTOM_WORDS:
        raise TokenizerError(
            f"{source.where}: was saved with a word splitter of its own, which is code and not in the "
            f"files; pass it again as pre_tokenize="
        )
    if options.pre_tokenize is not None or stored is not None:
        return options.pre_tokenize if options.pre_tokenize is not None else stored
    return _words_of_class(rust, source)


def _words_of_class(rust: RustTokenizer, source: Source) -> str | None:
    """What a class of `transformers` that reads words first needs, where the vocabulary has words.

    Raises:
        TokenizerError: a splitter that is not here.
    """
    named = str(source.settings.get("tokenizer_class"))
    if named.startswith("BertJapanese"):
        raise TokenizerError(
            f"{source.beside}: tokenizer_class is {quoted(named)}, which cuts text into words before WordPiece; pass "
            "such a function from text to words as pre_tokenize= (MeCab's, in most of these models)"
        )
    if not named.startswith("RoFormer") or not isinstance(rust.model, models.WordPiece):
        return None
    # Words of two ideographs cannot come out of WordPiece on single ones: they were cut by jieba.
    words = any(len(token) > 1 and all(is_cjk(sign) for sign in token) for token in rust.get_vocab())
    return "jieba" if words else None
