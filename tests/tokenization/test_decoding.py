"""Decoding gives readable text back."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qingformer.tokenization import Tokenizer
from qingformer.tokenization.decoding import join_tokens
from tests.tokenization.samples import small_vocabulary

TOKENIZER = Tokenizer.from_vocabulary(small_vocabulary())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "今天天气不错",
        "hello world",
        "hello, world! is it?",
        "it's 3.14, i'm",
        "今天，天气不错。我们",
        "价格=3.5+a(元)",
        "中文abc123",
        "“今天”《天气》",
        "a: b; c",
        "0.5 1.25",
        "unable tokenizers",
        "{a} [b]",
        "x/y-z<a",
        "3. a",
    ],
)
def test_round_trip(text):
    assert TOKENIZER.decode(TOKENIZER.encode(text).token_ids) == text


@pytest.mark.parametrize(
    ("tokens", "text"),
    [
        (["中", "文", "ab", "##cd", "，", "hello", "world", "."], "中文abcd，hello world."),
        (["##ab", "##cd"], "abcd"),
        (["ab", "今", "ab"], "ab今ab"),
        (["3", ".", "14", ".", "a"], "3.14. a"),
        (["they", "'", "ll", "go"], "they'll go"),
        (["##"], ""),
    ],
)
def test_joining(tokens, text):
    assert join_tokens(tokens) == text


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(["hello", "world", "今天", "气", "unable", "the", "12"]), max_size=8))
def test_words_and_ideographs_come_back(words):
    text = ""
    for word in words:
        tight = not text or not text[-1].isascii() or not word.isascii()
        text += word if tight else " " + word
    assert TOKENIZER.decode(TOKENIZER.encode(text).token_ids) == text


def test_special_tokens_and_unknown_words():
    ids = TOKENIZER.encode("今[MASK]天").token_ids
    assert TOKENIZER.decode(ids) == "今天"
    assert TOKENIZER.decode(ids, skip_special_tokens=False) == "[CLS]今[MASK]天[SEP]"
    assert TOKENIZER.decode(TOKENIZER.encode("今 龘 天").token_ids) == "今天"


def test_arrays():
    import numpy as np

    assert TOKENIZER.decode(np.asarray(TOKENIZER.encode("今天 ab").token_ids, dtype="int32")) == "今天ab"
