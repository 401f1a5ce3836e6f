"""The tokenizer: text to token ids with exact offsets, and back."""

import dataclasses
import json
import os
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from tokenizers import AddedToken, models
from tokenizers import Tokenizer as RustTokenizer

from qingformer.errors import TokenizerError
from qingformer.json_files import quoted
from qingformer.tokenization.build import Parts, build, from_tokens, has_bert_normalizer
from qingformer.tokenization.character_spans import Reading
from qingformer.tokenization.decoding import join_tokens
from qingformer.tokenization.encoding import Encoding, Encodings
from qingformer.tokenization.inputs import check_truncation, explain
from qingformer.tokenization.published import PublishedForm
from qingformer.tokenization.sentencepiece import without_special
from qingformer.tokenization.special_tokens import NamedSpecialTokens
from qingformer.tokenization.tokenizer_options import Options
from qingformer.tokenization.tokenizer_saving import save
from qingformer.tokenization.tokenizer_sources import find_source
from qingformer.tokenization.vocabulary import check_keep, check_line, check_tokens, renumber, simplified_ids
from qingformer.tokenization.words import WordSplitter, with_words


class Tokenizer(NamedSpecialTokens):
    """Text to token ids and back: WordPiece, SentencePiece, byte pair encoding, or any `tokenizer.json`.

    BERT's WordPiece (Devlin et al. 2018, arXiv 1810.04805) gives id for id what Google's release gives, and with
    normalization="transformers", in the rare characters where the two differ, what `transformers` gives; SentencePiece
    (Kudo and Richardson 2018, arXiv 1808.06226: T5, ALBERT, CPM, XLNet, LLaMA) what the `sentencepiece` package gives,
    but for ties that there the rounding of single precision decides; GPT-2 and GPT what `transformers` gives.

    What stands around a text is the family's: [CLS] a [SEP] and [CLS] a [SEP] b [SEP] (BERT, ALBERT), a </s> (T5),
    <s> a (LLaMA), nothing (GPT-2, CPM). Special tokens written literally in a text ("今天[MASK]") are taken as such, as
    in `transformers`; with `split_special_tokens=True` they are ordinary characters, as in the original releases.

    Special tokens have names: `tokenizer.mask_token`, `tokenizer.mask_token_id`, and so on for every name in
    `tokenizer.special_tokens`. A tokenizer never changes: vocabulary surgery returns a new one. Threads may share it.

    Made with `from_pretrained` or `from_vocabulary`.
    """

    def __init__(self, parts: Parts) -> None:
        self.special_tokens: dict[str, str] = dict(parts.special_tokens)
        self._pre_tokenize = parts.pre_tokenize
        self._normalization = parts.normalization
        self._plain = parts.rust
        self._rust = parts.rust
        if parts.split_special_tokens and isinstance(parts.rust.model, models.Unigram):
            self._rust = without_special(parts.rust)
        if parts.pre_tokenize is not None:
            self._rust = with_words(self._rust, parts.pre_tokenize)
        self._rust.encode_special_tokens = parts.split_special_tokens
        self._lock = threading.Lock()
        self._truncation: tuple[int | None, str, str, bool] | None = None
        self._vocabulary = _ordered(parts.rust)
        self._published = _published(parts, self._vocabulary)
        self._reading = _reading(parts.rust, self._vocabulary)

    # ---- making one

    @classmethod
    def from_pretrained(
        cls,
        source: str | os.PathLike[str],
        *,
        lowercase: bool | None = None,
        strip_accents: bool | None = None,
        tokenize_chinese_chars: bool | None = None,
        max_word_length: int | None = None,
        special_tokens: Mapping[str, str | None] | None = None,
        pre_tokenize: str | WordSplitter | None = None,
        split_special_tokens: bool | None = None,
        normalization: str | None = None,
    ) -> Self:
        """The tokenizer of a directory, of one of its files, checkpoint prefix, or "hf://organisation/name".

        A file is `tokenizer.json`, `vocab.txt`, a SentencePiece model (`spiece.model`, `*.model`), or `vocab.json` with
        `merges.txt` beside it. In a directory `tokenizer.json` wins; of the others there may be one kind, or the error
        names them. `tokenizer_config.json` and `special_tokens_map.json` are obeyed there; options overrule them.

        Args:
            lowercase: lower-case and strip accents; by default what the files say, or else whether the vocabulary has
                no capitals (under 5% of the tokens of a WordPiece vocabulary, none in a SentencePiece model).
            strip_accents: None follows `lowercase`.
            tokenize_chinese_chars: ideographs are words of their own (default).
            max_word_length: longer words are unknown; 100 as in `transformers` (Google's release had 200).
            special_tokens: names to tokens over BERT's own, {"cls_token": None} to have none.
            pre_tokenize: a function from text to words, or "jieba": words of the vocabulary become one token (WoBERT,
                T5-PEGASUS; by default where the folder names RoFormerTokenizer and a vocabulary with words). For
                SentencePiece every word begins with the mark of a space (CPM, where jieba guesses new words by its
                hidden Markov model; spaces and line breaks become the tokens "▂" and "▃").
            split_special_tokens: special tokens written in a text are ordinary characters.
            normalization: for WordPiece, "google" as in the published `tokenization.py` (a capital sigma at the end of
                a word becomes "ς", characters of private use are kept and unknown, Unicode 14; the default), or
                "transformers" as in its fast tokenizer.

        Raises TokenizerError in one line for files that are missing, damaged or do not fit.

        Example: `Tokenizer.from_pretrained("chinese_L-12_H-768_A-12")`
        """
        options = Options(
            lowercase,
            strip_accents,
            tokenize_chinese_chars,
            max_word_length,
            special_tokens or {},
            pre_tokenize,
            split_special_tokens,
            normalization,
        )
        return cls(build(find_source(source), options))

    @classmethod
    def from_vocabulary(
        cls,
        tokens: Sequence[str],
        lowercase: bool = True,
        *,
        strip_accents: bool | None = None,
        tokenize_chinese_chars: bool = True,
        max_word_length: int = 100,
        special_tokens: Mapping[str, str | None] | None = None,
        pre_tokenize: str | WordSplitter | None = None,
        split_special_tokens: bool = False,
        normalization: str = "google",
    ) -> Self:
        """The WordPiece tokenizer over a list of tokens, whose places are the ids; options as in `from_pretrained`.

        Example:
            >>> tokenizer = Tokenizer.from_vocabulary(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "un", "##able"])
            >>> tokenizer.encode("Unable").token_ids
            [2, 4, 5, 3]
        """
        tokens = list(tokens)
        check_tokens(tokens, "token ")
        for index, token in enumerate(tokens):
            check_line(token, f"token {index}")
        options = Options(lowercase, strip_accents, tokenize_chinese_chars, max_word_length, special_tokens or {})
        options = dataclasses.replace(options, normalization=normalization)
        rust, named = from_tokens(tokens, options, "from_vocabulary")
        return cls(Parts(rust, named, pre_tokenize, split_special_tokens, normalization))

    def save_pretrained(self, directory: str | os.PathLike[str]) -> None:
        """Write `tokenizer.json`, `tokenizer_config.json` and a WordPiece `vocab.txt`; `transformers` reads them."""
        save(
            Path(directory),
            self._plain,
            self._vocabulary,
            self.special_tokens,
            self._pre_tokenize,
            self._rust.encode_special_tokens,
            self._normalization,
        )

    # ---- encoding and decoding

    def encode(
        self,
        text: str,
        pair: str | None = None,
        *,
        max_length: int | None = None,
        truncation: str = "longest_first",
        truncation_side: str = "right",
        add_special_tokens: bool = True,
    ) -> Encoding:
        """Encode one text or pair, cut to `max_length` tokens with the special ones.

        Args:
            truncation: "longest_first" takes tokens one by one from the longer text (of two equally long ones, from
                that which was the shorter at first), "only_first", "only_second".
            truncation_side: cut the end ("right") or the beginning ("left") of a text.

        Raises TokenizerError for what is not text, and for lengths that cannot be reached.
        """
        with self._lock:
            self._set_truncation(max_length, truncation, truncation_side, pair is not None, add_special_tokens)
            try:
                encoded = self._rust.encode(*self._forms(text, pair), add_special_tokens=add_special_tokens)
            except Exception as problem:
                raise explain(problem, [text], None if pair is None else [pair]) from None
        return Encoding(encoded, self._reading, (text, pair))

    def encode_batch(
        self,
        texts: Sequence[str],
        pairs: Sequence[str] | None = None,
        *,
        max_length: int | None = None,
        truncation: str = "longest_first",
        truncation_side: str = "right",
        add_special_tokens: bool = True,
    ) -> Encodings:
        """Encode many texts or pairs, on all cores; arguments as in `encode`, one Encoding a text."""
        if isinstance(texts, str) or isinstance(pairs, str):
            raise TokenizerError("encode_batch: expected a list of strings, not one string; use encode for that")
        texts = list(texts)
        rows: list[Any] = self._forms_of(texts)
        if pairs is not None:
            pairs = list(pairs)
            if len(pairs) != len(texts):
                raise TokenizerError(f"encode_batch: {len(texts)} texts but {len(pairs)} pairs; expected as many")
            rows = list(zip(rows, self._forms_of(pairs)))
        with self._lock:
            self._set_truncation(max_length, truncation, truncation_side, pairs is not None, add_special_tokens)
            try:
                encoded = self._rust.encode_batch(rows, add_special_tokens=add_special_tokens)
            except Exception as problem:
                raise explain(problem, texts, pairs) from None
        return Encodings(encoded, self._reading, texts, pairs)

    def _forms(self, text: str, pair: str | None) -> tuple[str, str | None]:
        if self._published is None or not isinstance(text, str) or not isinstance(pair, (str, type(None))):
            return text, pair  # what is no text the library refuses
        return self._published(text), None if pair is None else self._published(pair)

    def _forms_of(self, texts: list[str]) -> list[str]:
        if self._published is None:
            return texts
        try:
            return self._published.batch(texts)
        except TypeError:  # what is no text the library refuses
            return texts

    def _set_truncation(self, max_length: int | None, truncation: str, side: str, paired: bool, special: bool) -> None:
        wanted = (max_length, truncation, side, paired and special)
        if wanted == self._truncation:
            return
        check_truncation(max_length, truncation, side, self._rust.num_special_tokens_to_add(paired) if special else 0)
        if max_length is None:
            self._rust.no_truncation()
        else:
            self._rust.enable_truncation(max_length, strategy=truncation, direction=side)
        self._truncation = wanted

    def decode(self, token_ids: Iterable[int], skip_special_tokens: bool = True) -> str:
        """The text of token ids, with spaces between words and none between ideographs.

        What the vocabulary has lost (case, accents, the spaces of the original, unknown words) does not come back. To
        show a part of a known text, slice it by `Encoding.offsets`. Raises TokenizerError for an unknown id.
        """
        ids = [int(index) for index in token_ids]
        tokens = [self.id_to_token(index) for index in ids]
        if not isinstance(self._plain.model, models.WordPiece):
            return self._plain.decode(ids, skip_special_tokens=skip_special_tokens)
        special = self._all_special() if skip_special_tokens else set()
        return join_tokens(token for token in tokens if token not in special)

    # ---- the vocabulary

    @property
    def vocabulary(self) -> list[str]:
        """The tokens by id."""
        return list(self._vocabulary)

    @property
    def vocab_size(self) -> int:
        """The number of token ids, added tokens included: the rows of an embedding table."""
        return len(self._vocabulary)

    def token_to_id(self, token: str) -> int:
        """The id of a token of the vocabulary; TokenizerError if there is none."""
        index = self._plain.token_to_id(token)
        if index is None:
            raise TokenizerError(f"the token {token!r} is not in the vocabulary of {self.vocab_size} tokens")
        return index

    def id_to_token(self, index: int) -> str:
        """The token with that id; TokenizerError if there is none."""
        if not 0 <= index < len(self._vocabulary):
            raise TokenizerError(f"token id {index} is not in 0..{len(self._vocabulary) - 1}")
        return self._vocabulary[index]

    def __contains__(self, token: str) -> bool:
        return self._plain.token_to_id(token) is not None

    def _all_special(self) -> set[str]:
        added = self._plain.get_added_tokens_decoder().values()
        return {entry.content for entry in added if entry.special} | set(self.special_tokens.values())

    # ---- vocabulary surgery

    def keep_tokens(self, ids: Iterable[int]) -> tuple[Self, list[int]]:
        """A tokenizer with only these tokens, and the list of old ids: row `ids[new]` of an embedding belongs to `new`.

        For WordPiece and Unigram (SentencePiece): pieces keep their scores, so a text whose pieces are all kept is cut
        as before. Where somebody else has reduced the model, as bert4keras' mT5 for Chinese, the list that comes with
        it has the same meaning: piece i of the reduced model is row `kept[i]` of the original embedding. That list is
        two longer than the model: two rows behind mT5's 250,100 pieces, which `add_tokens` can give a meaning.

        Raises TokenizerError for ids that are out of range or repeated, or if a token that encoding needs is left out.
        """
        named = self.special_tokens
        needed = [named[name] for name in ("unk_token", "cls_token", "sep_token") if name in named]
        kept = check_keep(ids, self._vocabulary, needed)
        state = renumber(json.loads(self._plain.to_str()), self._vocabulary, kept)
        tokens = {self._vocabulary[index] for index in kept}
        special = {name: token for name, token in named.items() if token in tokens}
        return self._like(RustTokenizer.from_str(json.dumps(state)), special), kept

    def simplified(self, first_tokens: Sequence[str] | None = None) -> tuple[Self, list[int]]:
        """Leave out the tokens that no text can produce, as bert4keras' `load_vocab(simplified=True)`.

        `first_tokens` (by default the special tokens) come first in that order, then all tokens that are a single
        character or hold neither ideograph nor punctuation, in the old order. Returns what `keep_tokens` returns. A
        word-level vocabulary (WoBERT) loses its Chinese words.
        """
        if not isinstance(self._plain.model, models.WordPiece):
            raise TokenizerError("simplified: needs a WordPiece vocabulary; choose pieces with keep_tokens")
        first = list(dict.fromkeys(self.special_tokens.values())) if first_tokens is None else list(first_tokens)
        return self.keep_tokens(simplified_ids(self._vocabulary, first))

    def add_tokens(self, tokens: Sequence[str], special: bool = False) -> Self:
        """A tokenizer with more tokens, with ids after the last; they are found literally in the text.

        With `special`, tokens may stand in the vocabulary already ("[unused1]"): they keep their ids, and are found
        whole from then on. Raises TokenizerError if a token is empty, comes twice, is in the vocabulary without being
        made special, or holds a line break, which the `vocab.txt` of a WordPiece vocabulary cannot.
        """
        if isinstance(tokens, str):
            raise TokenizerError(f"add_tokens: expected a list of tokens, not the string {quoted(tokens)}")
        check_tokens(tokens, "add_tokens: token ")
        for token in tokens:
            if not token:
                raise TokenizerError("add_tokens: '' is empty")
            if token in self and not special:
                raise TokenizerError(
                    f"add_tokens: {quoted(token)} is already in the vocabulary; special=True finds it whole"
                )
            if isinstance(self._plain.model, models.WordPiece):
                check_line(token, "add_tokens")
        rust = RustTokenizer.from_str(self._plain.to_str())
        entries = [AddedToken(token, normalized=False, special=special) for token in tokens]
        if special:
            rust.add_special_tokens(entries)
        else:
            rust.add_tokens(entries)
        return self._like(rust, self.special_tokens)

    def _like(self, rust: RustTokenizer, special_tokens: Mapping[str, str]) -> Self:
        rest = (self._pre_tokenize, self._rust.encode_special_tokens, self._normalization)
        return type(self)(Parts(rust, dict(special_tokens), *rest))

    def __reduce__(self) -> tuple[Any, ...]:
        rest = (self._pre_tokenize, self._rust.encode_special_tokens, self._normalization)
        return _restore, (type(self), self._plain.to_str(), self.special_tokens, *rest)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({type(self._plain.model).__name__}, vocab_size={self.vocab_size})"


def _restore(kind: type[Tokenizer], state: str, special_tokens: dict[str, str], *rest: Any) -> Tokenizer:
    rust = RustTokenizer.from_str(state)
    rust.no_truncation()
    return kind(Parts(rust, special_tokens, *rest))


def _published(parts: Parts, vocabulary: Sequence[str]) -> PublishedForm | None:
    if parts.normalization != "google" or not has_bert_normalizer(parts.rust):
        return None
    normalizer = parts.rust.normalizer
    strip = normalizer.lowercase if normalizer.strip_accents is None else normalizer.strip_accents
    return PublishedForm(vocabulary, normalizer.lowercase, strip)


def _reading(rust: RustTokenizer, vocabulary: Sequence[str]) -> Reading | None:
    """None where nothing is to correct in what the library says: BERT's algorithm, all added tokens found literally."""
    added = rust.get_added_tokens_decoder()
    greedy = frozenset(index for index, entry in added.items() if entry.lstrip or entry.rstrip)
    exact = isinstance(rust.model, models.WordPiece)
    if exact and not greedy and not any(entry.normalized for entry in added.values()):
        return None
    return Reading(vocabulary, greedy, exact)


def _ordered(rust: RustTokenizer) -> list[str]:
    by_id = {index: token for token, index in rust.get_vocab(with_added_tokens=True).items()}
    missing = next((index for index in range(len(by_id)) if index not in by_id), None)
    if missing is not None:
        raise TokenizerError(f"the vocabulary has {len(by_id)} tokens but none with id {missing}")
    return [by_id[index] for index in range(len(by_id))]
