"""The Rust pipeline against Google's algorithm written out in Python (tests/references/wordpiece.py)."""

import unicodedata

import pytest
from hypothesis import given, settings

from qingformer.tokenization import Tokenizer
from tests.references import wordpiece as reference
from tests.tokenization.samples import DATA_SETS, ODD_TEXTS, is_old, mixed_texts, read_texts, small_vocabulary

VOCABULARY = small_vocabulary()
TOKENIZERS = {
    lowercase: Tokenizer.from_vocabulary(VOCABULARY, lowercase=lowercase, split_special_tokens=True)
    for lowercase in (True, False)
}


def _has_final_sigma(text, lowercase):
    """Python lower-cases a capital sigma at the end of a word to another letter; the Rust library does not."""
    return lowercase and "Σ" in text


@pytest.mark.parametrize("lowercase", [True, False])
@pytest.mark.parametrize("text", ODD_TEXTS)
def test_odd_texts_equal_the_reference(text, lowercase):
    tokens = TOKENIZERS[lowercase].encode(text, add_special_tokens=False).tokens
    expected = reference.tokenize(text, set(VOCABULARY), lowercase)
    if _has_final_sigma(text, lowercase):
        assert [token.replace("σ", "ς") for token in tokens] == [token.replace("σ", "ς") for token in expected]
        assert tokens != expected
    else:
        assert tokens == expected


@settings(max_examples=400, deadline=None)
@given(mixed_texts)
def test_random_texts_equal_the_reference(text):
    text = text.replace("Σ", "S")
    for lowercase, tokenizer in TOKENIZERS.items():
        encoding = tokenizer.encode(text)
        expected = ["[CLS]", *reference.tokenize(text, set(VOCABULARY), lowercase), "[SEP]"]
        assert encoding.tokens == expected
        assert encoding.token_ids == [VOCABULARY.index(token) for token in expected]
        assert encoding.segment_ids == [0] * len(expected)
        assert encoding.special_tokens_mask == [1] + [0] * (len(expected) - 2) + [1]


def test_pair_has_two_segments():
    encoding = TOKENIZERS[True].encode("今天", "hello ab")
    assert encoding.tokens == ["[CLS]", "今", "天", "[SEP]", "hello", "ab", "[SEP]"]
    assert encoding.segment_ids == [0, 0, 0, 0, 1, 1, 1]
    assert encoding.sequence_ids == [None, 0, 0, None, 1, 1, None]
    assert encoding.offsets == [(0, 0), (0, 1), (1, 2), (0, 0), (0, 5), (6, 8), (0, 0)]
    assert encoding.span_to_tokens(0, 2) == (1, 3)
    assert encoding.span_to_tokens(6, 8, sequence=1) == (5, 6)
    assert encoding.char_to_token(5, sequence=1) is None
    assert len(encoding) == 7


def test_special_tokens_in_the_text():
    literal = Tokenizer.from_vocabulary(VOCABULARY)
    assert literal.encode("今[MASK]天", add_special_tokens=False).tokens == ["今", "[MASK]", "天"]
    assert literal.encode("今[MASK]天", add_special_tokens=False).offsets == [(0, 1), (1, 7), (7, 8)]
    assert TOKENIZERS[True].encode("[MASK]", add_special_tokens=False).tokens == ["[", "m", "##a", "##s", "##k", "]"]


def test_longest_word():
    accepted = Tokenizer.from_vocabulary(VOCABULARY, max_word_length=200)
    assert TOKENIZERS[True].encode("x" * 101, add_special_tokens=False).tokens == ["[UNK]"]
    assert len(accepted.encode("x" * 200, add_special_tokens=False)) == 200


@pytest.mark.parametrize("data_set", DATA_SETS)
def test_sample_of_real_text_equals_the_reference(shared, data_set):
    _compare(shared, data_set, step=211)


@pytest.mark.slow
@pytest.mark.parametrize("data_set", DATA_SETS)
def test_all_real_text_equals_the_reference(shared, data_set):
    _compare(shared, data_set, step=1)


def _compare(shared, data_set, step):
    files = {True: "bert_base_chinese/vocab.txt", False: "bert_english/google_cased_en_vocab.txt"}
    texts = list(dict.fromkeys(read_texts(shared, data_set)))[::step]
    assert len(texts) > 5
    for lowercase, name in files.items():
        tokenizer = Tokenizer.from_pretrained(shared / "vocab" / name, split_special_tokens=True)
        vocabulary = set(tokenizer.vocabulary)
        for text, encoding in zip(texts, tokenizer.encode_batch(texts, add_special_tokens=False)):
            expected = reference.tokenize(text, vocabulary, lowercase)
            if encoding.tokens != expected:
                _check_known_difference(text, encoding.tokens, expected, lowercase)


def _check_known_difference(text, tokens, expected, lowercase):
    newer = [char for char in text if not is_old(char)]
    assert newer or _has_final_sigma(text, lowercase), (text, tokens, expected)


@pytest.mark.slow
def test_every_character_differs_only_in_named_classes():
    """The tables of the Rust library are of another Unicode version, and leave out 256 ideographs of extension E."""
    tokenizer = Tokenizer.from_vocabulary([*VOCABULARY], lowercase=True)
    rust = tokenizer._plain
    named = 0
    for code in range(0x110000):
        char = chr(code)
        if unicodedata.category(char) == "Cs":
            continue
        text = f"a{char}b"
        words = [word for word, _ in rust.pre_tokenizer.pre_tokenize_str(rust.normalizer.normalize_str(text))]
        if words != reference.basic_words(text):
            assert not is_old(char) or 0x2B820 <= code <= 0x2B91F, hex(code)
            named += 1
    assert named > 256


def test_batch_is_a_sequence():
    batch = TOKENIZERS[True].encode_batch(["今", "天 ab", ""])
    assert len(batch) == 3
    assert batch[1].tokens == ["[CLS]", "天", "ab", "[SEP]"]
    assert batch[-1].tokens == ["[CLS]", "[SEP]"]
    assert [encoding.tokens for encoding in batch[:2]] == [encoding.tokens for encoding in list(batch)[:2]]
    assert "天" in repr(batch[1])
    assert repr(batch) == "Encodings(3 texts)"
