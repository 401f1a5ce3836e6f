"""Truncation equals the obvious algorithm: take tokens off, one by one, until the text fits."""

import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from qingformer.errors import TokenizerError
from qingformer.tokenization import Tokenizer
from tests.references.wordpiece import truncate_pair
from tests.tokenization.samples import small_vocabulary

TOKENIZER = Tokenizer.from_vocabulary(small_vocabulary())
texts = st.text(st.sampled_from("今天气不错我们的中文"), max_size=15)


def _expected(first, second, max_length, truncation, side):
    first, second = list(first), list(second)
    if side == "left":
        first, second = first[::-1], second[::-1]
    budget = max_length - 3
    if truncation == "longest_first":
        first, second = truncate_pair(first, second, budget)
    elif truncation == "only_first":
        first = first[: max(budget - len(second), 0)] if len(first) + len(second) > budget else first
    else:
        second = second[: max(budget - len(first), 0)] if len(first) + len(second) > budget else second
    if side == "left":
        first, second = first[::-1], second[::-1]
    return ["[CLS]", *first, "[SEP]", *second, "[SEP]"]


@settings(max_examples=300, deadline=None)
@given(
    texts,
    texts,
    st.integers(3, 30),
    st.sampled_from(["longest_first", "only_first", "only_second"]),
    st.sampled_from(["right", "left"]),
)
def test_pairs(first, second, max_length, truncation, side):
    excess = len(first) + len(second) + 3 - max_length
    cut = {"only_first": first, "only_second": second}.get(truncation)
    assume(cut is None or excess < len(cut) or excess <= 0)
    encoding = TOKENIZER.encode(first, second, max_length=max_length, truncation=truncation, truncation_side=side)
    assert encoding.tokens == _expected(first, second, max_length, truncation, side)
    assert len(encoding) == min(max_length, len(first) + len(second) + 3)


@settings(max_examples=100, deadline=None)
@given(texts, st.integers(2, 20), st.sampled_from(["right", "left"]))
def test_single_text(text, max_length, side):
    encoding = TOKENIZER.encode(text, max_length=max_length, truncation_side=side)
    budget = max_length - 2
    kept = text[:budget] if side == "right" else text[max(len(text) - budget, 0) :]
    assert encoding.tokens == ["[CLS]", *kept, "[SEP]"]
    start = 0 if side == "right" else max(len(text) - budget, 0)
    assert encoding.offsets[1:-1] == [(start + i, start + i + 1) for i in range(len(kept))]


def test_offsets_of_a_cut_pair_refer_to_each_text():
    encoding = TOKENIZER.encode("今天天气", "不错我们", max_length=7, truncation_side="left")
    assert encoding.tokens == ["[CLS]", "天", "气", "[SEP]", "我", "们", "[SEP]"]
    assert encoding.offsets == [(0, 0), (2, 3), (3, 4), (0, 0), (2, 3), (3, 4), (0, 0)]


def test_settings_do_not_leak_into_the_next_call():
    full = TOKENIZER.encode("今天天气不错").tokens
    assert TOKENIZER.encode("今天天气不错", max_length=4).tokens == ["[CLS]", "今", "天", "[SEP]"]
    assert TOKENIZER.encode("今天天气不错").tokens == full
    batch = TOKENIZER.encode_batch(["今天", "天气不错"], ["我们", "中文"], max_length=6)
    assert [len(encoding) for encoding in batch] == [6, 6]
    assert TOKENIZER.encode("今天天气不错", max_length=3, add_special_tokens=False).tokens == ["今", "天", "天"]


def test_threads_do_not_disturb_each_other():
    def lengths(max_length):
        return {len(TOKENIZER.encode("今天天气不错我们的中文" * 3, max_length=max_length)) for _ in range(300)}

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # so that threads interrupt each other between setting the length and encoding
    try:
        with ThreadPoolExecutor(6) as pool:
            assert list(pool.map(lengths, range(5, 17))) == [{max_length} for max_length in range(5, 17)]
    finally:
        sys.setswitchinterval(interval)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_length": 2, "pair": "天"}, "max_length=2 leaves no room for the 3 special tokens"),
        ({"max_length": 0}, "max_length=0 leaves no room"),
        ({"max_length": -5, "add_special_tokens": False}, "max_length=-5"),
        ({"max_length": 4.5}, "max_length: expected a whole number"),
        ({"truncation": "longest"}, "truncation: expected one of longest_first, only_first, only_second"),
        ({"max_length": 4, "truncation_side": "middle"}, "truncation_side: expected one of right, left"),
        ({"max_length": 5, "pair": "今天天气不错", "truncation": "only_first"}, "use truncation='longest_first'"),
    ],
)
def test_impossible_lengths(arguments, message):
    with pytest.raises(TokenizerError) as caught:
        TOKENIZER.encode("今天天气", **arguments)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert TOKENIZER.encode("今天").tokens == ["[CLS]", "今", "天", "[SEP]"], "a refused call leaves nothing behind"
