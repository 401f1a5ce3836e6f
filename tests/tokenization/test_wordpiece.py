"""The Rust pipeline against Google's algorithm written out in Python (tests/references/wordpiece.py)."""

import pickle
import unicodedata

import pytest
from hypothesis import given, settings

from qingformer.tokenization import Tokenizer
from tests.references import wordpiece as reference
from tests.tokenization.samples import DATA_SETS, ODD_TEXTS, SPECIAL, is_old, mixed_texts, read_texts, small_vocabulary

VOCABULARY = small_vocabulary()
TOKENIZERS = {
    lowercase: Tokenizer.from_vocabulary(VOCABULARY, lowercase=lowercase, split_special_tokens=True)
    for lowercase in (True, False)
}


@pytest.mark.parametrize("lowercase", [True, False])
@pytest.mark.parametrize("text", ODD_TEXTS)
def test_odd_texts_equal_the_reference(text, lowercase):
    tokens = TOKENIZERS[lowercase].encode(text, add_special_tokens=False).tokens
    assert tokens == reference.tokenize(text, set(VOCABULARY), lowercase)


@settings(max_examples=400, deadline=None)
@given(mixed_texts)
def test_random_texts_equal_the_reference(text):
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
            assert encoding.tokens == expected or not all(map(is_old, text)), text


@pytest.mark.slow
def test_every_character_gives_the_words_of_the_reference():
    """Alone in a word, and between capitals with sigmas: all code points of Python's table, here Unicode 14's."""
    for lowercase in (True, False):
        tokenizer = Tokenizer.from_vocabulary(VOCABULARY, lowercase=lowercase)
        form, rust = tokenizer._published, tokenizer._plain
        for code in range(0x110000):
            char = chr(code)
            if unicodedata.category(char) in ("Cs", "Cn"):
                continue
            for text in (f"a{char}b", f"aA{char} A{char}\u03a3", f"\u03a3{char}\u03a3{char}A {char}"):
                seen = rust.normalizer.normalize_str(form(text))
                words = [_unknown(word) for word, _ in rust.pre_tokenizer.pre_tokenize_str(seen)]
                assert words == [_unknown(word) for word in reference.basic_words(text, lowercase)], hex(code)


def _unknown(word):
    """No vocabulary has newer or private characters: a word with one is unknown, whatever stands for it."""
    strange = any(not is_old(char) or unicodedata.category(char) in ("Co", "Cn") for char in word)
    return (
        "[UNK]" if strange or any(0x2B820 <= ord(char) < 0x2CEB0 or char in "\u2e42\u166d" for char in word) else word
    )


FORMS = {
    "final sigma": ("ΟΔΥΣΣΕΥΣ ΣΑΣ. Σ", ["οδυσσευς", "σας", ".", "σ"]),
    "sigma before a removed character": ("ΑΣ\u00ad ΑΣ\u200bΑ Α\x07Σ", ["ας", "ασα", "ας"]),
    "sigma before white space": ("ΑΣ\tΑ", ["ας", "α"]),
    "sigma before a replacement character": ("ΑΣ\ufffdΑΣ", ["ασας"]),
    "sigma and marks": ("Α\u0301Σ ΑΣ\u0301 İΣ", ["ας", "ας", "iς"]),
    "sigma beside ideographs": ("ΑΣ天Σ", ["ας", "天", "σ"]),
    "private use": ("今\ue000天 a\uf8ffb", ["今", "[UNK]", "天", "[UNK]"]),
    "extension E": ("a\U0002b820b", ["a", "[UNK]", "b"]),
    "newer punctuation": ("a\u2e43b", ["a", "[UNK]", "b"]),
    "newer marks and format characters": ("a\u08e3b c\u0890d", ["ab", "cd"]),
}


@pytest.mark.parametrize("case", FORMS)
def test_google_s_algorithm_and_the_other_by_choice(tmp_path, case):
    text, expected = FORMS[case]
    tokens = list(dict.fromkeys([*SPECIAL, "今", "天", "a", "b", ".", *expected]))
    google = Tokenizer.from_vocabulary(tokens)
    encoding = google.encode(text, add_special_tokens=False)
    assert encoding.tokens == expected
    assert google.encode_batch([text, "a"], [text, "b"])[0].token_ids == google.encode(text, text).token_ids
    for token, (start, end) in zip(encoding.tokens, encoding.offsets):
        assert token == "[UNK]" or len(token) <= end - start
    other = Tokenizer.from_vocabulary(tokens, normalization="transformers")
    assert other.encode(text, add_special_tokens=False).tokens != expected
    for number, tokenizer in enumerate((google, other)):
        tokenizer.save_pretrained(tmp_path / str(number))
        again = Tokenizer.from_pretrained(tmp_path / str(number))
        assert again.encode(text).token_ids == tokenizer.encode(text).token_ids
        assert pickle.loads(pickle.dumps(tokenizer)).encode(text).token_ids == tokenizer.encode(text).token_ids


def test_a_private_character_of_the_vocabulary_is_left_to_the_library():
    tokenizer = Tokenizer.from_vocabulary([*SPECIAL, "a"]).add_tokens(["\ue000"])
    assert tokenizer.encode("a\ue000", add_special_tokens=False).token_ids == [5, 6]


def test_batch_is_a_sequence():
    batch = TOKENIZERS[True].encode_batch(["今", "天 ab", ""])
    assert len(batch) == 3
    assert batch[1].tokens == ["[CLS]", "天", "ab", "[SEP]"]
    assert batch[-1].tokens == ["[CLS]", "[SEP]"]
    assert [encoding.tokens for encoding in batch[:2]] == [encoding.tokens for encoding in list(batch)[:2]]
    assert "天" in repr(batch[1])
    assert repr(batch) == "Encodings(3 texts)"
