"""Published word-level vocabularies (WoBERT, T5-PEGASUS), read with jieba's words first."""

import pytest

from qingformer.tokenization import Tokenizer

pytestmark = pytest.mark.shared
TEXT = "我们明天去北京旅游，天气非常不错！ Hello"


@pytest.mark.parametrize("name", ["wobert_base", "wobert_plus_base", "roformer_base", "t5_pegasus"])
def test_words_are_tokens(shared, tmp_path, name):
    pytest.importorskip("jieba")
    tokenizer = Tokenizer.from_pretrained(shared / "vocab" / name, pre_tokenize="jieba")
    encoding = tokenizer.encode(TEXT)
    assert encoding.tokens[1:6] == ["我们", "明天", "去", "北京", "旅游"]
    for token, (start, end) in zip(encoding.tokens[1:-1], encoding.offsets[1:-1]):
        assert TEXT[start:end].lower() == token.removeprefix("##")
    characters = Tokenizer.from_pretrained(shared / "vocab" / name).encode(TEXT)
    assert len(characters) > len(encoding), "without it every ideograph is a token"
    tokenizer.save_pretrained(tmp_path)
    assert Tokenizer.from_pretrained(tmp_path).encode(TEXT).token_ids == encoding.token_ids


def test_special_tokens_of_t5_pegasus(shared):
    tokenizer = Tokenizer.from_pretrained(shared / "vocab/t5_pegasus", pre_tokenize="jieba")
    assert (tokenizer.pad_token_id, tokenizer.unk_token_id, tokenizer.cls_token_id) == (0, 100, 101)
    assert (tokenizer.sep_token_id, tokenizer.mask_token_id, tokenizer.vocab_size) == (102, 103, 50000)
