"""Starting without a pretrained model: sizes of encoders, and a vocabulary counted from the training text."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer

from qingformer import backend
from qingformer.errors import ConfigError, TokenizerError
from qingformer.models import Backbone, BackboneConfig
from qingformer.tasks.seeded import SeededNormal
from qingformer.tokenization import Tokenizer
from qingformer.types import DtypeLike

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


@dataclass(frozen=True)
class Size:
    """The dimensions of an encoder and the learning rate at which it trains well from random weights."""

    num_hidden_layers: int
    hidden_size: int
    num_attention_heads: int
    intermediate_size: int
    learning_rate: float


# The shapes are those of the published small BERTs (Turc et al. 2019, arXiv 1908.08962) and of BERT-base.
SIZES: dict[str, Size] = {
    "tiny": Size(2, 128, 2, 512, 1e-3),
    "small": Size(4, 256, 4, 1024, 5e-4),
    "base": Size(12, 768, 12, 3072, 1e-4),
}


def size_named(name: str) -> Size:
    """The row of `SIZES` called `name`.

    Raises:
        ConfigError: there is none of that name.
    """
    if name not in SIZES:
        raise ConfigError(f"size {name!r} is not known; choose one of {', '.join(SIZES)}")
    return SIZES[name]


# From the training text alone: held-out text must not decide what the model knows.
def count_vocabulary(
    texts: Iterable[str], *, lowercase: bool = True, max_size: int = 21128, min_count: int = 1, min_word_count: int = 5
) -> list[str]:
    """A WordPiece vocabulary from the text itself: every character, the `##` forms that words need, frequent words.

    Text is cut into words as BERT does (each Chinese character and punctuation mark is a word of its own); then come
    the special tokens, single characters by falling count, continuation characters (`##a`), and whole words of two
    characters or more seen at least `min_word_count` times. Ties are in code point order, so the same text always
    gives the same list.

    Args:
        texts: the training text.
        lowercase: lower the case and strip accents first, as in uncased models.
        max_size: the list is cut here; the rarest characters go last among characters, words are cut first.
        min_count: a character seen less often becomes `[UNK]`.
        min_word_count: a word seen less often is spelt by its characters.

    Raises:
        TokenizerError: the text holds no character at all.

    Example:
        >>> count_vocabulary(["好 ok", "好 ok"], min_word_count=2)[5:]
        ['k', 'o', '好', '##k', 'ok']
    """
    normalizer, splitter = BertNormalizer(lowercase=lowercase), BertPreTokenizer()
    words: Counter[str] = Counter()
    for text in texts:
        words.update(word for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text)))
    single, continued = Counter[str](), Counter[str]()
    for word, count in words.items():
        for place, character in enumerate(word):
            single[character] += count
            if place:
                continued["##" + character] += count
    if not single:
        raise TokenizerError("the training text holds no characters to build a vocabulary from; give vocab.txt instead")
    frequent = Counter({word: count for word, count in words.items() if len(word) > 1 and count >= min_word_count})
    tokens = list(SPECIAL_TOKENS)
    for group, least in ((single, min_count), (continued, min_count), (frequent, min_word_count)):
        tokens += [token for token in _by_count(group, least) if token not in SPECIAL_TOKENS]
    return tokens[:max_size]


def _by_count(counts: Counter[str], least: int) -> list[str]:
    kept = (item for item in counts.items() if item[1] >= least)
    return [token for token, _ in sorted(kept, key=lambda item: (-item[1], item[0]))]


LONGEST = 131_072  # positions of a new model, each of which has a vector


def new_backbone(size: str, tokenizer: Tokenizer, max_length: int, *, seed: int, dtype: DtypeLike = None) -> Backbone:
    """A BERT of a size of `SIZES` with random weights, for the vocabulary of `tokenizer`."""
    backend.check_device()
    shape = size_named(size)
    # A table of positions is made in full, so a mistyped length would ask for all memory.
    if max_length > LONGEST:
        raise ConfigError(
            f"max_length={max_length} is too much for a new model, which has a vector for each position; choose "
            f"{LONGEST} or less"
        )
    config = BackboneConfig(
        vocab_size=tokenizer.vocab_size,
        hidden_size=shape.hidden_size,
        num_hidden_layers=shape.num_hidden_layers,
        num_attention_heads=shape.num_attention_heads,
        intermediate_size=shape.intermediate_size,
        max_position_embeddings=max(512, max_length),
        pad_token_id=tokenizer.pad_token_id,
    )
    return Backbone(config, initializer=SeededNormal(config.initializer_range, seed), dtype=dtype)
