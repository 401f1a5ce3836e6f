"""Word-level splitting before WordPiece (WoBERT: a word of the vocabulary is one token) or SentencePiece (CPM)."""

from collections.abc import Callable, Container, Iterable, Iterator
from typing import Any

from tokenizers import NormalizedString, PreTokenizedString, normalizers, pre_tokenizers
from tokenizers import Tokenizer as RustTokenizer

from qingformer.errors import TokenizerError
from qingformer.tokenization.characters import SPACE

WordSplitter = Callable[[str], Iterable[str]]

_SPACED_IDEOGRAPHS = normalizers.BertNormalizer(
    clean_text=False, handle_chinese_chars=True, strip_accents=False, lowercase=False
)
_BASIC_SPLIT = pre_tokenizers.BertPreTokenizer()


def word_splitter(choice: str | WordSplitter, hidden_markov: bool = False) -> WordSplitter:
    """The function that cuts a text into words, or the one of that name: "jieba", with its hidden Markov model or not.

    Raises TokenizerError for an unknown name or if the optional package is not installed.
    """
    if callable(choice):
        return choice
    if choice != "jieba":
        raise TokenizerError(f"pre_tokenize: expected a function from text to words, or 'jieba', not {choice!r}")
    try:
        import jieba
    except ImportError:
        raise TokenizerError("pre_tokenize='jieba' needs the package jieba: pip install 'qingformer[jieba]'") from None
    dictionary = jieba.Tokenizer()
    dictionary.cache_file = None
    jieba.setLogLevel("ERROR")
    return lambda text: dictionary.cut(text, HMM=hidden_markov)


class WordPreTokenizer:
    """Cuts the normalised text at words; a word outside the vocabulary is cut further as BERT does.

    The pieces are slices of one normalised string, which carries its alignment with the original: offsets stay exact.
    """

    def __init__(self, split: WordSplitter, vocabulary: Container[str], isolate_ideographs: bool) -> None:
        self.split = split
        self.vocabulary = vocabulary
        self.isolate_ideographs = isolate_ideographs

    def pre_tokenize(self, text: PreTokenizedString) -> None:
        """Split in place (the protocol of the Rust library)."""
        text.split(self._pieces)

    def _pieces(self, _: int, text: NormalizedString) -> list[NormalizedString]:
        pieces: list[NormalizedString] = []
        for start, end in word_spans(text.normalized, self.split):
            word = _slice(text, start, end)
            if word.normalized in self.vocabulary and not word.normalized.isspace():
                pieces.append(word)
            else:
                pieces.extend(self._basic_pieces(word))
        return pieces

    def _basic_pieces(self, word: NormalizedString) -> Iterator[NormalizedString]:
        if self.isolate_ideographs:
            _SPACED_IDEOGRAPHS.normalize(word)
        for _, (start, end) in _BASIC_SPLIT.pre_tokenize_str(word.normalized):
            yield _slice(word, start, end)


def _slice(text: NormalizedString, start: int, end: int) -> NormalizedString:
    piece = text[start:end]
    assert piece is not None  # the spans come from this very text
    return piece


def word_spans(text: str, split: WordSplitter) -> Iterator[tuple[int, int]]:
    """The spans of the words in the text; the words must make up the text, except that spaces may be left out."""
    position = 0
    for word in split(text):
        start = text.find(word, position) if isinstance(word, str) else -1
        if start < 0 or text[position:start].strip():
            raise TokenizerError(
                f"pre_tokenize: the words must be the pieces of the text in order; {word!r} does not "
                f"follow at character {position} of {text[:60]!r}"
            )
        position = start + len(word)
        if word:
            yield start, position
    if text[position:].strip():
        raise TokenizerError(
            f"pre_tokenize: the words must make up the whole text; they end at character {position} of {text[:60]!r}"
        )


class SpacedWords:
    """Cuts the raw text at words, of which each is then normalised and begins with the mark of a space: CPM's way.

    Spaces and line breaks of the text become signs of their own, if the vocabulary has these (Zhang et al. 2020, arXiv
    2012.00413): U+2582 and U+2583.
    """

    signs = ((" ", "\u2582"), ("\n", "\u2583"))

    def __init__(self, split: WordSplitter, vocabulary: Container[str], normalizer: Any) -> None:
        self.split = split
        self.normalizer = normalizer
        self.replaced = [pair for pair in self.signs if pair[1] in vocabulary]

    def pre_tokenize(self, text: PreTokenizedString) -> None:
        """Split in place (the protocol of the Rust library)."""
        text.split(self._pieces)

    def _pieces(self, _: int, text: NormalizedString) -> list[NormalizedString]:
        pieces = []
        for start, end in word_spans(text.normalized, self.split):
            word = _slice(text, start, end)
            for sign, written in self.replaced:
                word.replace(sign, written)
            self.normalizer.normalize(word)
            if not word.normalized:
                continue
            word.replace(" ", SPACE)
            if not word.normalized.startswith(SPACE):
                word.prepend(SPACE)
            pieces.append(word)
        return pieces


def with_words(rust: RustTokenizer, choice: str | WordSplitter) -> RustTokenizer:
    """A copy of a WordPiece or SentencePiece tokenizer that cuts at words first; `choice` as in `word_splitter`."""
    copy = RustTokenizer.from_str(rust.to_str())
    vocabulary = copy.get_vocab(with_added_tokens=False)
    if isinstance(rust.pre_tokenizer, pre_tokenizers.Metaspace) and rust.normalizer is not None:
        words = SpacedWords(word_splitter(choice, hidden_markov=True), vocabulary, copy.normalizer)
        copy.normalizer = None
        copy.pre_tokenizer = pre_tokenizers.PreTokenizer.custom(words)
        return copy
    if not isinstance(rust.normalizer, normalizers.BertNormalizer):
        raise TokenizerError(
            "pre_tokenize needs WordPiece with BERT's normaliser, or SentencePiece; this one has others"
        )
    split = word_splitter(choice)
    isolate = copy.normalizer.handle_chinese_chars
    # The spaces around ideographs would cut the words before they are seen.
    copy.normalizer.handle_chinese_chars = False
    copy.pre_tokenizer = pre_tokenizers.PreTokenizer.custom(WordPreTokenizer(split, vocabulary, isolate))
    return copy
