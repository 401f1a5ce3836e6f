"""Google's BERT algorithm, put together from the parts of the Rust library."""

from collections.abc import Iterable, Mapping, Sequence

from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, processors
from tokenizers import Tokenizer as RustTokenizer


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


def frame(special_tokens: Mapping[str, str], ids: Mapping[str, int]) -> processors.TemplateProcessing:
    """[CLS] a [SEP] (segment 0) and b [SEP] (segment 1); a token that is not among the special ones is left out."""
    start, end = special_tokens.get("cls_token"), special_tokens.get("sep_token")
    single = [f"{start}:0"] * (start is not None) + ["$A:0"] + [f"{end}:0"] * (end is not None)
    second = ["$B:1"] + [f"{end}:1"] * (end is not None)
    used = {token: ids[token] for token in (start, end) if token is not None}
    return processors.TemplateProcessing(single=single, pair=single + second, special_tokens=list(used.items()))
