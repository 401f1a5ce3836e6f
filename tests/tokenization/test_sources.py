"""Files in, files out, and what is said about files that cannot be."""

import json
import os
import pickle
import sys
import types

import pytest

from qingformer.errors import TokenizerError
from qingformer.tokenization import Tokenizer
from tests.tokenization.samples import ODD_TEXTS, SPECIAL, small_vocabulary

VOCABULARY = small_vocabulary()


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def lines(tokens):
    return "".join(f"{token}\n" for token in tokens)


@pytest.fixture
def vocab(tmp_path):
    return write(tmp_path / "model" / "vocab.txt", lines(VOCABULARY))


def ids(tokenizer):
    return [tokenizer.encode(text, "今天[MASK]ab").token_ids for text in ODD_TEXTS]


def test_vocabulary_file_and_directory(vocab):
    expected = ids(Tokenizer.from_vocabulary(VOCABULARY))
    for source in (vocab, str(vocab), vocab.parent):
        tokenizer = Tokenizer.from_pretrained(source, lowercase=True)
        assert tokenizer.vocabulary == VOCABULARY
        assert ids(tokenizer) == expected


@pytest.mark.parametrize("form", ["\ufeff{}", "{}\r\n"])
def test_byte_order_mark_and_windows_lines(tmp_path, form):
    end = "\r\n" if form.endswith("\r\n") else "\n"
    body = end.join(VOCABULARY)
    assert Tokenizer.from_pretrained(write(tmp_path / "vocab.txt", form.format(body))).vocabulary == VOCABULARY


def test_empty_line_inside_is_a_token_of_its_own(tmp_path):
    tokens = [*SPECIAL, "今", "", "天"]
    tokenizer = Tokenizer.from_pretrained(write(tmp_path / "vocab.txt", lines(tokens)))
    assert tokenizer.vocabulary == tokens
    assert tokenizer.token_to_id("天") == 7


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"lowercase": False},
        {"strip_accents": False},
        {"tokenize_chinese_chars": False},
        {"max_word_length": 7},
        {"split_special_tokens": True},
        {"special_tokens": {"cls_token": None, "sep_token": None}},
        {"special_tokens": {"cls_token": "今", "bos_token": "天"}},
        {"special_tokens": {"mask_token": None}},
    ],
)
def test_saving_and_reading_back(tmp_path, options):
    tokenizer = Tokenizer.from_vocabulary(VOCABULARY, **options)
    tokenizer.encode("今天天气", max_length=4)  # a truncation that must not be saved
    tokenizer.save_pretrained(tmp_path / "saved")
    assert json.loads((tmp_path / "saved" / "tokenizer.json").read_text(encoding="utf-8"))["truncation"] is None
    again = Tokenizer.from_pretrained(tmp_path / "saved")
    assert again.special_tokens == tokenizer.special_tokens
    assert ids(again) == ids(tokenizer)
    assert ids(pickle.loads(pickle.dumps(tokenizer))) == ids(tokenizer)
    assert sorted(os.listdir(tmp_path / "saved")) == ["tokenizer.json", "tokenizer_config.json", "vocab.txt"]
    if "mask_token" not in options.get("special_tokens", {}):
        os.remove(tmp_path / "saved" / "tokenizer.json")
        if "max_word_length" not in options and "cls_token" not in options.get("special_tokens", {}):
            bare = Tokenizer.from_pretrained(tmp_path / "saved")
            assert ids(bare) == ids(tokenizer), "vocab.txt and settings suffice"


def test_settings_in_a_directory_are_obeyed_and_options_overrule_them(vocab):
    settings = {"do_lower_case": False, "strip_accents": True, "tokenize_chinese_chars": False}
    write(vocab.parent / "tokenizer_config.json", json.dumps({**settings, "mask_token": {"content": "今"}}))
    write(vocab.parent / "special_tokens_map.json", json.dumps({"bos_token": "[CLS]", "mask_token": "天"}))
    tokenizer = Tokenizer.from_pretrained(vocab.parent)
    expected = Tokenizer.from_vocabulary(
        VOCABULARY,
        False,
        strip_accents=True,
        tokenize_chinese_chars=False,
        special_tokens={"mask_token": "今", "bos_token": "[CLS]"},
    )
    assert ids(tokenizer) == ids(expected)
    assert tokenizer.special_tokens == expected.special_tokens
    options = {"lowercase": True, "strip_accents": False, "tokenize_chinese_chars": True}
    overruled = Tokenizer.from_pretrained(vocab.parent, special_tokens={"mask_token": "[MASK]"}, **options)
    assert ids(overruled) == ids(Tokenizer.from_vocabulary(VOCABULARY, strip_accents=False))
    assert ids(overruled) != ids(tokenizer)


def test_settings_overrule_a_tokenizer_json(tmp_path):
    Tokenizer.from_vocabulary(VOCABULARY).save_pretrained(tmp_path)
    write(tmp_path / "tokenizer_config.json", json.dumps({"do_lower_case": False}))
    assert ids(Tokenizer.from_pretrained(tmp_path)) == ids(Tokenizer.from_vocabulary(VOCABULARY, lowercase=False))
    direct = Tokenizer.from_pretrained(tmp_path / "tokenizer.json")
    assert ids(direct) == ids(Tokenizer.from_vocabulary(VOCABULARY))
    again = Tokenizer.from_pretrained(
        tmp_path / "tokenizer.json", lowercase=False, max_word_length=5, special_tokens={"cls_token": "今"}
    )
    assert again.encode("AB xxxxxx").tokens == ["今", "A", "##B", "[UNK]", "[SEP]"]


def test_case_is_seen_from_the_vocabulary(tmp_path):
    cased = write(tmp_path / "vocab.txt", lines([*SPECIAL, *"abcdABCD", "Hello"]))
    assert Tokenizer.from_pretrained(cased).encode("Hello A").tokens[1:-1] == ["Hello", "A"]
    assert Tokenizer.from_pretrained(cased, lowercase=True).encode("Hello A").tokens[1:-1] == ["[UNK]", "a"]


def test_added_tokens_of_older_directories(vocab):
    size = len(VOCABULARY)
    write(vocab.parent / "added_tokens.json", json.dumps({"<e2>": size + 1, "<e1>": size}))
    tokenizer = Tokenizer.from_pretrained(vocab.parent)
    assert tokenizer.vocab_size == size + 2
    assert tokenizer.encode("今<e2>天").tokens == ["[CLS]", "今", "<e2>", "天", "[SEP]"]
    assert tokenizer.token_to_id("<e1>") == size
    tokenizer.save_pretrained(vocab.parent / "again")
    assert Tokenizer.from_pretrained(vocab.parent / "again").encode("今<e2>").token_ids[2] == size + 1


def test_checkpoint_prefix_and_weights_file_stand_for_their_directory(vocab):
    for name in ("bert_model.ckpt.index", "model.safetensors"):
        write(vocab.parent / name, b"")
    for source in ("bert_model.ckpt", "model.safetensors", "bert_model.ckpt.index"):
        assert Tokenizer.from_pretrained(vocab.parent / source).vocabulary == VOCABULARY


def test_which_file_of_a_directory_wins(vocab):
    """`tokenizer.json` before all others; a stray `.model` beside a vocabulary is not looked at."""
    write(vocab.parent / "word2vec.model", b"\x00")
    write(vocab.parent / "other_vocab.txt", "x\n")
    assert Tokenizer.from_pretrained(vocab.parent).vocabulary == VOCABULARY
    small = vocab.parent / "small"
    Tokenizer.from_vocabulary([*SPECIAL, "a"]).save_pretrained(small)
    (small / "tokenizer.json").rename(vocab.parent / "tokenizer.json")
    for name in ("spiece.model", "vocab.json", "merges.txt"):
        write(vocab.parent / name, b"\x00")
    assert Tokenizer.from_pretrained(vocab.parent).vocab_size == 6


def test_hub_source_goes_through_locate(vocab, monkeypatch):
    asked = []

    def locate(source, *, need):
        asked.append((source, need))
        return types.SimpleNamespace(directory=vocab.parent, vocabulary=vocab)

    monkeypatch.setitem(sys.modules, "qingformer.checkpoints", types.SimpleNamespace(locate=locate))
    assert Tokenizer.from_pretrained("hf://someone/model@main").vocabulary == VOCABULARY
    assert asked == [("hf://someone/model@main", ["vocabulary"])]


def test_special_tokens_by_name():
    tokenizer = Tokenizer.from_vocabulary(VOCABULARY, special_tokens={"bos_token": "今", "relation_token": "[MASK]"})
    assert (tokenizer.pad_token_id, tokenizer.unk_token_id, tokenizer.cls_token_id) == (0, 1, 2)
    assert (tokenizer.sep_token_id, tokenizer.mask_token_id) == (3, 4)
    assert (tokenizer.mask_token, tokenizer.bos_token, tokenizer.relation_token) == ("[MASK]", "今", "[MASK]")
    assert tokenizer.bos_token_id == tokenizer.token_to_id("今")
    assert tokenizer.id_to_token(4) == "[MASK]"
    assert not hasattr(tokenizer, "eos_token")
    assert "今" in tokenizer
    assert "nowhere" not in tokenizer
    bare = Tokenizer.from_vocabulary(["[UNK]", "[CLS]", "[SEP]", "a"])
    with pytest.raises(TokenizerError, match="has no mask_token; it has unk_token, cls_token, sep_token"):
        _ = bare.mask_token_id


def test_other_models_are_used_as_they_are(tmp_path):
    from tokenizers import Tokenizer as Rust
    from tokenizers import models, pre_tokenizers

    rust = Rust(models.BPE({"a": 0, "b": 1, "ab": 2, "<s>": 3}, [("a", "b")]))
    rust.pre_tokenizer = pre_tokenizers.Whitespace()
    rust.enable_padding(length=9)
    rust.save(str(tmp_path / "tokenizer.json"))
    tokenizer = Tokenizer.from_pretrained(tmp_path, special_tokens={"bos_token": "<s>"})
    assert tokenizer.encode("ab b").token_ids == [2, 1]
    assert tokenizer.bos_token_id == 3
    tokenizer.save_pretrained(tmp_path / "again")
    assert Tokenizer.from_pretrained(tmp_path / "again").encode("ab b").token_ids == [2, 1]
    for call in (
        lambda: tokenizer.keep_tokens([0, 1]),
        lambda: Tokenizer.from_pretrained(tmp_path, lowercase=True),
        lambda: Tokenizer.from_pretrained(tmp_path, max_word_length=3),
        lambda: Tokenizer.from_pretrained(tmp_path, pre_tokenize=list),
    ):
        with pytest.raises(TokenizerError):
            call()
    with pytest.raises(TokenizerError, match="has no unk_token"):
        _ = tokenizer.unk_token_id


BAD_FILES = {
    "missing": ("absent.txt", None, {}, "absent.txt: no such file or directory"),
    "empty": ("vocab.txt", "", {}, "vocab.txt: the vocabulary is empty"),
    "blank": ("vocab.txt", "\n", {}, "vocab.txt: the vocabulary is empty"),
    "duplicate": ("vocab.txt", "[UNK]\n[CLS]\n[SEP]\n好\nx\n好\n", {}, "line 6: the token '好' is already at 4"),
    "blank alone": ("vocab.txt", "\n\n\n", {}, "vocab.txt: the vocabulary is empty"),
    "encoding": ("vocab.txt", "[UNK]\n[CLS]\n天\n".encode("gbk"), {}, "line 3: not UTF-8"),
    "utf-16": ("vocab.txt", "[UNK]\n".encode("utf-16"), {}, "line 1: not UTF-8"),
    "columns": ("vocab.txt", "[UNK]\t0\n", {}, "line 1: '[UNK]\\t0' has more than one column"),
    "no unknown": ("vocab.txt", "[CLS]\n[SEP]\n", {}, "has no '[UNK]' for an unknown word"),
    "no start": ("vocab.txt", "[UNK]\n[SEP]\n", {}, "has no '[CLS]' for the start of a text"),
    "no end": ("vocab.txt", "[UNK]\n[CLS]\n", {}, "special_tokens={'sep_token': ...}, or None to add none"),
    "chosen": ("vocab.txt", lines(SPECIAL), {"special_tokens": {"mask_token": "<m>"}}, "mask_token='<m>' is not in"),
    "name": ("vocab.txt", lines(SPECIAL), {"special_tokens": {"mask": "[MASK]"}}, "'mask' must be of the form"),
    "value": ("vocab.txt", lines(SPECIAL), {"special_tokens": {"mask_token": 3}}, "mask_token must be a token or None"),
    "none unknown": ("vocab.txt", lines(SPECIAL), {"special_tokens": {"unk_token": None}}, "unk_token cannot be None"),
    "words": ("vocab.txt", lines(SPECIAL), {"pre_tokenize": "hanlp"}, "or 'jieba', not 'hanlp'"),
    "sentencepiece": ("spiece.model", b"\x00", {}, "spiece.model: not a SentencePiece model, or cut off"),
    "not json": ("tokenizer.json", "{\n,", {}, "tokenizer.json, line 2: not JSON"),
    "other json": ("tokenizer.json", "[1]", {}, "expected a JSON object, found a list"),
    "config": ("config.json", '{"vocab_size": 3}', {}, "config.json: no field 'model'"),
    "damaged": ("tokenizer.json", '{"version": "1.0", "model": {"type": "Nothing"}}', {}, "not a tokenizer of the"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_bad_files(tmp_path, case):
    name, content, options, message = BAD_FILES[case]
    if content is not None:
        write(tmp_path / name, content)
    with pytest.raises(TokenizerError) as caught:
        Tokenizer.from_pretrained(tmp_path / name, **options)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_bad_directories(tmp_path, vocab):
    for content, message in [
        ({}, "vocab.json with merges.txt or a SentencePiece model in this directory; there is neither"),
        ({"a_vocab.txt": "x", "b_vocab.txt": "x"}, "there are a_vocab.txt, b_vocab.txt: name one"),
        (
            {"vocab.txt": lines(SPECIAL), "spiece.model": ""},
            "there are vocab.txt (WordPiece) and spiece.model (SentencePiece), which cannot both be right: name one",
        ),
        (
            {"vocab.txt": lines(SPECIAL), "vocab.json": "{}", "merges.txt": ""},
            "there are vocab.json with merges.txt (BPE) and vocab.txt (WordPiece), which cannot both be right",
        ),
        ({"a.model": "", "b.model": ""}, "there are a.model, b.model: name one"),
        (
            {"sentencepiece.bpe.model": ""},
            "XLM-R's ids are not those of its SentencePiece model; use its tokenizer.json",
        ),
        ({"spiece.model": "", "tokenizer_config.json": '{"tokenizer_class": "XLMRobertaTokenizer"}'}, "XLM-R's ids"),
        ({"vocab.txt": lines(SPECIAL), "tokenizer_config.json": "{"}, "tokenizer_config.json, line 1: not JSON"),
        ({"vocab.txt": lines(SPECIAL), "added_tokens.json": '{"<x>": 9}'}, "the added tokens have the ids [9]"),
        ({"vocab.txt": lines(SPECIAL), "tokenizer_config.json": '{"qingformer_pre_tokenize": "custom"}'}, "tokenize="),
    ]:
        directory = tmp_path / str(abs(hash(message)))
        directory.mkdir()
        for name, text in content.items():
            write(directory / name, text)
        with pytest.raises(TokenizerError) as caught:
            Tokenizer.from_pretrained(directory)
        assert message in str(caught.value)


BAD_TEXTS = [
    (lambda t: t.encode(None), "text 0: expected a string, not NoneType"),
    (lambda t: t.encode("a", 3), "pair 0: expected a string, not int '3'"),
    (lambda t: t.encode("ab\ud83dc"), "text 0, character 2: half of a surrogate pair (U+D83D)"),
    (lambda t: t.encode_batch(["a", b"b"]), "text 1: expected a string, not bytes"),
    (lambda t: t.encode_batch(["a", "b"], ["c", float("nan")]), "pair 1: expected a string, not float"),
    (lambda t: t.encode_batch("今天"), "expected a list of strings, not one string"),
    (lambda t: t.encode_batch(["a", "b"], ["c"]), "2 texts but 1 pairs"),
    (lambda t: t.decode([10**6]), "token id 1000000 is not in 0.."),
    (lambda t: t.decode([-1]), "token id -1 is not in 0.."),
    (lambda t: t.token_to_id("nowhere"), "'nowhere' is not in the vocabulary"),
]


@pytest.mark.parametrize(("call", "message"), BAD_TEXTS)
def test_bad_texts(call, message):
    with pytest.raises(TokenizerError) as caught:
        call(Tokenizer.from_vocabulary(VOCABULARY))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_bad_vocabulary_lists():
    for tokens, message in [
        ([], "empty"),
        ([*SPECIAL, "a", "a"], "token 6: the token 'a' is already at 5"),
        ([*SPECIAL, 3], "token 5: 3 is not a string"),
    ]:
        with pytest.raises(TokenizerError, match=message):
            Tokenizer.from_vocabulary(tokens)
