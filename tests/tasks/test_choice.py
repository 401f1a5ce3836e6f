"""Multiple choice: rows, batches and the loss against plain loops; a small model that learns."""

import keras
import numpy as np
import pytest
from keras import ops

from qingformer import backend
from qingformer.data.choice import BLANK
from qingformer.errors import ConfigError, DataError
from qingformer.objectives import FGM, GradientAccumulation, RDrop
from qingformer.tasks import MultipleChoice, load
from qingformer.tasks.choice.choice_batches import ChoiceBatches, ChoiceCrossentropy
from qingformer.tasks.choice.multiple_choice import ChoiceRow
from tests.tasks.helpers import FIT, WORDS, backbone, tokenizer

FOOD, OTHERS = WORDS["food"], WORDS["music"] + WORDS["weather"]


def questions(count, start=0, choices=(2, 3), blank=True):
    """The right choice is what is to eat or drink; every other text has a blank, if any has."""
    random = np.random.default_rng(start)
    rows = []
    for number in range(count):
        texts = list(random.choice(list(OTHERS), choices[number % len(choices)], replace=False))
        answer = number % len(texts)
        texts[answer] = FOOD[number % 4]
        filler = "".join(random.choice(list("我一二三四五"), random.integers(1, 6)))
        if blank and number % 2:
            rows.append({"content": filler + BLANK + filler[::-1], "candidates": texts, "answer": texts[answer]})
        else:
            rows.append({"context": filler, "question": "想要", "choices": texts, "answer": answer})
    return rows


def model(**options):
    return MultipleChoice(backbone(), tokenizer(), **{"max_length": 16} | options)


@pytest.fixture(scope="module")
def trained():
    made = model()
    made.fit(questions(96), **FIT | {"batch_size": 8, "epochs": 14})
    return made


# --- rows -------------------------------------------------------------------------------------------------------------


def rows_of(made, *rows):
    return made._rows(made.read(list(rows), "mine", labelled=False))


def test_rows_are_what_the_tokenizer_makes_of_the_pair():
    made = model()
    plain, blank = rows_of(
        made,
        {"context": "我想", "question": "要", "choices": ["饭", "菜吃"]},
        {"content": f"一{BLANK}二", "candidates": ["饭", "菜吃"]},
    )
    wanted = [("我想", "要饭"), ("我想", "要菜吃"), ("一饭二", "饭"), ("一菜吃二", "菜吃")]
    for row, pair in zip([*plain, *blank], wanted, strict=True):
        encoding = made.tokenizer.encode(*pair)
        assert (row.token_ids, row.segment_ids) == (encoding.token_ids, encoding.segment_ids)
    assert not made.cut


def test_of_a_long_text_question_and_choice_are_kept():
    made = model(max_length=10)
    ((row, _),) = rows_of(made, {"context": "一二三四五" * 4, "question": "我想", "choices": ["饭菜", "吃"]})
    assert row.token_ids == made.tokenizer.encode("一二三", "我想饭菜").token_ids
    assert "2 of 2 texts are longer than max_length= 10" in made.cut["mine: long"]


def test_of_a_long_text_the_place_of_the_blank_is_kept():
    made = model(max_length=10)
    for before, after, wanted in (("一二" * 9, "三四" * 9, "二饭三四三"), ("一", "三四" * 9, "一饭三四三"),
                                  ("一二" * 9, "", "一二"), ("一二" * 9, "三", "二一二饭三")):  # fmt: skip
        ((row, _),) = rows_of(made, {"content": before + BLANK + after, "candidates": ["饭", "菜吃"]})
        left = made.tokenizer.decode(row.token_ids, skip_special_tokens=False).replace(" ", "").split("[SEP]")[0]
        inner = left.removeprefix("[CLS]")
        assert len(row.token_ids) == 10
        assert "饭" in inner, (before, after, inner)
        if after:
            assert wanted in inner


def test_of_a_long_question_the_choice_is_kept():
    made = model(max_length=8)
    ((first, second),) = rows_of(made, {"context": "我", "question": "一二三四五", "choices": ["饭", "菜"]})
    assert first.token_ids == made.tokenizer.encode("", "二三四五饭").token_ids
    assert second.token_ids == made.tokenizer.encode("", "二三四五菜").token_ids
    assert "2 of 2 texts" in made.cut["mine: long"]
    made.cut.clear()
    rows_of(made, {"context": "", "question": "一二三四五", "choices": ["饭", "菜"]})
    assert "2 of 2 texts" in made.cut["mine: long"], "also where there is no text to cut"


# --- batches ----------------------------------------------------------------------------------------------------------


def some_batches(**options):
    random = np.random.default_rng(0)
    features = [
        [
            ChoiceRow(random.integers(5, 20, size).tolist(), [0] * size)
            for size in random.integers(2, 15, number % 3 + 2)
        ]
        for number in range(11)
    ]
    answers = np.array([number % len(each) for number, each in enumerate(features)])
    made = {"batch_size": 4, "buckets": (8, 16), "choices": 4, "seed": 1} | options
    return features, answers, ChoiceBatches(features, answers, np.arange(11) + 1.0, **made)


@pytest.mark.parametrize("shuffle", [True, False])
def test_batches_against_loops(shuffle):
    features, answers, batches = some_batches(shuffle=shuffle)
    seen = []
    for numbers, (inputs, labels, weights) in zip(batches.order(), batches, strict=True):
        length = inputs["token_ids"].shape[1]
        assert labels.shape == (16, 1)
        assert (labels.dtype, weights.dtype) == (np.int32, np.float32)
        for place, number in enumerate(numbers):
            seen.append(number)
            for choice in range(4):
                row = place * 4 + choice
                there = number >= 0 and choice < len(features[number])
                ids = features[number][choice].token_ids if there else []
                assert inputs["token_ids"][row].tolist() == ids + [0] * (length - len(ids))
                assert inputs["padding_mask"][row].sum() == max(len(ids), 1)
                assert labels[row, 0] == (int(choice == answers[number]) if there else -1)
                assert weights[row] == (number + 1 if number >= 0 else 0)
    assert sorted(number for number in seen if number >= 0) == list(range(11))
    assert seen.count(-1) > 0


def test_batches_go_on_where_they_were():
    _, _, batches = some_batches()
    _, _, later = some_batches(start=(1, 1))
    batches.start_at(1, 0)
    whole = list(batches)[1:]
    assert len(later) == len(whole) > 1
    for left, right in zip(whole, later, strict=True):
        keras.tree.map_structure(np.testing.assert_array_equal, left, right)
    order = batches.order(0).tolist()
    assert order != batches.order(1).tolist()


def test_batches_for_prediction_and_what_they_refuse():
    features, answers, _ = some_batches()
    ((inputs,), *_) = ChoiceBatches(features, None, choices=5, batch_size=4, buckets=(16,), shuffle=False)
    assert inputs["token_ids"].shape == (20, 16)
    with pytest.raises(DataError, match="question 1 has 3 choices; expected 1 to 2"):
        ChoiceBatches(features, answers, choices=2)
    with pytest.raises(DataError, match="question 0 has 0 choices"):
        ChoiceBatches([[]], answers[:1], choices=2)


# --- loss -------------------------------------------------------------------------------------------------------------


def plain_loss(labels, scores, choices):
    values = []
    for mine, each in zip(labels.reshape(-1, choices), scores.astype("float64").reshape(-1, choices)):
        if (mine > 0).any():
            there = each[mine >= 0]
            values.append(np.log(np.exp(there - there.max()).sum()) + there.max() - each[mine > 0][0])
        else:
            values.append(0.0)
    return np.array(values)


LABELS = np.array([[0, 1, -1], [1, 0, 0], [0, 0, 1], [-1, -1, -1]], "int32").reshape(-1, 1)


def test_the_loss_and_its_gradient():
    scores = np.random.default_rng(0).normal(size=(12, 1)).astype("float32") * 3
    weights = np.repeat(np.array([1.0, 2.0, 0.5, 0.0], "float32"), 3)
    loss = ChoiceCrossentropy(3)
    wanted = plain_loss(LABELS, scores, 3)
    single = ChoiceCrossentropy(3, reduction="none")(LABELS, scores)
    np.testing.assert_allclose(ops.convert_to_numpy(single), wanted, rtol=1e-5)
    assert float(loss(LABELS, scores)) == pytest.approx(wanted.mean(), rel=1e-5)
    weighted = (wanted * weights[::3]).mean()
    assert float(loss(LABELS, scores, weights)) == pytest.approx(weighted, rel=1e-5)
    _, (found,) = backend.value_and_grad(lambda values: loss(LABELS, values[0], weights))([ops.array(scores)])
    step = 1e-4
    for row in range(12):
        moved = np.zeros((12, 1))
        moved[row] = step
        up, down = (
            (plain_loss(LABELS, scores + sign * moved, 3) * weights[::3]).mean() for sign in (1, -1)
        )  # fmt: skip
        assert float(found[row, 0]) == pytest.approx((up - down) / (2 * step), abs=1e-4)
    assert float(found[2, 0]) == 0, "a missing choice has no gradient"


@pytest.mark.parametrize("size", [1e3, 1e30, np.inf])
def test_extreme_scores(size):
    right = np.array([[size], [-size]], "float32")
    assert float(ChoiceCrossentropy(2)([[1.0], [0.0]], right)) == 0
    wrong = float(ChoiceCrossentropy(2)([[0.0], [1.0]], right))
    assert np.isfinite(wrong)
    assert wrong >= 1e3


def test_a_missing_choice_counts_for_nothing():
    two = float(ChoiceCrossentropy(2)([[1.0], [0.0]], [[2.0], [1.0]]))
    four = float(ChoiceCrossentropy(4)([[1.0], [0.0], [-1.0], [-1.0]], [[2.0], [1.0], [50.0], [np.inf]]))
    assert four == pytest.approx(two)


def test_the_loss_refuses_what_it_cannot_read():
    with pytest.raises(ConfigError, match="at least 2"):
        ChoiceCrossentropy(1)
    with pytest.raises(ConfigError, match="3 rows are not a whole number of questions with 2 choices"):
        ChoiceCrossentropy(2)(np.zeros((3, 1)), np.zeros((3, 1)))
    again = keras.losses.deserialize(keras.losses.serialize(ChoiceCrossentropy(3)))
    assert again.choices == 3


# --- learning ---------------------------------------------------------------------------------------------------------


def test_it_learns_what_can_be_learnt(trained):
    held_out = questions(40, start=5)
    report = trained.evaluate(held_out)
    assert report.accuracy == 1.0
    assert report.accuracy == trained.score(trained.read(held_out, "mine"))["accuracy"]


@pytest.mark.parametrize("choices", [(2,), (5, 3, 4)])
def test_other_numbers_of_choices_than_in_training(trained, choices):
    data = questions(12, start=6, choices=choices)
    heard = []
    found = trained.predict(data, batch_size=4, done=heard.append)
    assert sum(heard) == 12
    for number, (each, row) in enumerate(zip(found, data)):
        texts = row.get("choices") or row["candidates"]
        assert each.text == texts[each.number] == FOOD[number % 4]
        assert len(each.probabilities) == len(texts)
        assert sum(each.probabilities) == pytest.approx(1, abs=1e-5)
        assert max(each.probabilities) == each.probabilities[each.number]


def test_batches_change_nothing(trained):
    data = questions(7, start=11)
    for left, right in zip(trained.predict(data, batch_size=1), trained.predict(data, batch_size=4)):
        assert left.text == right.text
        np.testing.assert_allclose(left.probabilities, right.probabilities, atol=1e-5)


def test_saved_and_loaded_it_says_the_same(trained, tmp_path):
    again = load(trained.save(tmp_path / "model"))
    assert isinstance(again, MultipleChoice)
    assert again.predict(questions(8, 3)) == trained.predict(questions(8, 3))


def test_nothing_to_choose_and_unlabelled_questions(trained):
    assert trained.predict([]) == []
    with pytest.raises(DataError, match="predict takes a list of questions"):
        trained.predict("饭")
    bare = trained.read(questions(3), "mine", labelled=False)
    for use in (model().fit, trained.evaluate):
        with pytest.raises(DataError, match=r"mine, item 1: no answer; .*labelled=True"):
            use(bare)


TRY = FIT | {"epochs": 1, "batch_size": 8}


def test_accumulated_gradients_are_those_of_the_batch():
    data = questions(24)
    plain = model(dropout=0.0).fit(data, **TRY)["loss"]
    parts = model(dropout=0.0).fit(data, transforms=[GradientAccumulation(4)], **TRY)["loss"]
    assert parts == pytest.approx(plain, rel=1e-4)
    if keras.backend.backend() == "tensorflow":
        return  # the size of a part is not known when its step is made: TensorFlow itself refuses to reshape it
    with pytest.raises(
        ConfigError, match=r"1 rows are not a whole number of questions with 3 choices.*GradientAccumulation"
    ):
        model().fit(data, transforms=[GradientAccumulation(8)], **TRY | {"batch_size": 4})


def test_adversarial_training_changes_the_run_and_r_drop_compares_choices():
    data = questions(24)
    plain = model().fit(data, **TRY)["loss"]
    assert model().fit(data, transforms=[FGM(0.5)], **TRY)["loss"][0] > plain[0]
    compared = model().fit(data, transforms=[RDrop(4.0)], **TRY)
    assert np.isfinite(compared["loss"]).all()
