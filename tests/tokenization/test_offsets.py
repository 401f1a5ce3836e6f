"""Offsets count characters of the original string, whatever normalisation did to it."""

import unicodedata

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from qingformer.tokenization import Tokenizer
from tests.tokenization.samples import ODD_TEXTS, mixed_texts, small_vocabulary

VOCABULARY = small_vocabulary()
OPTIONS = {
    "uncased": {"lowercase": True},
    "cased": {"lowercase": False},
    "cased, accents stripped": {"lowercase": False, "strip_accents": True},
    "uncased, accents kept": {"lowercase": True, "strip_accents": False},
    "words": {"lowercase": True, "pre_tokenize": lambda text: [text[:3], text[3:4], text[4:]]},
}
TOKENIZERS = {
    name: Tokenizer.from_vocabulary(VOCABULARY, split_special_tokens=True, **options)
    for name, options in OPTIONS.items()
}


def _normalized(piece, options):
    if options.get("strip_accents", options["lowercase"]) is not False:
        piece = "".join(char for char in unicodedata.normalize("NFD", piece) if unicodedata.category(char) != "Mn")
    if options["lowercase"]:
        piece = "".join(char.lower() for char in piece)
    return "".join(c for c in piece if not (unicodedata.category(c)[0] == "C" or c in "\ufffd" or c.isspace()))


def check_offsets(text, encoding, options):
    last = 0
    for token, (start, end) in zip(encoding.tokens, encoding.offsets):
        assert 0 <= start < end <= len(text)
        shared = start == last - 1 and len(_normalized(text[start:last], options)) > 1
        assert start >= last or shared, "tokens follow each other; only those made from one character (hangul) share it"
        piece = text[start:end]
        if token != "[UNK]":
            shown = token.removeprefix("##") if len(token) > 2 else token
            normalized = _normalized(piece, options)
            if len(normalized) > len(piece):  # one character became several: hangul
                assert shown in normalized
            else:
                assert normalized == shown.replace("ς", "σ" if "Σ" in piece else "ς")
        last = end


@pytest.mark.parametrize("kind", OPTIONS)
@pytest.mark.parametrize("text", ODD_TEXTS)
def test_offsets_of_odd_texts(text, kind):
    check_offsets(text, TOKENIZERS[kind].encode(text, add_special_tokens=False), OPTIONS[kind])


@settings(max_examples=300, deadline=None)
@given(mixed_texts, st.sampled_from(sorted(OPTIONS)))
@example("[[한¬", "words")  # the last part of a syllable and the sign behind it are one unknown word
def test_offsets_of_random_texts(text, kind):
    check_offsets(text, TOKENIZERS[kind].encode(text, add_special_tokens=False), OPTIONS[kind])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ＦＵＬＬ 宽", [("ｆ", 0, 1), ("##ｕ", 1, 2), ("##ｌ", 2, 3), ("##ｌ", 3, 4), ("[UNK]", 5, 6)]),
        ("rΣ r", [("r", 0, 1), ("##ς", 1, 2), ("r", 3, 4)]),
        ("İi ab", [("i", 0, 1), ("##i", 1, 2), ("ab", 3, 5)]),
        ("a\x00b今\x07天", [("ab", 0, 3), ("今", 3, 4), ("天", 5, 6)]),
        ("🙂 𠮷 今", [("🙂", 0, 1), ("[UNK]", 2, 3), ("今", 4, 5)]),
        ("e\u0301x今", [("e", 0, 1), ("##x", 2, 3), ("今", 3, 4)]),
        ("한今", [("ᄒ", 0, 1), ("##ᅡ", 0, 1), ("##ᆫ", 0, 1), ("今", 1, 2)]),
        ("\u3000今\u00a0天", [("今", 1, 2), ("天", 3, 4)]),
    ],
)
def test_exact_offsets(text, expected):
    encoding = TOKENIZERS["uncased"].encode(text, add_special_tokens=False)
    assert [(token, *span) for token, span in zip(encoding.tokens, encoding.offsets)] == expected
