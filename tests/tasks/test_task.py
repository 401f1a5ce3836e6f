"""What all tasks share: scores after each epoch, the best one kept, resuming, files, adapters, settings."""

import doctest
import json

import keras
import numpy as np
import pytest

from qingformer.errors import CheckpointError, ConfigError, DataError
from qingformer.optimizers import ExponentialMovingAverage
from qingformer.tasks import (
    MultipleChoice,
    ReadingComprehension,
    RelationExtractor,
    SequenceTagger,
    TextClassifier,
    load,
    predictor,
)
from qingformer.tasks import windows as cutting
from qingformer.tasks.choice import choice_batches, multiple_choice
from qingformer.tasks.reading import answer_mask, reading_comprehension
from qingformer.tasks.task_registry import TASKS
from qingformer.training import TrainingInterrupted
from qingformer.training.curve import read_curve
from tests.tasks.helpers import FIT, VOCABULARY, backbone, tokenizer
from tests.tasks.test_choice import questions
from tests.tasks.test_reading import questions as asked

SHORT = FIT | {"epochs": 4, "batch_size": 8}


def chooser(**options):
    return MultipleChoice(backbone(), tokenizer(), **{"max_length": 16} | options)


def reader(**options):
    return ReadingComprehension(backbone(), tokenizer(), **{"max_length": 16, "stride": 4} | options)


def weights_of(made):
    return [keras.ops.convert_to_numpy(weight).copy() for weight in made.model.trainable_weights]


def same(left, right):
    return all(np.array_equal(one, other) for one, other in zip(left, right, strict=True))


class After(keras.callbacks.Callback):
    """The weights and logs that a caller's callback finds after each epoch."""

    def __init__(self):
        super().__init__()
        self.weights, self.logs = [], []

    def on_epoch_end(self, epoch, logs=None):
        self.weights.append([keras.ops.convert_to_numpy(weight).copy() for weight in self.model.trainable_weights])
        self.logs.append(dict(logs))


@pytest.mark.parametrize("averaged", [pytest.param(False, marks=pytest.mark.slow), True])
@pytest.mark.parametrize("on_disk", [False, True])
def test_scores_of_each_epoch_and_the_best_one_put_back(monkeypatch, tmp_path, on_disk, averaged):
    """Scores are forced: the second epoch is the best, and the fourth only equals it."""
    forced, scored = iter([0.25, 0.75, 0.5, 0.75]), []

    def scores(self, examples):
        scored.append(weights_of(self))
        return {"accuracy": next(forced), "other": np.float32(0.5)}

    monkeypatch.setattr(MultipleChoice, "score", scores)
    made, after, events = chooser(), After(), []
    options = SHORT | {"callbacks": [after], "progress": events.append}
    if averaged:
        options["optimizer"] = ExponentialMovingAverage(keras.optimizers.Adam(1e-2))
        options.pop("learning_rate", None)
    if on_disk:
        options["directory"] = tmp_path / "run"
    curve = made.fit(questions(24), questions(8, 1), **options)
    assert curve["val_accuracy"] == [0.25, 0.75, 0.5, 0.75]
    assert curve["val_other"] == [0.5] * 4
    assert [logs["val_accuracy"] for logs in after.logs] == curve["val_accuracy"], "before the caller's callbacks"
    epochs = [event.logs for event in events if event.kind == "epoch"]
    assert [logs["val_accuracy"] for logs in epochs] == curve["val_accuracy"]
    for before, raw in zip(scored, after.weights):
        assert same(before, raw) is not averaged, "the averages are scored, and training goes on without them"
    assert not same(scored[1], scored[3])
    assert same(weights_of(made), scored[1])
    if on_disk:
        assert same(weights_of(load(tmp_path / "run")), scored[1])
        lines = [row for row in read_curve(tmp_path / "run" / "curve.jsonl") if "val_accuracy" in row]
        assert [row["val_accuracy"] for row in lines] == curve["val_accuracy"]


@pytest.mark.parametrize("on_disk", [pytest.param(False, marks=pytest.mark.slow), True])
def test_without_validation_data_the_last_averages_are_kept(tmp_path, on_disk):
    made, after = chooser(), After()
    options = SHORT | {"epochs": 2, "callbacks": [after]}
    options |= {"optimizer": ExponentialMovingAverage(keras.optimizers.Adam(1e-2))}
    options.pop("learning_rate", None)
    if on_disk:
        options["directory"] = tmp_path / "run"
    curve = made.fit(questions(24), **options)
    assert list(curve) == ["loss"]
    assert not same(weights_of(made), after.weights[-1])
    if on_disk:
        assert same(weights_of(load(tmp_path / "run")), weights_of(made))


def test_callbacks_see_the_weights_of_training_in_their_order():
    order = []

    class Named(keras.callbacks.Callback):
        def __init__(self, name):
            super().__init__()
            self.name = name

        def on_epoch_end(self, epoch, logs=None):
            order.append((self.name, "val_accuracy" in logs))

    chooser().fit(questions(8), questions(8, 1), callbacks=[Named("a"), Named("b")], **SHORT | {"epochs": 1})
    assert order == [("a", True), ("b", True)]


@pytest.mark.parametrize(("make", "rows"), [
    (chooser, questions), pytest.param(reader, asked, marks=pytest.mark.slow)
])  # fmt: skip
def test_a_run_that_was_stopped_goes_on_exactly(tmp_path, make, rows):
    train, held_out = rows(36), rows(12, 3)
    options = SHORT | {"save_every": 2}
    made = make()
    whole = made.fit(train, held_out, directory=tmp_path / "whole", **options)

    class Stop(keras.callbacks.Callback):
        epoch = 0

        def on_epoch_begin(self, epoch, logs=None):
            self.epoch = epoch

        def on_train_batch_end(self, batch, logs=None):
            if self.epoch == 2 and batch == 2:
                raise TrainingInterrupted("test")

    with pytest.raises(TrainingInterrupted):
        make().fit(train, held_out, directory=tmp_path / "cut", callbacks=[Stop()], **options)
    again = make()
    resumed = again.fit(train, held_out, directory=tmp_path / "cut", resume=True, **options)
    assert resumed.keys() == whole.keys()
    assert len(whole["loss"]) == SHORT["epochs"]
    for key, values in whole.items():
        np.testing.assert_allclose(resumed[key], values, rtol=1e-5, atol=1e-6)
    for left, right in zip(weights_of(made), weights_of(again), strict=True):
        np.testing.assert_allclose(left, right, atol=1e-5)
    assert load(tmp_path / "cut").predict(held_out) == again.predict(held_out)


# --- files and settings -----------------------------------------------------------------------------------------------


def one_of_each():
    options = {"max_length": 16, "dropout": 0}
    return [
        TextClassifier(backbone(), tokenizer(), labels=["a", "b"], **options),
        SequenceTagger(backbone(), tokenizer(), labels=["a", "b"], stride=2, **options),
        RelationExtractor(backbone(), tokenizer(), relations=["a", "b"], stride=2, **options),
        ReadingComprehension(backbone(), tokenizer(), no_answer=True, stride=2, **options),
        MultipleChoice(backbone(), tokenizer(), **options),
    ]


def test_every_task_is_loaded_as_it_was_saved(tmp_path):
    made = one_of_each()
    ours = [cls for cls in TASKS.values() if cls.__module__.startswith("qingformer.")]
    assert {type(each) for each in made} == set(ours)
    for each in made:
        again = load(each.save(tmp_path / each.task_name))
        assert type(again) is type(each)
        for key, kind in each.settings_types.items():
            assert type(getattr(again, key)) is kind
            assert getattr(again, key) == getattr(each, key)
        assert same(weights_of(again), weights_of(each))
        other = next(cls for cls in ours if cls is not type(each))
        with pytest.raises((CheckpointError, ConfigError), match=r"task\.json: (unknown key|\w+ is)"):
            other.load(tmp_path / each.task_name)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stride": "4"}, r"task.json: stride is '4', expected int"),
        ({"no_answer": None}, r"task.json: no_answer is None, expected bool"),
        ({"colour": 1}, r"task.json: unknown key 'colour'; known keys: .*stride"),
        ({"max_length": 99}, r"max_length is 99.*3 to 32"),
        ({"max_answer_length": 0}, "max_answer_length 0"),
        ({"dropout": 2.0}, "dropout is 2.0"),
        ({"task": "poetry"}, "task 'poetry' is not known; known tasks: .*reading-comprehension"),
    ],
)
def test_wrong_settings_are_named(tmp_path, change, message):
    path = reader(no_answer=True).save(tmp_path / "model") / "task.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises((CheckpointError, ConfigError), match=message):
        load(tmp_path / "model")


def test_options_go_to_the_class_or_to_the_backbone(tmp_path):
    backbone().save_pretrained(tmp_path / "bert", tokenizer=tokenizer())
    made = ReadingComprehension.from_pretrained(
        tmp_path / "bert", max_length=20, stride=3, no_answer=False, seed=4, dtype="bfloat16"
    )
    assert (made.max_length, made.stride, made.no_answer, made.seed) == (20, 3, False, 4)
    assert made.backbone.token_embedding.compute_dtype == "bfloat16"
    assert made.tokenizer.vocab_size == len(VOCABULARY)
    with pytest.raises(ConfigError, match=r"max_length is 384.*3 to 32"):
        ReadingComprehension.from_pretrained(tmp_path / "bert")
    with pytest.raises((TypeError, ConfigError), match="colour"):
        ReadingComprehension.from_pretrained(tmp_path / "bert", max_length=20, colour=1)


def test_what_is_not_trained_says_what_to_do():
    for cls, hint in [
        (SequenceTagger, "or give labels"),
        (RelationExtractor, "or give relations"),
        (ReadingComprehension, "or give no_answer"),
        (MultipleChoice, "call fit$"),
    ]:
        with pytest.raises(ConfigError, match=rf"this {cls.__name__} has no .*call fit.*") as found:
            cls.from_scratch("tiny").predict([])
        found.match(hint)


def test_data_are_checked_without_training(tmp_path):
    made = reader()
    made.check_data(asked(8), asked(3))
    assert made.no_answer is True
    path = tmp_path / "dev.jsonl"
    path.write_text(
        '{"context": "饭", "question": "想", "answer": "饭"}\n{"context": "饭", "question": "想"}\n', "utf-8"
    )
    with pytest.raises(DataError, match=r"dev.jsonl, line 2: no field \"answers\""):
        made.check_data(asked(8), path)
    bare = made.read([("饭", "想要")], "mine", labelled=False)
    with pytest.raises(DataError, match="mine, item 1: no answers"):
        made.check_data(asked(8), bare)


# --- adapters ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def adapted(tmp_path_factory):
    made = reader()
    made.backbone.enable_lora(4)
    made.fit(asked(32), **SHORT | {"epochs": 2})
    return made, made.save_adapters(tmp_path_factory.mktemp("adapters") / "food")


def test_adapters_go_onto_the_same_encoder(adapted, tmp_path):
    made, folder = adapted
    data = asked(8, 5)
    assert not (folder / "model.safetensors").exists()
    again = reader()
    assert again.load_adapters(folder)
    assert again.no_answer is True
    for left, right in zip(again.predict(data), made.predict(data)):
        assert left.answer == right.answer
        assert left.answers[0].probability == pytest.approx(right.answers[0].probability, abs=1e-5)
    whole = load(made.save(tmp_path / "whole"))
    assert [each.answer for each in whole.predict(data)] == [each.answer for each in made.predict(data)]


def test_adapters_of_another_task_are_refused(adapted):
    _, folder = adapted
    with pytest.raises(CheckpointError, match="those of a reading-comprehension, not of a multiple-choice"):
        chooser().load_adapters(folder)
    with pytest.raises(CheckpointError, match="trained for the no_answer True where this task has False"):
        reader(no_answer=False).load_adapters(folder)
    with pytest.raises(ConfigError, match="no encoder yet"):
        ReadingComprehension.from_scratch("tiny").load_adapters(folder)
    with pytest.raises((CheckpointError, ConfigError), match=r"adapters|enable_lora"):
        reader(no_answer=True).save_adapters(folder.parent / "none")


def test_adapters_that_do_not_fit_change_nothing(adapted):
    _, folder = adapted
    other = ReadingComprehension(backbone(hidden_size=8, intermediate_size=16), tokenizer(), max_length=16, stride=4)
    with pytest.raises(CheckpointError):
        other.load_adapters(folder)
    assert other.no_answer is None
    assert other.model is None


@pytest.mark.parametrize("module", [
    pytest.param(reading_comprehension, marks=pytest.mark.slow), pytest.param(multiple_choice, marks=pytest.mark.slow),
    answer_mask, cutting, choice_batches, predictor,
])  # fmt: skip
def test_docstring_examples_run(module):
    found = doctest.testmod(module)
    assert found.failed == 0
    assert found.attempted > 0
