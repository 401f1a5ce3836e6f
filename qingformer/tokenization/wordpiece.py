"""Google's BERT algorithm, put together from the parts of the Rust library."""

from collections.abc import Iterable, Mapping, Sequence

from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers
from tokenizers import Tokenizer as RustTokenizer

from qingformer.tokenization.special_token_templates import frame


def build_wordpiece(
    vocabulary: Sequence[str],
    special_tokens: Mapping[str, str],
    *,
    lowercase: bool,
    strip_accents: bool | None,
    tokenize_chinese_chars: bool,
    max_word_length: int,
) -> RustTokenizer:
    """The Rust tokenizer of BERT: clean, lower-case, split at spaces, ideographs and punctuation, longest match first.

    Devlin et al. 2018, arXiv 1810.04805; longest match first as in Wu et al. 2016, arXiv 1609.08144.
    """
    ids = {token: index for index, token in enumerate(vocabulary)}
    unknown = special_tokens["unk_token"]
    rust = RustTokenizer(models.WordPiece(ids, unk_token=unknown, max_input_chars_per_word=max_word_length))
    rust.normalizer = normalizers.BertNormalizer(
        clean_text=True, handle_chinese_chars=tokenize_chinese_chars, strip_accents=strip_accents, lowercase=lowercase
    )
    rust.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    rust.decoder = decoders.WordPiece(prefix="##")
    rust.post_processor = frame(special_tokens, ids)
    add_special(rust, special_tokens.values())
    return rust


def add_special(rust: RustTokenizer, tokens: Iterable[str]) -> None:
    """Let the tokens be found literally in the text before anything is normalised, as `transformers` does."""
    rust.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in tokens])
