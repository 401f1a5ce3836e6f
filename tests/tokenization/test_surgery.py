"""Choosing, simplifying and adding tokens: a new tokenizer, and the old ids for the rows of an embedding."""

import hashlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qingformer.errors import TokenizerError
from qingformer.tokenization import Tokenizer
from tests.tokenization.samples import ODD_TEXTS, SPECIAL, mixed_texts, small_vocabulary

VOCABULARY = small_vocabulary()
TOKENIZER = Tokenizer.from_vocabulary(VOCABULARY)


@settings(max_examples=50, deadline=None)
@given(st.randoms(use_true_random=False), mixed_texts)
def test_reordered_vocabulary_gives_the_same_tokens(random, text):
    order = list(range(len(VOCABULARY)))
    random.shuffle(order)
    small, ids = TOKENIZER.keep_tokens(order)
    assert ids == order
    before, after = TOKENIZER.encode(text, "今[MASK]"), small.encode(text, "今[MASK]")
    assert [ids[index] for index in after.token_ids] == before.token_ids
    assert (after.tokens, after.offsets, after.segment_ids) == (before.tokens, before.offsets, before.segment_ids)
    assert small.mask_token_id == order.index(4)


def test_tokens_left_out_become_shorter_ones_or_unknown():
    kept = [i for i, token in enumerate(VOCABULARY) if token not in ("hello", "天", "[PAD]", "[MASK]")]
    small, _ = TOKENIZER.keep_tokens(kept)
    assert small.encode("hello 天").tokens == ["[CLS]", "h", "##e", "##l", "##l", "##o", "[UNK]", "[SEP]"]
    assert set(small.special_tokens) == {"unk_token", "cls_token", "sep_token"}
    assert small.vocab_size == len(kept)
    assert TOKENIZER.vocab_size == len(VOCABULARY), "the old one is as it was"


def test_simplified_tokenizer_gives_the_same_tokens():
    tokenizer = Tokenizer.from_vocabulary([*VOCABULARY, "##今天", "今天", "[unused1]", "a-b"])
    small, ids = tokenizer.simplified()
    assert small.vocabulary[:5] == SPECIAL
    assert not {"##今天", "今天", "##今", "##,", "[unused1]", "a-b"} & set(small.vocabulary)
    for text in ODD_TEXTS:
        assert [ids[index] for index in small.encode(text).token_ids] == tokenizer.encode(text).token_ids


def test_simplified_vocabulary_equals_the_original_toolkit(shared):
    path = shared / "references/bert4keras/text/simplified_vocabulary.jsonl"
    for line in path.read_text(encoding="utf-8").strip().split("\n"):
        case = json.loads(line)
        special = None if case["startswith"] else {"cls_token": None, "sep_token": None, "unk_token": "的"}
        tokenizer = Tokenizer.from_pretrained(shared / "vocab" / case["vocab"], special_tokens=special)
        small, ids = tokenizer.simplified(case["startswith"])
        assert small.vocab_size == case["tokens_count"]
        assert _sha256(",".join(map(str, ids))) == case["keep_tokens_sha256"]
        # The original strips every line, so that U+2028 in two tokens is lost to it; it is a token of the file.
        stripped = [token.replace("\u2028", "") for token in small.vocabulary]
        assert _sha256("\n".join(stripped)) == case["tokens_sha256"]


def _sha256(text):
    return hashlib.sha256(text.encode()).hexdigest()


def test_added_tokens():
    more = TOKENIZER.add_tokens(["<实体>", "[unused1]"]).add_tokens(["<tag>"], special=True)
    size = len(VOCABULARY)
    assert more.vocab_size == size + 3
    encoding = more.encode("今<实体>天<tag>")
    assert encoding.tokens == ["[CLS]", "今", "<实体>", "天", "<tag>", "[SEP]"]
    assert encoding.offsets == [(0, 0), (0, 1), (1, 5), (5, 6), (6, 11), (0, 0)]
    assert encoding.token_ids[2] == size
    assert more.decode(encoding.token_ids) == "今<实体>天"
    assert more.decode(encoding.token_ids, skip_special_tokens=False) == "[CLS]今<实体>天<tag> [SEP]"
    small, ids = more.keep_tokens([size + 2, size, *range(5), VOCABULARY.index("今")])
    assert small.encode("今<实体>天<tag>").token_ids == [4, 7, 1, 3, 0, 5]
    assert ids[:2] == [size + 2, size]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: TOKENIZER.keep_tokens([1, 2, 3, 10**6]), "id 1000000 is not in 0.."),
        (lambda: TOKENIZER.keep_tokens([1, 2, 3, -1]), "id -1 is not in 0.."),
        (lambda: TOKENIZER.keep_tokens([1, 2, 3, 2]), "id 2 ('[CLS]') comes twice"),
        (lambda: TOKENIZER.keep_tokens([0, 2, 3]), "'[UNK]' stands around every text or for unknown words"),
        (lambda: TOKENIZER.keep_tokens([1, 3]), "'[CLS]' stands around"),
        (lambda: TOKENIZER.simplified(["nowhere"]), "'nowhere' is not in the vocabulary"),
        (lambda: TOKENIZER.add_tokens(["今"]), "'今' is already in the vocabulary"),
        (lambda: TOKENIZER.add_tokens(["x1", "x1"]), "'x1' is already at 0"),
        (lambda: TOKENIZER.add_tokens([""]), "'' is empty"),
        (lambda: TOKENIZER.add_tokens("ab"), "expected a list of tokens"),
    ],
)
def test_impossible_surgery(call, message):
    with pytest.raises(TokenizerError) as caught:
        call()
    assert message in str(caught.value)
