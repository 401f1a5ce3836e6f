"""Tokens that the files beside a vocabulary name are one token each, whatever the vocabulary's algorithm."""

import json
import shutil
from pathlib import Path

import pytest

from qingformer.errors import TokenizerError
from qingformer.tokenization import Tokenizer
from tests.tokenization.samples import ODD_TEXTS, SENTENCES, small_vocabulary

FIXTURES = Path(__file__).parent.parent / "fixtures" / "tokenization"
VOCABULARY = [*small_vocabulary(), "[unused1]", "[E11]", "New"]
UNUSED, MARK, NEW = (VOCABULARY.index(token) for token in ("[unused1]", "[E11]", "New"))
FLAGS = {"lstrip": False, "rstrip": False, "single_word": False, "normalized": False, "special": True}
TEXTS = ["今天[unused1]气", "[UNUSED1] [unused1]a", "a [E11] b[E11]", "New[E11]new", "x  [unused1]  y", *ODD_TEXTS]
ONE, TWO = {"content": "[unused1]", **FLAGS}, {"content": "[E11]"}
MAP, CONFIG, ADDED = "special_tokens_map.json", "tokenizer_config.json", "added_tokens.json"
WAYS = {
    "additional": {MAP: {"additional_special_tokens": ["[unused1]", "[E11]"]}},
    "additional, as objects": {
        CONFIG: {"additional_special_tokens": [{"__type": "AddedToken", **ONE, "lstrip": True}]}
    },
    "extra list": {CONFIG: {"extra_special_tokens": ["[unused1]", "[E11]"]}},
    "extra by name": {CONFIG: {"extra_special_tokens": {"one": "[unused1]", "mark_token": "[E11]"}}},
    "decoder": {CONFIG: {"added_tokens_decoder": {UNUSED: ONE, MARK: TWO}}},
    "right side": {CONFIG: {"added_tokens_decoder": {UNUSED: {**ONE, "rstrip": True}}}},
    "a single word": {CONFIG: {"added_tokens_decoder": {UNUSED: {**ONE, "single_word": True}}}},
    "normalised": {CONFIG: {"added_tokens_decoder": {NEW: {"content": "New", **FLAGS, "normalized": True}}}},
    "added": {ADDED: {"[unused1]": UNUSED, "New": NEW}},
    "added behind": {ADDED: {"[E11]": MARK, "<e1>": len(VOCABULARY), "<e2>": len(VOCABULARY) + 1}},
    "additional behind": {CONFIG: {"additional_special_tokens": ["<e1>", "[unused1]"]}},
    "mask with spaces": {MAP: {"mask_token": {"content": "[MASK]", "lstrip": True, "rstrip": True}}},
}


def folder(path, files, vocabulary=VOCABULARY):
    (path / "vocab.txt").write_text("".join(f"{token}\n" for token in vocabulary), encoding="utf-8")
    for name, value in {CONFIG: {"tokenizer_class": "BertTokenizer"}, **files}.items():
        (path / name).write_text(json.dumps(value), encoding="utf-8")
    return path


def ids(tokenizer, texts=TEXTS):
    return [tokenizer.encode(text).token_ids for text in texts]


@pytest.mark.parametrize("way", WAYS)
def test_whole_and_saved_and_read_again(tmp_path, way):
    (tmp_path / "from").mkdir()
    tokenizer = Tokenizer.from_pretrained(folder(tmp_path / "from", WAYS[way]))
    if "unused1" in json.dumps(WAYS[way]):
        text = "今天 [unused1] 气" if way == "a single word" else "今天[unused1] 气"
        assert tokenizer.encode(text).tokens[3:-2] == ["[unused1]"]
    tokenizer.save_pretrained(tmp_path / "to")
    again = Tokenizer.from_pretrained(tmp_path / "to")
    assert again.vocabulary == tokenizer.vocabulary
    assert ids(again) == ids(tokenizer)


def test_what_the_flags_do(tmp_path):
    """lstrip and rstrip take the spaces beside, single_word needs them, normalized looks after lower-casing."""
    decoder = {
        UNUSED: {**ONE, "lstrip": True, "rstrip": True},
        MARK: {"content": "[E11]", **FLAGS, "single_word": True},
        NEW: {"content": "New", "normalized": True},
    }
    tokenizer = Tokenizer.from_pretrained(folder(tmp_path, {CONFIG: {"added_tokens_decoder": decoder}}), lowercase=True)
    encoding = tokenizer.encode("a  [unused1] 今", add_special_tokens=False)
    assert (encoding.tokens, encoding.offsets) == (["a", "[unused1]", "今"], [(0, 1), (3, 12), (13, 14)])
    assert "[E11]" in tokenizer.encode("a [E11] b").tokens
    assert "[E11]" not in tokenizer.encode("a[E11]b").tokens
    assert tokenizer.encode("NEW", add_special_tokens=False).tokens == ["New"]
    assert tokenizer.decode([UNUSED, NEW]) == "New"


def test_special_tokens_as_ordinary_characters(tmp_path):
    folder(tmp_path, WAYS["additional"])
    tokenizer = Tokenizer.from_pretrained(tmp_path, split_special_tokens=True)
    assert "[unused1]" not in tokenizer.encode("[unused1]").tokens


def test_the_options_overrule_the_folder(tmp_path):
    folder(tmp_path, {CONFIG: {"mask_token": "[MASK]"}})
    assert "[MASK]" in Tokenizer.from_pretrained(tmp_path).encode("[MASK]").tokens
    without = Tokenizer.from_pretrained(tmp_path, special_tokens={"mask_token": None})
    assert "[MASK]" not in without.encode("[MASK]").tokens


def test_byte_pairs_and_pieces(tmp_path):
    letters = ["<|endoftext|>", "<|user|>", *"abuser<|>"]
    vocabulary = {token: index for index, token in enumerate(dict.fromkeys(letters))}
    (tmp_path / "vocab.json").write_text(json.dumps(vocabulary))
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    names = {"additional_special_tokens": ["<|user|>"], "unk_token": "<|endoftext|>"}
    (tmp_path / MAP).write_text(json.dumps(names))
    assert Tokenizer.from_pretrained(tmp_path).encode("a<|user|>b").tokens == ["a", "<|user|>", "b"]
    (tmp_path / "pieces").mkdir()
    shutil.copy(FIXTURES / "albert.model", tmp_path / "pieces" / "spiece.model")
    plain = Tokenizer.from_pretrained(tmp_path / "pieces")
    piece = next(token for token in plain.vocabulary[10:] if token.isalpha() and len(token) == 2)
    (tmp_path / "pieces" / CONFIG).write_text(json.dumps({"additional_special_tokens": [piece]}))
    marked = Tokenizer.from_pretrained(tmp_path / "pieces")
    assert marked.vocab_size == plain.vocab_size
    assert marked.encode(f"x{piece}x").tokens.count(piece) == 1


def test_additional_tokens_go_behind_a_vocabulary_and_named_roles_do_not(tmp_path):
    """A role that no token of the vocabulary has, such as <bos> of a shared settings file, adds no row to a model."""
    tokenizer = Tokenizer.from_pretrained(folder(tmp_path, {CONFIG: {"additional_special_tokens": ["<e1>"]}}))
    assert tokenizer.vocab_size == len(VOCABULARY) + 1
    assert tokenizer.encode("今<e1>", add_special_tokens=False).token_ids[1:] == [len(VOCABULARY)]
    tokenizer.save_pretrained(tmp_path / "saved")
    (tmp_path / "saved" / CONFIG).write_text(json.dumps({"bos_token": "<bos>", "eos_token": {"content": "<eos>"}}))
    assert Tokenizer.from_pretrained(tmp_path / "saved").vocab_size == len(VOCABULARY) + 1


def test_tokens_of_the_vocabulary_made_special():
    tokenizer = Tokenizer.from_vocabulary(VOCABULARY)
    marked = tokenizer.add_tokens(["[unused1]", "<e1>"], special=True)
    assert marked.vocabulary == [*VOCABULARY, "<e1>"]
    assert marked.encode("今[unused1]<e1>").token_ids[2:-1] == [UNUSED, len(VOCABULARY)]
    with pytest.raises(TokenizerError, match="special=True finds it whole"):
        tokenizer.add_tokens(["[unused1]"])


@pytest.mark.parametrize("token", ["\n", "a\rb"])
def test_a_line_break_is_refused_at_once(tmp_path, token):
    with pytest.raises(TokenizerError, match="holds a line break"):
        Tokenizer.from_vocabulary(VOCABULARY).add_tokens([token])
    with pytest.raises(TokenizerError, match="holds a line break"):
        Tokenizer.from_vocabulary([*VOCABULARY, token])
    with pytest.raises(TokenizerError, match="holds a line break"):
        Tokenizer.from_pretrained(folder(tmp_path, {ADDED: {token: len(VOCABULARY)}}))


CONTRADICTIONS = {
    "another id": ({ADDED: {"[unused1]": 3}}, rf"'\[unused1\]' has the id 3, but {UNUSED} in vocab.txt"),
    "another token's id": ({ADDED: {"<e1>": 3}}, "has the id 3, where vocab.txt has"),
    "a gap": ({ADDED: {"<e1>": 9999}}, r"expected ids that follow the \d+ tokens of vocab.txt"),
    "two ids": (
        {CONFIG: {"added_tokens_decoder": {"900": {"content": "<e1>"}}}, ADDED: {"<e1>": 901}},
        "has the id 901, in .*added_tokens_decoder 900",
    ),
    "one id for two": (
        {CONFIG: {"added_tokens_decoder": {"900": {"content": "<e1>"}}}, ADDED: {"<e2>": 900}},
        "two added tokens have the id 900",
    ),
    "no id": ({ADDED: {"<e1>": "7"}}, "the id of '<e1>' is '7', expected an integer"),
    "no number": ({CONFIG: {"added_tokens_decoder": {"one": {"content": "<e1>"}}}}, "'one' is not the id of a token"),
    "no token": ({CONFIG: {"added_tokens_decoder": {"1": 7}}}, "1 is 7, expected a token"),
    "no content": ({MAP: {"additional_special_tokens": [{"lstrip": True}]}}, "expected a token"),
    "no flag": ({MAP: {"additional_special_tokens": [{"content": "a", "lstrip": 1}]}}, "lstrip is 1, expected true"),
    "no list": ({MAP: {"additional_special_tokens": "[E11]"}}, "map.json: additional_special_tokens is '"),
    "no switch": ({CONFIG: {"do_lower_case": "true"}}, "config.json: do_lower_case is 'true', expected true or false"),
    "no name": ({CONFIG: {"mask_token": 4}}, "config.json: mask_token is 4, expected a string or an object"),
    "too many": ({CONFIG: {"extra_ids": 10**9}}, "extra_ids is not in"),
}


@pytest.mark.parametrize("case", CONTRADICTIONS)
def test_contradictions_are_named(tmp_path, case):
    files, message = CONTRADICTIONS[case]
    with pytest.raises(TokenizerError, match=message) as caught:
        Tokenizer.from_pretrained(folder(tmp_path, files))
    assert str(tmp_path) in str(caught.value)


@pytest.mark.peers
@pytest.mark.parametrize("way", WAYS)
def test_as_transformers_gives_them(tmp_path, way):
    transformers = pytest.importorskip("transformers")
    folder(tmp_path, {CONFIG: {"tokenizer_class": "BertTokenizer", "do_lower_case": True}, **WAYS[way]})
    theirs = transformers.BertTokenizer.from_pretrained(str(tmp_path), do_lower_case=True)
    ours = Tokenizer.from_pretrained(tmp_path, lowercase=True, normalization="transformers")
    texts = [*TEXTS, "今<e1>天<e2>气 <E1>", "a [MASK] b[MASK]", *SENTENCES]
    assert ids(ours, texts) == theirs(texts)["input_ids"]
    assert ours.vocab_size == len(theirs)
    ours.save_pretrained(tmp_path / "saved")
    again = transformers.AutoTokenizer.from_pretrained(str(tmp_path / "saved"))
    assert again(texts)["input_ids"] == ids(ours, texts)
