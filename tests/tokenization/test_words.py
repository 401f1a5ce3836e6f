"""The word-level hook: words of the vocabulary are one token, others go through WordPiece, offsets stay exact."""

import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qingformer.errors import TokenizerError
from qingformer.tokenization import Tokenizer
from tests.tokenization.samples import mixed_texts, small_vocabulary

VOCABULARY = [*small_vocabulary(), "今天", "天气", "不错", "我们的", "a-b"]
PLAIN = Tokenizer.from_vocabulary(VOCABULARY)


def by_twos(text):
    return [text[start : start + 2] for start in range(0, len(text), 2)]


def test_words_are_tokens():
    tokenizer = Tokenizer.from_vocabulary(VOCABULARY, pre_tokenize=by_twos)
    encoding = tokenizer.encode("今天天气好İ不错啊x", "[MASK]今天")
    first = ["[CLS]", "今天", "天气", "好", "i", "不错", "[UNK]", "x", "[SEP]"]
    assert encoding.tokens == [*first, "[MASK]", "今天", "[SEP]"]
    assert encoding.offsets[1:8] == [(0, 2), (2, 4), (4, 5), (5, 6), (6, 8), (8, 9), (9, 10)]
    assert encoding.offsets[9:11] == [(0, 6), (6, 8)]
    assert tokenizer.encode("今天天气", max_length=3).tokens == ["[CLS]", "今天", "[SEP]"]


def test_words_with_signs_and_dropped_spaces():
    tokenizer = Tokenizer.from_vocabulary(VOCABULARY, pre_tokenize=str.split)
    encoding = tokenizer.encode("a-b  今天 a-b,", add_special_tokens=False)
    assert encoding.tokens == ["a-b", "今天", "a", "-", "b", ","]
    assert encoding.offsets == [(0, 3), (5, 7), (8, 9), (9, 10), (10, 11), (11, 12)]


@settings(max_examples=200, deadline=None)
@given(mixed_texts)
def test_one_unknown_word_goes_through_wordpiece_unchanged(text):
    tokenizer = Tokenizer.from_vocabulary(small_vocabulary(), pre_tokenize=lambda text: [text])
    whole, plain = tokenizer.encode(text), Tokenizer.from_vocabulary(small_vocabulary()).encode(text)
    if whole.tokens[1:-1] != [text] or plain.tokens[1:-1] == [text]:
        assert (whole.tokens, whole.offsets) == (plain.tokens, plain.offsets)


@settings(max_examples=100, deadline=None)
@given(st.text(st.sampled_from("今天气不错我们的中文。 "), max_size=20))
def test_single_characters_reproduce_the_character_tokens(text):
    tokenizer = Tokenizer.from_vocabulary(VOCABULARY, pre_tokenize=list)
    assert tokenizer.encode(text).token_ids == PLAIN.encode(text).token_ids
    assert len(Tokenizer.from_vocabulary(VOCABULARY, pre_tokenize=by_twos).encode(text)) <= len(PLAIN.encode(text))


@pytest.mark.parametrize(
    ("split", "message"),
    [
        (lambda text: [text[:1]], "the words must make up the whole text; they end at character 1 of '今天x'"),
        (lambda text: ["天", "今"], "'天' does not follow at character 0 of '今天x'"),
        (lambda text: ["今", 3], "3 does not follow at character 1"),
        (lambda text: 1 / 0, "division by zero"),
    ],
)
def test_wrong_splitters(split, message):
    tokenizer = Tokenizer.from_vocabulary(VOCABULARY, pre_tokenize=split)
    for call in (lambda: tokenizer.encode("今天x"), lambda: tokenizer.encode_batch(["今天x"] * 50)):
        with pytest.raises(TokenizerError) as caught:
            call()
        assert message in str(caught.value)
        assert "\n" not in str(caught.value)


def test_saving(tmp_path):
    Tokenizer.from_vocabulary(VOCABULARY, pre_tokenize=by_twos).save_pretrained(tmp_path)
    with pytest.raises(TokenizerError, match="pass it again as pre_tokenize="):
        Tokenizer.from_pretrained(tmp_path)
    assert Tokenizer.from_pretrained(tmp_path, pre_tokenize=by_twos).encode("今天").tokens[1] == "今天"


def test_jieba(tmp_path):
    pytest.importorskip("jieba")
    tokenizer = Tokenizer.from_vocabulary(VOCABULARY, pre_tokenize="jieba")
    assert tokenizer.encode("今天不错").tokens[1:-1] == ["今天", "不错"]
    batch = tokenizer.encode_batch(["今天不错"] * 20 + ["我们的"])
    assert [encoding.tokens[1] for encoding in batch] == ["今天"] * 20 + ["我"]
    tokenizer.save_pretrained(tmp_path)
    assert Tokenizer.from_pretrained(tmp_path).encode("今天不错").tokens[1:-1] == ["今天", "不错"]
    added = tokenizer.add_tokens(["<e>"])
    assert added.encode("今天<e>不错").tokens[1:-1] == ["今天", "<e>", "不错"]


def test_jieba_that_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "jieba", None)
    with pytest.raises(TokenizerError, match=r"pip install 'qingformer\[jieba\]'"):
        Tokenizer.from_vocabulary(VOCABULARY, pre_tokenize="jieba")


def test_the_class_in_the_settings_says_that_words_come_first(tmp_path):
    pytest.importorskip("jieba")
    (tmp_path / "vocab.txt").write_text("\n".join(VOCABULARY))
    settings = tmp_path / "tokenizer_config.json"
    settings.write_text('{"tokenizer_class": "RoFormerTokenizer"}')
    tokenizer = Tokenizer.from_pretrained(tmp_path)
    assert tokenizer.encode("天气不错").tokens == ["[CLS]", "天气", "不错", "[SEP]"]
    tokenizer.save_pretrained(tmp_path / "saved")
    assert Tokenizer.from_pretrained(tmp_path / "saved").encode("今天").tokens == ["[CLS]", "今天", "[SEP]"]
    (tmp_path / "vocab.txt").write_text("\n".join(small_vocabulary()))
    assert Tokenizer.from_pretrained(tmp_path).encode("天气").tokens[1] != "天气"
    settings.write_text('{"tokenizer_class": "BertJapaneseTokenizer"}')
    with pytest.raises(TokenizerError, match="tokenizer_class is 'BertJapaneseTokenizer', which cuts text into words"):
        Tokenizer.from_pretrained(tmp_path)
    assert Tokenizer.from_pretrained(tmp_path, pre_tokenize=by_twos).encode("今天").tokens[0] == "[CLS]"
