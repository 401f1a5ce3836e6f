"""SentencePiece models: id for id what the `sentencepiece` package gives, with offsets, on models of our own."""

import json
import pickle
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qingformer.errors import TokenizerError
from qingformer.tokenization import Tokenizer
from tests.tokenization.samples import ODD_TEXTS, SENTENCES, old_characters

FIXTURES = Path(__file__).parent.parent / "fixtures" / "tokenization"
NAMES = ("t5", "albert", "llama")
PLAIN = {"albert": {"lowercase": False}}  # what the package does, without what Google's ALBERT does before it


def load(name, **options):
    return Tokenizer.from_pretrained(FIXTURES / f"{name}.model", **options)


TOKENIZERS = {name: load(name, split_special_tokens=True, **PLAIN.get(name, {})) for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_ids_and_decoded_texts_equal_the_fixture(name):
    """One difference: for the unknown the package decodes a sign of its own, U+2047 between spaces."""
    content = json.loads((FIXTURES / "sentencepiece.json").read_text(encoding="utf-8"))
    cases = [case for case in content["cases"] if case["model"] == name]
    assert len(cases) == 70
    tokenizer = TOKENIZERS[name]
    for case, batched in zip(cases, tokenizer.encode_batch([case["text"] for case in cases], add_special_tokens=False)):
        encoding = tokenizer.encode(case["text"], add_special_tokens=False)
        assert encoding.token_ids == case["ids"] == batched.token_ids, case["text"]
        assert encoding.tokens == [tokenizer.id_to_token(index) for index in case["ids"]]
        assert encoding.offsets == batched.offsets
        decoded = tokenizer.decode(case["ids"], skip_special_tokens=False)
        assert decoded.replace("<unk>", " \u2047 ") == case["decoded"]


@pytest.mark.parametrize(
    ("name", "single", "pair", "segments"),
    [
        ("t5", ["▁un", "</s>"], ["▁un", "</s>", "▁", "a", "</s>"], [0, 0, 1, 1, 1]),
        ("albert", ["[CLS]", "▁un", "[SEP]"], ["[CLS]", "▁un", "[SEP]", "▁", "a", "[SEP]"], [0, 0, 0, 1, 1, 1]),
        ("llama", ["<s>", "▁un"], ["<s>", "▁un", "<s>", "▁a"], [0, 0, 1, 1]),
    ],
)
def test_what_stands_around_a_text(name, single, pair, segments):
    tokenizer = load(name)
    assert tokenizer.encode("un").tokens == single
    assert tokenizer.encode("un", "a").tokens == pair
    assert tokenizer.encode("un", "a").segment_ids == segments
    assert tokenizer.encode("un", add_special_tokens=False).tokens == ["▁un"]
    cut = tokenizer.encode("un un un un", max_length=4)
    assert len(cut) == 4
    assert [token for token in cut.tokens if token != "▁un"] == [token for token in single if token != "▁un"]


def test_special_tokens_by_name():
    t5, albert, llama = (load(name) for name in NAMES)
    assert (t5.pad_token_id, t5.eos_token_id, t5.unk_token_id) == (0, 1, 2)
    assert (albert.pad_token, albert.cls_token, albert.sep_token, albert.mask_token) == (
        "<pad>",
        "[CLS]",
        "[SEP]",
        "[MASK]",
    )
    assert (llama.bos_token_id, llama.eos_token_id) == (1, 2)
    assert "pad_token" not in llama.special_tokens
    assert load("llama", special_tokens={"pad_token": "</s>"}).pad_token_id == 2


@pytest.mark.parametrize(
    ("name", "chosen", "expected"),
    [
        ("t5", {"eos_token": None}, ["▁un"]),
        ("llama", {"bos_token": None}, ["▁un"]),
        ("albert", {"cls_token": None}, ["▁un", "[SEP]"]),
        ("albert", {"cls_token": None, "sep_token": None}, ["▁un"]),
        ("llama", {"cls_token": "<s>", "sep_token": "</s>"}, ["<s>", "▁un", "</s>"]),
    ],
)
def test_chosen_special_tokens(name, chosen, expected):
    assert load(name, special_tokens=chosen).encode("un").tokens == expected


@pytest.mark.parametrize(
    ("name", "config", "expected"),
    [
        ("llama", {"add_bos_token": False, "add_eos_token": True}, ["▁un", "</s>"]),
        ("t5", {"add_eos_token": False}, ["▁un"]),
        ("t5", {"tokenizer_class": "T5Tokenizer", "eos_token": {"content": "</s>"}}, ["▁un", "</s>"]),
        ("albert", {"tokenizer_class": "XLNetTokenizer"}, ["▁un", "[SEP]", "[CLS]"]),
    ],
)
def test_settings_beside_the_model(tmp_path, name, config, expected):
    (tmp_path / "spiece.model").write_bytes((FIXTURES / f"{name}.model").read_bytes())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    assert Tokenizer.from_pretrained(tmp_path).encode("un").tokens == expected


def test_uncased_vocabularies_lower_the_case():
    text = "The Driver ``said'' Hé"
    lowered = load("albert").encode(text, add_special_tokens=False)
    assert lowered.tokens[:3] == ["▁t", "he", "▁driver"]
    assert lowered.token_ids == TOKENIZERS["albert"].encode('the driver "said" he', add_special_tokens=False).token_ids
    assert text[slice(*lowered.offsets[2])] == "Driver"
    assert TOKENIZERS["albert"].encode(text).tokens[2] == "<unk>"
    assert load("t5").encode("The", add_special_tokens=False).token_ids != load("t5", lowercase=True).encode(
        "The", add_special_tokens=False
    )
    kept = load("albert", strip_accents=False).encode("É", add_special_tokens=False)
    assert kept.tokens == ["▁", "<unk>"]


def test_special_tokens_in_a_text():
    t5 = load("t5")
    encoding = t5.encode("今天</s>天气 <extra_id_0> 很", add_special_tokens=False)
    assert [token for token in encoding.tokens if token.startswith("<")] == ["</s>", "<extra_id_0>"]
    assert encoding.tokens[encoding.tokens.index("</s>") + 1] == "天", "no space is made up behind it"
    split = load("t5", split_special_tokens=True)
    assert 1 not in split.encode("今天</s>天气", add_special_tokens=False).token_ids
    assert split.encode("今天</s>天气").token_ids[-1] == 1
    assert split.decode(split.encode("今天</s>天气").token_ids) == "今天</s>天气"


def test_offsets_without_spaces_and_with_bytes():
    """A word comes without its space; a token of a space alone has it, or nothing if the text has none there."""
    t5 = TOKENIZERS["t5"]
    encoding = t5.encode("北京 to 𠀀𠮷  un", add_special_tokens=False)
    assert encoding.tokens[:3] == ["▁北京", "▁to", "▁"]
    assert encoding.offsets == [(0, 2), (3, 5), (5, 6)] + [(6, 7)] * 4 + [(7, 8)] * 4 + [(10, 12)]
    assert encoding.char_to_token(6) == 3
    assert encoding.char_to_token(2) is None
    assert encoding.span_to_tokens(3, 7) == (1, 7)
    assert encoding.span_to_tokens(8, 10) is None
    lone = t5.encode("。", "。")
    assert lone.tokens[:3] == ["▁", "。", "</s>"]
    assert lone.offsets[:3] == [(0, 0), (0, 1), (0, 0)]
    assert (lone.char_to_token(0), lone.char_to_token(0, 1)) == (1, 4)


def _normalized(piece, name):
    rules = {"，": ",", "！": "!", "ﬁ": "fi", "①": "1", "½": "1/2", "\u3000": " ", "\t": " ", "\n": " ", "\x07": ""}
    return piece if name == "llama" else "".join(rules.get(char, char) for char in piece)


def check_offsets(text, name):
    tokenizer = TOKENIZERS[name]
    encoding = tokenizer.encode(text, add_special_tokens=False)
    last = 0
    for token, (start, end) in zip(encoding.tokens, encoding.offsets):
        assert 0 <= start <= end <= len(text)
        assert start >= last or end <= last, "tokens of one character share it, otherwise they follow"
        last = max(last, end)
        piece = text[start:end]
        normal = _normalized(piece, name)
        if token == "<unk>" or token.startswith("<0x"):
            assert piece
        elif token.strip("▁") == "":
            assert not piece.strip(" \u3000\t\n")
            assert len(token) >= len(piece) or name != "llama"
        elif len(normal) > len(piece):  # ½ is three tokens
            assert token.removeprefix("▁") in normal
        else:
            assert token.lstrip("▁") == normal.replace(" ", "▁")
            assert piece == piece.strip()
    covered = {place for start, end in encoding.offsets for place in range(start, end)}
    dropped = [char for place, char in enumerate(text) if place not in covered]
    assert all(char.isspace() or char in "\x07▁" for char in dropped)


texts = st.text(
    st.one_of(
        st.sampled_from("".join(SENTENCES) + "  　\t\n①，½！ﬁ\x07𠀀🙂"), old_characters.filter(lambda c: c != "▁")
    ),
    max_size=40,
)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("text", [*ODD_TEXTS, *SENTENCES[:8]])
def test_offsets_slice_back(text, name):
    check_offsets(text, name)


@settings(max_examples=300, deadline=None)
@given(texts, st.sampled_from(NAMES))
def test_offsets_of_random_texts_slice_back(text, name):
    check_offsets(text, name)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("options", [{}, {"split_special_tokens": True}])
def test_saving_and_reading_back(tmp_path, name, options):
    tokenizer = load(name, **options)
    tokenizer.save_pretrained(tmp_path)
    again = Tokenizer.from_pretrained(tmp_path)
    for other in (again, pickle.loads(pickle.dumps(tokenizer)), tokenizer.add_tokens(["<e1>"])):
        assert other.special_tokens == tokenizer.special_tokens
        for text in [*ODD_TEXTS, *SENTENCES]:
            ours, theirs = tokenizer.encode(text, "un 今天"), other.encode(text, "un 今天")
            assert (ours.token_ids, ours.offsets, ours.tokens) == (theirs.token_ids, theirs.offsets, theirs.tokens)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tokenizer.json", "tokenizer_config.json"]


def test_sentinels_of_t5(tmp_path):
    (tmp_path / "spiece.model").write_bytes((FIXTURES / "albert.model").read_bytes())
    (tmp_path / "tokenizer_config.json").write_text('{"extra_ids": 3}')
    tokenizer = Tokenizer.from_pretrained(tmp_path)
    size = load("albert").vocab_size
    assert tokenizer.vocab_size == size + 3
    assert [tokenizer.token_to_id(f"<extra_id_{place}>") for place in range(3)] == [size + 2, size + 1, size]
    assert tokenizer.encode("un<extra_id_0>un").tokens[2] == "<extra_id_0>"
    (tmp_path / "added_tokens.json").write_text(json.dumps({"<e1>": size + 1}))
    with pytest.raises(TokenizerError, match=r"expected ids that follow the \d+ tokens of spiece.model"):
        Tokenizer.from_pretrained(tmp_path)


def test_choosing_pieces():
    """A token that is kept has its old score; a text whose pieces are all kept is cut as before."""
    t5 = load("t5")
    text = "今天天气不错，我们一起去爬山吧。"
    pieces = t5.encode(text).token_ids
    keep = sorted({0, 1, 2, *pieces})
    small, kept = t5.keep_tokens(keep)
    assert kept == keep
    assert small.vocab_size == len(keep)
    assert [kept[index] for index in small.encode(text).token_ids] == pieces
    assert small.encode("Z").tokens[-2:] == ["<unk>", "</s>"]
    assert small.unk_token_id == 2
    shuffled, kept = t5.keep_tokens(keep[::-1])
    assert [kept[index] for index in shuffled.encode(text).token_ids] == pieces
    assert shuffled.id_to_token(shuffled.unk_token_id) == "<unk>"
    more = t5.add_tokens(["<e1>"])
    chosen, kept = more.keep_tokens([more.vocab_size - 1, 2, 1, 0])
    assert chosen.encode("<e1>").token_ids == [0, 2]
    for wrong in ([0, 1], [0, 2], [0, 1, 2, 10**6]):
        with pytest.raises(TokenizerError, match="keep_tokens"):
            t5.keep_tokens(wrong)
    with pytest.raises(TokenizerError, match="needs a WordPiece vocabulary"):
        t5.simplified()
    with pytest.raises(TokenizerError, match="not in BPE"):
        load("llama").keep_tokens(range(100))


def test_words_first():
    """CPM's way: every word begins with the mark of a space, spaces of the text are signs of their own if there are."""
    tokenizer = load("t5", pre_tokenize=lambda text: [text[start : start + 2] for start in range(0, len(text), 2)])
    encoding = tokenizer.encode("北京今天 ①x", add_special_tokens=False)
    joined = load("t5").encode("北京 今天 1 x", add_special_tokens=False)
    assert encoding.tokens[:2] == ["▁北京", "▁"]
    assert encoding.token_ids[0] == joined.token_ids[0]
    assert encoding.offsets[0] == (0, 2)
    assert all(start <= end <= 7 for start, end in encoding.offsets)
    assert encoding.offsets[-1] == (6, 7)
    with pytest.raises(TokenizerError, match="or SentencePiece"):
        load("llama", pre_tokenize=list)


WORDS = (FIXTURES / "t5.model").read_bytes()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "0 pieces, 0 of them for the unknown, expected one"),
        (WORDS[:1000], "not a SentencePiece model, or cut off: ends at byte"),
        (WORDS[:3], "cut off: ends at byte"),
        (b"not a protobuf at all\n", "not a SentencePiece model, or cut off: "),
        (b"\xff" * 40, "a number of more than 10 bytes"),
        (b'{"model": 1}', "not a SentencePiece model"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a Git LFS pointer"),
        (WORDS + b"\x0a\x04\x0a\x02\xff\xfe", "text that is not UTF-8"),
        (WORDS + b"\x0a\x05\x0a\x03<s>" * 2, "the token '<s>' is already at"),
        (WORDS + b"\x12\x02\x18\x04", "of type CHAR; expected UNIGRAM or BPE"),
        (WORDS + b"\x0a\x02\x18\x02", "2 of them for the unknown"),
        (WORDS + b"\x1a\x02\x28\x00", "escape_whitespaces=false"),
        (WORDS + b"\x12\x03\xc0\x01\x01", "treat_whitespace_as_suffix"),
        (WORDS + b"\x0a\x02\x10\x01", "a score that is not a float"),
    ],
)
def test_damaged_models(tmp_path, content, message):
    (tmp_path / "spiece.model").write_bytes(content)
    for source in (tmp_path, tmp_path / "spiece.model"):
        with pytest.raises(TokenizerError) as caught:
            Tokenizer.from_pretrained(source)
        assert message in str(caught.value)
        assert "\n" not in str(caught.value)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, len(WORDS)), st.binary(max_size=8))
def test_whatever_bytes_give_a_tokenizer_or_one_line(tmp_path_factory, cut, tail):
    path = tmp_path_factory.mktemp("damaged") / "x.model"
    path.write_bytes(WORDS[:cut] + tail + WORDS[cut + len(tail) :])
    message = ""
    try:
        Tokenizer.from_pretrained(path).encode("今天 a")
    except TokenizerError as problem:
        message = str(problem)
    assert "\n" not in message


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_word_length": 3}, "the option max_word_length is for WordPiece vocabularies"),
        ({"tokenize_chinese_chars": False}, "the option tokenize_chinese_chars is for WordPiece"),
        ({"special_tokens": {"mask_token": "<m>"}}, "mask_token='<m>' is not a piece of the model"),
        ({"special_tokens": {"unk_token": "</s>"}}, "unk_token is '<unk>' in the model"),
    ],
)
def test_options_that_do_not_fit(options, message):
    with pytest.raises(TokenizerError) as caught:
        load("t5", **options)
    assert message in str(caught.value)
