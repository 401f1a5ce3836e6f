"""Vocabularies with merges: id for id what `transformers` gives for GPT-2 and GPT, on small ones of our own."""

import json
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings

from qingformer.errors import TokenizerError
from qingformer.tokenization import Tokenizer
from tests.tokenization.samples import ODD_TEXTS, SENTENCES, mixed_texts

FIXTURES = Path(__file__).parent.parent / "fixtures" / "tokenization"
GPT2, GPT = (Tokenizer.from_pretrained(FIXTURES / name) for name in ("gpt2", "gpt"))


@pytest.mark.parametrize(("name", "tokenizer"), [("gpt2", GPT2), ("gpt", GPT)])
def test_ids_and_decoded_texts_equal_the_fixture(name, tokenizer):
    content = json.loads((FIXTURES / "bpe.json").read_text(encoding="utf-8"))
    cases = [case for case in content["cases"] if case["model"] == name]
    assert len(cases) == 66
    for case, batched in zip(cases, tokenizer.encode_batch([case["text"] for case in cases])):
        assert tokenizer.encode(case["text"]).token_ids == batched.token_ids == case["ids"], case["text"]
        assert tokenizer.decode(case["ids"], skip_special_tokens=False) == case["decoded"]


def test_special_tokens():
    assert GPT2.special_tokens == dict.fromkeys(("unk_token", "bos_token", "eos_token"), "<|endoftext|>")
    assert GPT2.encode("a<|endoftext|>b").tokens == ["a", "<|endoftext|>", "b"]
    assert len(Tokenizer.from_pretrained(FIXTURES / "gpt2", split_special_tokens=True).encode("<|endoftext|>")) > 5
    assert GPT.special_tokens == {"unk_token": "<unk>"}
    assert GPT.encode("A ☃").tokens == ["a</w>", "<unk>"]
    named = {"cls_token": "<|endoftext|>", "sep_token": "<|endoftext|>", "pad_token": "!"}
    framed = Tokenizer.from_pretrained(FIXTURES / "gpt2", special_tokens=named)
    assert framed.encode("a", "b").tokens == ["<|endoftext|>", "a", "<|endoftext|>", "b", "<|endoftext|>"]
    assert framed.pad_token_id == 1


def test_every_text_comes_back_and_offsets_have_no_leading_spaces():
    for text in [*ODD_TEXTS, *SENTENCES]:
        assert GPT2.decode(GPT2.encode(text).token_ids) == text
    encoding = GPT2.encode("the old  harbour 今天")
    pieces = ["the old  harbour 今天"[slice(*span)] for span in encoding.offsets]
    assert "".join(piece for piece in pieces[: encoding.tokens.index("Ġ")]) == "theold"
    assert pieces[encoding.tokens.index("Ġ")] == " "
    assert encoding.char_to_token(0) == 0
    assert encoding.span_to_tokens(17, 19)[1] == len(encoding)


@settings(max_examples=200, deadline=None)
@given(mixed_texts)
def test_random_texts_come_back_and_offsets_cover_them(text):
    encoding = GPT2.encode(text)
    assert GPT2.decode(encoding.token_ids) == text.replace("<|endoftext|>", "")
    covered = {place for start, end in encoding.offsets for place in range(start, end)}
    assert all(char.isspace() for place, char in enumerate(text) if place not in covered)
    for token, (start, end) in zip(encoding.tokens, encoding.offsets):
        assert 0 <= start < end <= len(text)
        own = GPT2.encode(" " * token.startswith("Ġ") + text[start:end]).tokens
        assert token in own or end - start == 1, "bytes of one character have its span"


@settings(max_examples=100, deadline=None)
@given(mixed_texts)
def test_offsets_of_words_slice_back(text):
    for token, (start, end) in zip(*(lambda e: (e.tokens, e.offsets))(GPT.encode(text))):
        if token != "<unk>":
            assert token.removesuffix("</w>") in GPT._rust.normalizer.normalize_str(text[start:end])


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"add_bos_token": True}, ["<|endoftext|>", "a", "<|endoftext|>", "b"]),
        ({"add_eos_token": True}, ["a", "<|endoftext|>", "b", "<|endoftext|>"]),
        ({"add_prefix_space": True}, ["Ġ", "a", "Ġb"]),
        (
            {"tokenizer_class": "RobertaTokenizer"},
            ["<|endoftext|>", "a"] + ["<|endoftext|>"] * 2 + ["b", "<|endoftext|>"],
        ),
        ({"do_lower_case": True}, ["a", "b"]),
    ],
)
def test_settings_beside_the_files(tmp_path, config, expected):
    shutil.copytree(FIXTURES / "gpt2", tmp_path, dirs_exist_ok=True)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    text = "A" if "do_lower_case" in config else "a"
    assert Tokenizer.from_pretrained(tmp_path).encode(text, "b").tokens == expected


@pytest.mark.parametrize("name", ["gpt2", "gpt"])
def test_saving_and_reading_back(tmp_path, name):
    tokenizer = Tokenizer.from_pretrained(FIXTURES / name)
    tokenizer.save_pretrained(tmp_path)
    again = Tokenizer.from_pretrained(tmp_path)
    assert again.special_tokens == tokenizer.special_tokens
    for text in [*ODD_TEXTS, *SENTENCES]:
        ours, theirs = tokenizer.encode(text, "un 今天"), again.encode(text, "un 今天")
        assert (ours.token_ids, ours.offsets) == (theirs.token_ids, theirs.offsets)
        assert again.decode(ours.token_ids) == tokenizer.decode(ours.token_ids)


def test_other_names_of_the_files(tmp_path):
    tokens = GPT2.vocabulary
    shutil.copy(FIXTURES / "gpt2/merges.txt", tmp_path / "vocab.bpe")
    shutil.copy(FIXTURES / "gpt2/vocab.json", tmp_path / "encoder.json")
    for source in (tmp_path, tmp_path / "vocab.bpe", tmp_path / "encoder.json"):
        assert Tokenizer.from_pretrained(source).vocabulary == tokens
    other = tmp_path / "other"
    other.mkdir()
    shutil.copy(FIXTURES / "gpt2/merges.txt", other / "my_merges.txt")
    (other / "my_vocab.txt").write_text("".join(f"{token}\n" for token in tokens), encoding="utf-8")
    for source in (other, other / "my_merges.txt"):
        assert Tokenizer.from_pretrained(source).encode(SENTENCES[0]).token_ids == GPT2.encode(SENTENCES[0]).token_ids


VOCABULARY = (FIXTURES / "gpt2/vocab.json").read_text(encoding="utf-8")
MERGES = (FIXTURES / "gpt2/merges.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("vocabulary", "merges", "message"),
    [
        (VOCABULARY, None, "vocab.json without merges; put merges.txt beside it"),
        (None, MERGES, "merges.txt without a vocabulary; put vocab.json beside it"),
        (VOCABULARY, MERGES + "q\n", "expected two tokens with a space between, found 'q'"),
        (VOCABULARY, MERGES + "q  z\n", "expected two tokens with a space between, found 'q  z'"),
        (VOCABULARY, MERGES + "q zzz\n", "the merge 'q' 'zzz' needs 'zzz', not in"),
        (VOCABULARY, MERGES.encode("utf-16"), "not UTF-8; expected merges"),
        ("[1]", MERGES, "expected a JSON object, found a list"),
        ("{", MERGES, "vocab.json, line 1: not JSON"),
        ('{"a": "b"}', MERGES, "the id of 'a' is 'b', expected an integer"),
        ('{"a": 0, "b": 7}', "", "2 tokens, but none has the id 1"),
        ('{"a": 0, "b": 1}', "", "256 byte tokens are missing"),
    ],
)
def test_bad_files(tmp_path, vocabulary, merges, message):
    for name, content in (("vocab.json", vocabulary), ("merges.txt", merges)):
        if content is not None:
            (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    present = tmp_path / ("vocab.json" if vocabulary is not None else "merges.txt")
    for source in (tmp_path, present):
        with pytest.raises(TokenizerError) as caught:
            Tokenizer.from_pretrained(source)
        assert message in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("option", ["strip_accents", "tokenize_chinese_chars", "max_word_length"])
def test_options_that_do_not_fit(option):
    with pytest.raises(TokenizerError, match=f"the option {option} is for WordPiece vocabularies, this is a BPE"):
        Tokenizer.from_pretrained(FIXTURES / "gpt2", **{option: 1})
    with pytest.raises(TokenizerError, match="is not in the vocabulary; choose one that is"):
        Tokenizer.from_pretrained(FIXTURES / "gpt2", special_tokens={"pad_token": "<nope>"})
    with pytest.raises(TokenizerError, match="pre_tokenize needs"):
        Tokenizer.from_pretrained(FIXTURES / "gpt2", pre_tokenize=list)
