"""Characters of tokens, windows over long texts, and scores put together, each against a slow account of it."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qingformer.data.spans import is_blank
from qingformer.errors import ConfigError
from qingformer.tasks.windows import (
    SpecialTokenTemplate,
    TokenizedText,
    Window,
    WindowChoice,
    inside,
    merge_scores,
    tokenize_texts,
    windows_of,
)
from qingformer.tokenization import Tokenizer
from tests.tasks.helpers import tokenizer

FIXTURES = Path(__file__).parents[1] / "fixtures/tokenization"
WORDPIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "ca", "##fe", "new", "york", "a", "##b", "好", "天", "20", "##01"]
TEXTS = [
    "ＡＢＣ１２３，全角　空格",
    "Cafe\u0301 好",
    "\u0301a e\u0301\u0302",
    "a\u200bb\u200d好\ufeff",
    "a\x00b \x07c\x1cd\x85e\u2028f",
    "😀笑👨\u200d👩\u200d👧 🇨🇳",
    "New York 2001年3.14%",
    "é㎏ﬁ①½",
    "𠮷野家 ＮＢＡ's cafe!!",
    "天\t天\n天\u3000天",
    "   好   ",
]
MARKS = [chr(number) for number in (0, 7, 0x1C, 0x85, 0x300, 0x301, 0x200B, 0x200D, 0x3000, 0xFEFF, 0xFE0F)]
NASTY = st.text(alphabet=st.sampled_from([*"aBcé1２ 　\t好天Ａ，.😀𠮷👨㎏", *MARKS]), max_size=14)


@pytest.fixture(scope="module")
def tokenizers():
    files = {name: Tokenizer.from_pretrained(FIXTURES / name) for name in ("albert.model", "t5.model", "llama.model")}
    words = {
        f"wordpiece, lowercase={lower}": Tokenizer.from_vocabulary(WORDPIECES, lowercase=lower)
        for lower in (True, False)
    }
    return words | files | {"gpt2": Tokenizer.from_pretrained(FIXTURES / "gpt2"), "toy": tokenizer()}


def stands_alone(text, place):
    """Whether an accent has no letter, sign or digit before it or after it that a token could hold."""
    left = right = place
    while left and not is_blank(text[left - 1]):
        left -= 1
    while right < len(text) and not is_blank(text[right]):
        right += 1
    return all(character in MARKS for character in text[left:right])


def check_cover(text, tokenized, once):
    counts = np.zeros(len(text), int)
    for start, end in tokenized.offsets:
        assert 0 <= start < end <= len(text)
        counts[start:end] += 1
    for place, character in enumerate(text):
        if not is_blank(character) and not stands_alone(text, place):
            assert counts[place] >= 1, (text, place, tokenized.offsets)
    assert not once or counts.max(initial=0) <= 1, (text, tokenized.offsets)
    for left, right in pairwise(tokenized.offsets):
        assert left[0] <= right[0]
        assert left[1] <= right[1], "both borders ascend, or tokens_of could not search them"
    for start, end in tokenized.offsets:
        piece = text[start:end]
        all_blank = all(map(is_blank, piece))
        assert all_blank or not (is_blank(piece[0]) or is_blank(piece[-1])), (
            "a name has no blank characters at its ends"
        )


@pytest.mark.parametrize("name", ["toy", "wordpiece, lowercase=True", "wordpiece, lowercase=False"])
def test_wordpieces_cover_every_character_once(tokenizers, name):
    for text, tokenized in zip(TEXTS, tokenize_texts(tokenizers[name], TEXTS)):
        check_cover(text, tokenized, once=True)


@given(st.lists(NASTY, min_size=1, max_size=6), st.booleans())
def test_random_texts_are_covered_once(tokenizers, texts, lower):
    for text, tokenized in zip(texts, tokenize_texts(tokenizers[f"wordpiece, lowercase={lower}"], texts)):
        check_cover(text, tokenized, once=True)


@given(st.lists(NASTY, min_size=1, max_size=6), st.sampled_from(["albert.model", "t5.model", "llama.model", "gpt2"]))
def test_subwords_of_bytes_share_characters_but_leave_none_out(tokenizers, texts, name):
    for text, tokenized in zip(texts, tokenize_texts(tokenizers[name], texts)):
        check_cover(text, tokenized, once=False)


@pytest.mark.parametrize(
    "blank", ["\u200b", "\ufeff", "\ufe0f", "\u00ad", "\u200d", "\u2060", "\x07", "\U000e0101", " \u200b "]
)
def test_a_token_leaves_blank_characters_at_its_borders(tokenizers, blank):
    text = f"{blank}好{blank}天{blank}"
    places = [(len(blank), len(blank) + 1), (2 * len(blank) + 1, 2 * len(blank) + 2)]
    assert tokenize_texts(tokenizers["wordpiece, lowercase=True"], [text])[0].offsets == places


def test_a_token_leaves_the_space_at_its_borders(tokenizers):
    found = tokenize_texts(tokenizers["albert.model"], ["1\x1c", " \u03011"])
    assert [each.offsets for each in found] == [[(0, 1)], [(1, 2), (2, 3)]]


@given(st.lists(NASTY, min_size=1, max_size=4), st.data())
def test_tokens_and_characters_there_and_back(tokenizers, texts, data):
    name = data.draw(st.sampled_from(sorted(tokenizers)))
    for text, tokenized in zip(texts, tokenize_texts(tokenizers[name], texts)):
        borders = {start for start, _ in tokenized.offsets}, {end for _, end in tokenized.offsets}
        for start in range(len(text)):
            for end in range(start + 1, len(text) + 1):
                found = tokenized.tokens_of(start, end)
                assert (found is not None) == (start in borders[0] and end in borders[1] and start < end)
                if found is not None:
                    assert tokenized.characters_of(*found) == (start, end)
        if len(set(tokenized.offsets)) == len(tokenized.offsets) and "wordpiece" in name:
            for first in range(len(tokenized.ids)):
                for last in range(first, len(tokenized.ids)):
                    assert tokenized.tokens_of(*tokenized.characters_of(first, last)) == (first, last)


def test_a_border_within_a_token_is_none():
    tokenized = TokenizedText([1, 2, 3], [(0, 2), (2, 5), (6, 7)])
    assert tokenized.tokens_of(2, 7) == (1, 2)
    for start, end in [(0, 1), (1, 5), (2, 4), (5, 7), (2, 6)]:
        assert tokenized.tokens_of(start, end) is None


def test_the_template_is_that_of_the_tokenizer(tokenizers):
    assert SpecialTokenTemplate.of(tokenizer()) == SpecialTokenTemplate([2], [3]), (
        "though this vocabulary does not know the letter it asks for"
    )
    for each in tokenizers.values():
        template, inner = SpecialTokenTemplate.of(each), each.encode("b", add_special_tokens=False).token_ids
        assert [*template.before, *inner, *template.after] == each.encode("b").token_ids


@given(st.lists(st.integers(0, 40), max_size=5), st.integers(3, 12), st.integers(0, 9))
def test_windows_cover_overlap_and_fit(counts, max_length, stride):
    template = SpecialTokenTemplate([101], [102])
    tokenized = [TokenizedText(list(range(count)), [(n, n + 1) for n in range(count)]) for count in counts]
    if stride >= max_length - 2:
        with pytest.raises(ConfigError, match=f"stride is {stride}; .* 0 to {max_length - 3} tokens"):
            windows_of(tokenized, template, max_length, stride)
        return
    windows = windows_of(tokenized, template, max_length, stride)
    for number, count in enumerate(counts):
        mine = [window for window in windows if window.text == number]
        covered = sorted({window.first + k for window in mine for k in range(window.count)})
        assert covered == list(range(count))
        for window in mine:
            assert window.token_ids == [101, *range(window.first, window.first + window.count), 102]
            assert len(window.segment_ids) == len(window.token_ids) == window.count + 2 <= max_length
        for left, right in pairwise(mine):
            assert left.count == max_length - 2, "what is cut is full"
            assert left.first < right.first <= left.first + left.count - stride, "as few windows as there can be"
            assert left.first + left.count - right.first >= stride
    assert [window.text for window in windows] == sorted(window.text for window in windows)


def test_a_negative_stride_is_refused():
    with pytest.raises(ConfigError, match="stride is -1"):
        windows_of([], SpecialTokenTemplate([1], [2]), 8, -1)


@given(st.lists(st.integers(0, 30), min_size=1, max_size=4), st.integers(4, 12), st.integers(0, 6), st.data())
def test_merged_scores_equal_a_slow_loop(counts, max_length, stride, data):
    stride = min(stride, max_length - 3)
    tokenized = [TokenizedText(list(range(count)), [(n, n + 1) for n in range(count)]) for count in counts]
    windows = windows_of(tokenized, SpecialTokenTemplate([1], [2]), max_length, stride)
    random = np.random.default_rng(data.draw(st.integers(0, 99)))
    scores = [random.normal(size=(window.count, 3)).astype("float32") for window in windows]
    merged = merge_scores(windows, scores, counts)
    assert len(merged) == len(counts)
    for number, count in enumerate(counts):
        assert len(merged[number]) == count
        for token in range(count):
            around = {}
            for place, window in enumerate(windows):
                if window.text == number and window.first <= token < window.first + window.count:
                    left = token - window.first if window.first else 999
                    right = window.first + window.count - 1 - token if window.first + window.count < count else 999
                    around[place] = min(left, right)
            best = max(around, key=lambda place: around[place])  # the first of equal ones
            np.testing.assert_array_equal(merged[number][token], scores[best][token - windows[best].first])


def test_a_text_without_tokens_has_no_window():
    assert windows_of([TokenizedText([], [])], SpecialTokenTemplate([1], [2]), 8, 2) == []
    assert [len(each) for each in merge_scores([], [], [0, 0])] == [0, 0]


def test_one_window_speaks_for_each_stretch():
    windows = [Window(0, first, 6, 1, [], []) for first in (0, 4, 8)] + [Window(1, 0, 3, 1, [], [])]
    views = WindowChoice(windows, [14, 3])
    for first in range(14):
        for last in range(first, 14):
            holding = [n for n in range(3) if windows[n].first <= first and last < windows[n].first + 6]
            speaking = [n for n in range(3) if views.best(n, first, last)]
            assert len(speaking) == 1
            assert not holding or speaking[0] in holding
    assert not views.best(0, 5, 5)  # the first window ends there, the second has begun before
    assert views.best(1, 5, 5)
    assert views.best(0, 4, 5) is True  # whole in both, at a cut of both
    assert views.best(3, 0, 2) is True


def slow_best(windows, lengths, number, first, last):
    """The rule in words: of all windows of the text, the one with most tokens around the stretch, -1 if not whole."""

    def around(rival):
        window, length = windows[rival], lengths[windows[rival].text]
        end = window.first + window.count
        if first < window.first or last >= end:
            return -1
        return min(first - window.first if window.first else length, end - 1 - last if end < length else length)

    rivals = [rival for rival, window in enumerate(windows) if window.text == windows[number].text]
    return number == max(rivals, key=lambda rival: (around(rival), -rival))


@given(st.lists(st.integers(1, 40), min_size=1, max_size=3), st.integers(4, 12), st.integers(0, 9), st.data())
def test_the_window_that_speaks_is_that_of_a_slow_search(lengths, max_length, stride, data):
    tokenized = [TokenizedText(list(range(count)), [(n, n + 1) for n in range(count)]) for count in lengths]
    windows = windows_of(tokenized, SpecialTokenTemplate([1], [2]), max_length, min(stride, max_length - 3))
    views = WindowChoice(windows, lengths)
    for _ in range(20):
        number = data.draw(st.integers(0, len(windows) - 1))
        first = data.draw(st.integers(0, lengths[windows[number].text] - 1))
        last = data.draw(st.integers(first, min(first + 14, lengths[windows[number].text] - 1)))
        assert views.best(number, first, last) == slow_best(windows, lengths, number, first, last)


@given(st.lists(st.integers(1, 40), min_size=1, max_size=3), st.integers(4, 12), st.integers(0, 9), st.data())
def test_the_stretches_inside_are_those_of_a_slow_search(lengths, max_length, stride, data):
    tokenized = [TokenizedText(list(range(count)), [(n, n + 1) for n in range(count)]) for count in lengths]
    windows = windows_of(tokenized, SpecialTokenTemplate([1], [2]), max_length, min(stride, max_length - 3))
    stretches = [
        [tuple(sorted(pair)) for pair in data.draw(st.lists(st.tuples(*[st.integers(0, n - 1)] * 2), max_size=8))]
        for n in lengths
    ]
    wanted = [
        [n for n, (first, last) in enumerate(stretches[w.text]) if w.first <= first and last < w.first + w.count]
        for w in windows
    ]
    assert inside(windows, stretches) == wanted


def test_a_stretch_asks_few_windows(monkeypatch):
    windows = [Window(0, 110 * number, 126, 1, [], []) for number in range(2000)]
    views, asked = WindowChoice(windows, [110 * 2000 + 16]), []
    around = WindowChoice._around
    monkeypatch.setattr(WindowChoice, "_around", lambda self, *place: asked.append(place) or around(self, *place))
    assert sum(views.best(n, window.first + 30, window.first + 31) for n, window in enumerate(windows)) == 2000
    assert len(asked) < 2 * 2000
