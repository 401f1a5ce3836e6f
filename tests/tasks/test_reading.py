"""Reading comprehension: windows, labels and spans against plain loops; a small reader that learns."""

import dataclasses
from itertools import pairwise

import numpy as np
import pytest

from qingformer.data.reading import Question, Questions
from qingformer.errors import ConfigError, DataError
from qingformer.tasks import ReadingComprehension, load
from qingformer.tasks.input_templates import PairTemplate
from qingformer.tasks.reading.answer_mask import AnswerMask
from qingformer.tasks.reading.reading_comprehension import best_spans
from qingformer.tasks.windows import Window, tokenize_texts, windows_beside_questions
from qingformer.tokenization import Tokenizer
from tests.tasks.helpers import CHARACTERS, FIT, backbone, tokenizer

ASKED = "想要"
FILLER = "我一二三四五"


def questions(count, start=0, long=22):
    """The answer is what is to eat; every fourth context has nothing, and many are longer than a window."""
    random = np.random.default_rng(start)
    rows = []
    for number in range(count):
        text = "".join(random.choice(list(FILLER), random.integers(1, long)))
        answer = ["饭菜", "饭", "饭我菜", ""][number % 4]
        place = [0, len(text), random.integers(0, len(text) + 1)][number % 3]
        answers = [{"text": answer, "answer_start": int(place)}] if answer else []
        rows.append({"context": text[:place] + answer + text[place:], "question": ASKED, "answers": answers})
    return rows


def reader(**options):
    return ReadingComprehension(backbone(), tokenizer(), **{"max_length": 16, "stride": 4} | options)


class Told:
    """In the place of a network: scores by window."""

    def __init__(self, scores):
        self.scores = scores

    def run(self, batches, done=None):
        for rows, (inputs, *_) in zip(batches.order(), batches):
            length = inputs["token_ids"].shape[1]
            found = np.full((len(rows), length, 2), -1e12, np.float32)
            for place, row in enumerate(rows):
                if row >= 0:
                    each = self.scores[row][:length]
                    found[place, : len(each)] = each
            yield rows, found


def told(task, scores):
    task.built = dataclasses.replace(task.parts(), predictor=Told(scores))
    return task


@pytest.fixture(scope="module")
def trained():
    made = reader()
    made.fit(questions(160), **FIT | {"epochs": 12})
    return made


# --- windows ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("stride", "length"), [(0, 16), (4, 16), (7, 16), (10, 16), (3, 11), (0, 7)])
def test_windows_hold_every_token_and_share_what_they_should(stride, length):
    made = tokenizer()
    template = PairTemplate.of(made)
    contexts = [CHARACTERS[:size] for size in (0, 1, 10, 11, 12, 20)]
    contexts.append(CHARACTERS + CHARACTERS[::-1])
    asked, texts = tokenize_texts(made, [ASKED] * len(contexts)), tokenize_texts(made, contexts)
    options = {"max_length": length, "max_question_length": 3, "stride": stride}
    if length - 5 <= stride:
        with pytest.raises(ConfigError, match=rf"stride is {stride}, but max_length {length}.*leaves {length - 5}"):
            windows_beside_questions(asked, texts, template, **options)
        return
    windows = windows_beside_questions(asked, texts, template, **options)
    for number, context in enumerate(contexts):
        mine = [window for window in windows if window.text == number]
        assert mine[0].first == 0
        assert sum(window.first == 0 for window in mine) == 1
        assert {t for w in mine for t in range(w.first, w.first + w.count)} == set(range(len(context)))
        for before, after in pairwise(mine):
            assert before.first + before.count - after.first >= stride
            assert after.first > before.first
        for window in mine:
            part = context[window.first : window.first + window.count]
            whole = made.encode(ASKED, part)
            assert (window.token_ids, window.segment_ids) == (whole.token_ids, whole.segment_ids)
            assert len(window.token_ids) <= length
            inside = window.token_ids[window.shift : window.shift + window.count]
            assert inside == made.encode(part, add_special_tokens=False).token_ids
        assert len(mine) == 1 or all(len(window.token_ids) == length for window in mine)


def test_a_long_question_is_cut_with_a_note():
    made = reader(max_question_length=3, no_answer=False)
    _, windows = made._cut_up([Question("1", "饭菜", "我想要吃喝", None)], "mine")
    assert windows[0].token_ids == made.tokenizer.encode("我想要", "饭菜").token_ids
    assert "1 of 1 questions are longer than 3 tokens" in made.cut["mine: questions"]


def test_strides_that_cannot_be_are_refused():
    with pytest.raises(ConfigError, match=r"stride is 11, but max_length 16.*lower stride="):
        reader(stride=11).fit(questions(4), verbose=0)
    with pytest.raises(ConfigError, match="stride is -1"):
        reader(stride=-1).fit(questions(4), verbose=0)
    with pytest.raises(ConfigError, match="must be 1 or more"):
        reader(max_answer_length=0)


def test_the_mask_against_a_loop():
    windows = [Window(0, 0, count, shift, [], []) for count, shift in ((3, 2), (0, 4), (6, 1))]
    rows, length = np.array([2, -1, 0, 1, 2]), 8
    wanted = np.zeros((5, length), "int32")
    for place, row in enumerate(rows):
        wanted[place, 0] = 1
        for step in range(length):
            if row >= 0 and windows[row].shift <= step < windows[row].shift + windows[row].count:
                wanted[place, step] = 1
    found = AnswerMask(windows).gather(rows, length)
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("seed", range(6))
def test_best_spans_against_all_spans(seed):
    random = np.random.default_rng(seed)
    count, shift, first = int(random.integers(0, 60)), int(random.integers(1, 5)), int(random.integers(0, 50))
    scores = random.normal(size=(shift + count + 4, 2)).astype(np.float32)
    scores[: shift + 4, 1] += 50 * (seed % 2)  # the question and what is behind must not matter
    window = Window(0, first, count, shift, [], [])
    longest, wanted_count = int(random.integers(1, 20)), int(random.integers(1, 200))
    everything = [
        ((i + first, j + first), float(scores[shift + i, 0]) + float(scores[shift + j, 1]) - float(scores[0].sum()))
        for i in range(count)
        for j in range(i, min(count, i + longest))
    ]
    wanted = sorted(everything, key=lambda item: -item[1])[:wanted_count]
    found = best_spans(scores, window, longest, wanted_count)
    assert [place for place, _ in found] == [place for place, _ in wanted]
    np.testing.assert_allclose([score for _, score in found], [score for _, score in wanted], rtol=1e-5, atol=1e-5)


def test_the_best_spans_of_a_large_window_are_in_order():
    """Of small arrays a partition may come out sorted by chance."""
    scores = np.random.default_rng(0).normal(size=(301, 2)).astype(np.float32)
    found = [score for _, score in best_spans(scores, Window(0, 0, 300, 1, [], []), 30, 500)]
    assert len(found) == 500
    assert found == sorted(found, reverse=True)


# --- labels and answers -----------------------------------------------------------------------------------------------


def perfect_scores(task, data):
    """Scores that are large where the labels of the training batches are."""
    batches = task.training_batches(data, 4, seed=3)
    scores = {}
    for rows, (inputs, labels, weights) in zip(batches.order(), batches):
        for place, row in enumerate(rows):
            assert (row >= 0) == (weights[place] > 0)
            if row >= 0:
                mask = inputs["answer_mask"][place]
                assert mask[labels[place]].all(), "a label is where the mask allows it"
                scores[row] = np.full((len(mask), 2), -5, np.float32)
                for side in (0, 1):
                    scores[row][labels[place, side], side] = 5
    return scores


def test_the_labels_give_back_the_answers():
    made = reader()
    data = made.read(questions(48), "mine")
    made.prepare(data)
    assert made.no_answer is True
    scores = perfect_scores(made, data)
    assert len(scores) > 1.5 * len(data), "several windows a question"
    several = sum(bool((each[1:] > 0).any()) for each in scores.values())
    assert several > sum(example.answerable for example in data), "some answers lie in several windows"
    found = told(made, scores).predict(data)
    for example, each in zip(data, found):
        assert each.answer == (example.answers[0][1] if example.answers else "")
        if example.answers:
            assert (each.answers[0].start, each.answers[0].text) == example.answers[0]
            assert example.context[each.answers[0].start : each.answers[0].end] == each.answer
    assert made.evaluate(data).exact == 1.0
    assert not made.cut


def test_an_answer_inside_a_token_is_learnt_with_the_whole_token():
    vocabulary = Tokenizer.from_vocabulary(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"在年想要", "1919", "##x"])
    made = ReadingComprehension(backbone(vocab_size=11), vocabulary, max_length=16, stride=2)
    data = made.read([("在1919年", ASKED, [(1, "191")]), ("在1919年", ASKED, [(1, "1919")])], "mine")
    made.prepare(data)
    scores = perfect_scores(made, data)
    assert "item 1: the answer begins or ends within a token" in made.cut["mine: tokens"]
    assert "1 of 2" in made.cut["mine: tokens"]
    assert [each.answer for each in told(made, scores).predict(data)] == ["1919", "1919"]


def test_an_answer_that_no_window_holds_is_noted():
    made = reader(stride=0)
    data = made.read([("我" * 10 + "饭菜饭" + "我" * 10, ASKED, "饭菜饭")], "mine")
    made.prepare(data)
    scores = perfect_scores(made, data)
    assert not any((each[1:] > 0).any() for each in scores.values())
    assert "item 1: no window holds the whole answer" in made.cut["mine: windows"]


def test_where_all_spans_are_below_nothing_there_is_no_answer():
    one = [("我饭", ASKED)]
    low = {0: np.array([[0, 0]] + [[-9, -9]] * 3 + [[-4, -4], [-2, -3]] + [[-9, -9]], np.float32)}
    knows, does_not = (told(reader(no_answer=value), low) for value in (True, False))
    (found,) = knows.predict(one, n_best=9)
    assert [answer.text for answer in found.answers] == ["", "饭", "我饭", "我"]
    (found,) = does_not.predict(one, n_best=9)
    assert [answer.text for answer in found.answers] == ["饭", "我饭", "我"]
    wanted = np.exp([-5.0, -7.0, -8.0])
    np.testing.assert_allclose([answer.probability for answer in found.answers], wanted / wanted.sum(), rtol=1e-5)
    between = {0: low[0] + np.array([[-3, -3]] + [[0, 0]] * 6, np.float32)}  # nothing is now the second best
    (found,) = told(reader(no_answer=True), between).predict(one, n_best=2)
    assert [answer.text for answer in found.answers] == ["饭", ""]
    assert (found.answers[1].start, found.answers[1].end) == (0, 0)


@pytest.mark.parametrize("no_answer", [True, False])
def test_probabilities_fall_and_sum_to_at_most_one(no_answer):
    made = reader(no_answer=no_answer)
    data = made.read(questions(12), "mine")
    random = np.random.default_rng(0)
    _, windows = made._cut_up(data, "mine")
    told(made, {row: random.normal(size=(16, 2)) * 3 for row in range(len(windows))})
    whole = made.predict(data, n_best=10_000)
    for each in whole:
        shares = [answer.probability for answer in each.answers]
        assert shares == sorted(shares, reverse=True)
        assert sum(shares) == pytest.approx(1)
        assert ("" in [answer.text for answer in each.answers]) is no_answer
        assert len({(answer.start, answer.end) for answer in each.answers}) == len(shares)
    for few, many in zip(made.predict(data, n_best=3), whole):
        assert len(few.answers) == min(3, len(many.answers))
        assert few.answers[0].text == many.answers[0].text
        assert sum(answer.probability for answer in few.answers) <= 1 + 1e-6
    with pytest.raises(ConfigError, match="n_best is 0"):
        made.predict(data, n_best=0)


def test_the_longest_answer_counts_tokens():
    rising = {0: np.array([[0, 0]] * 4 + [[9, 0], [8, 0], [0, 9]] + [[-9, -9]] * 9, np.float32)}
    for longest, wanted in ((3, "我饭菜"), (2, "饭菜")):
        made = told(reader(no_answer=False, max_answer_length=longest), rising)
        assert made.predict([("我饭菜", ASKED)])[0].answer == wanted


# --- learning ---------------------------------------------------------------------------------------------------------


def test_it_learns_where_the_answer_is_and_that_there_is_none(trained):
    report = trained.evaluate(questions(60, start=7))
    assert trained.no_answer is True
    assert report.unanswerable == 15
    assert report.exact > 0.9
    assert report.unanswerable_exact > 0.9


def test_batches_and_order_change_nothing(trained):
    data = questions(9, start=8)
    heard = []
    one, four = trained.predict(data, batch_size=1), trained.predict(data, batch_size=4, done=heard.append)
    assert sum(heard) == 9
    for left, right, row in zip(one, four, data):
        assert (left.question, left.answer) == (row["question"], right.answer)
        assert left.answers[0].probability == pytest.approx(right.answers[0].probability, abs=1e-5)


def test_saved_and_loaded_it_says_the_same(trained, tmp_path):
    data = questions(8, start=9)
    again = load(trained.save(tmp_path / "model"))
    assert isinstance(again, ReadingComprehension)
    kept = ("no_answer", "max_length", "max_question_length", "max_answer_length", "stride", "dropout")
    assert [getattr(again, key) for key in kept] == [getattr(trained, key) for key in kept]
    assert again.predict(data) == trained.predict(data)


def test_nothing_to_read_or_to_ask(trained):
    assert trained.predict([]) == []
    found = trained.predict([("饭", "  "), ("饭菜", ASKED)])
    assert len(found) == 2, "one for each, also for an empty question"
    bare = Questions("mine", [Question("1", "", ASKED, None), Question("2", "  ", " ", None)], [])
    assert [each.answer for each in trained.predict(bare)] == ["", ""]
    assert [each.answers[0].probability for each in trained.predict(bare)] == [1.0, 1.0]
    with pytest.raises(DataError, match="item 1: the context is empty"):
        trained.predict([(" ", ASKED)])
    with pytest.raises(DataError, match=r"predict takes a list of \(context, question\)"):
        trained.predict("饭")


def test_unlabelled_questions_are_refused_for_training_and_scores(trained):
    bare = trained.read([("饭", ASKED), ("菜", ASKED)], "mine", labelled=False)
    for use in (reader().fit, trained.evaluate):
        with pytest.raises(DataError, match=r"mine, item 1: no answers; .*labelled=True"):
            use(bare)


def test_before_fit_it_says_what_to_do(tmp_path):
    for act in (lambda: reader().predict([("饭", ASKED)]), lambda: reader().save(tmp_path / "never")):
        with pytest.raises(ConfigError, match="call fit, or give"):
            act()
    reader(no_answer=False).save(tmp_path / "model")
    assert load(tmp_path / "model").no_answer is False
