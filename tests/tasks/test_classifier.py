"""The classifier learns, repeats, resumes, survives saving, and refuses what does not fit."""

import json
import warnings

import keras
import numpy as np
import pytest

import qingformer.tasks.storage as storage
from qingformer.data import MixedBatches
from qingformer.errors import CheckpointError, ConfigError, DataError
from qingformer.models import Backbone
from qingformer.objectives import FGM, VirtualAdversarialTraining
from qingformer.tasks import Columns, TextClassifier, load
from qingformer.tasks.classification.text_examples import inputs_of, read_examples
from qingformer.training import TrainingInterrupted
from tests.tasks.helpers import FIT, VOCABULARY, backbone, classifier, rows, tokenizer


@pytest.fixture(scope="module")
def trained():
    made = classifier(max_length=32)
    made.fit(rows(), **FIT)
    return made


def test_it_learns_what_can_be_learnt(trained):
    report = trained.evaluate(rows(30, start=200))
    assert report.accuracy == 1.0
    assert report.confusion == ((10, 0, 0), (0, 10, 0), (0, 0, 10))
    assert trained.labels == ["food", "music", "weather"]


def test_predictions_are_in_order_and_equal_the_model(trained):
    texts = ["我想听歌", "雨", "我要吃饭菜" + "一二三四五" * 4, "天气"] * 9  # the third is in a bucket of its own
    predictions = trained.predict(texts, batch_size=4)
    for text, found in zip(texts, predictions):
        encoding = trained.tokenizer.encode(text)
        inputs = {
            "token_ids": np.array([encoding.token_ids]),
            "segment_ids": np.array([encoding.segment_ids]),
            "padding_mask": np.ones((1, len(encoding.token_ids)), "int32"),
        }
        logits = keras.ops.convert_to_numpy(trained.model(inputs, training=False))[0]
        wanted = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
        assert list(found.probabilities) == trained.labels
        np.testing.assert_allclose([found.probabilities[label] for label in trained.labels], wanted, atol=2e-5)
        assert found.label == trained.labels[int(wanted.argmax())]
        assert found.probability == max(found.probabilities.values())


def test_predict_takes_one_text_none_and_no_probabilities(trained):
    assert trained.predict([]) == []
    (only,) = trained.predict(["想唱歌"], return_probabilities=False)
    assert (only.label, only.probabilities) == ("music", None)
    with pytest.raises(DataError, match="predict takes a list"):
        trained.predict("唱歌")


def test_progress_counts_texts_and_not_padding(trained):
    heard = []
    trained.predict(["天气"] * 9, batch_size=4, done=heard.append)
    assert heard == [4, 4, 1]


def test_predict_takes_tables_and_one_dictionary(trained):
    texts = ["天气晴", "唱歌", "吃饭"]
    expected = [prediction.label for prediction in trained.predict(texts)]
    for table in ({"text": texts, "label": list("abc")}, np.array(texts), (text for text in texts)):
        assert [prediction.label for prediction in trained.predict(table)] == expected
    assert [prediction.label for prediction in trained.predict({"text": "唱歌"})] == expected[1:2]
    assert trained.predict(np.array([])) == []
    assert trained.evaluate({"text": texts, "label": expected}).accuracy == 1


def test_a_length_of_numpy_is_saved(tmp_path):
    made = classifier(labels=[0, 1], max_length=np.int64(16))
    made.save(tmp_path / "model")
    settings = json.loads((tmp_path / "model" / "task.json").read_text("utf-8"))
    assert settings["max_length"] == 16
    assert settings["labels"] == ["0", "1"]
    with pytest.raises(ConfigError, match=r"max_length is 16.5; expected a whole number"):
        classifier(max_length=16.5)


def test_predict_reads_a_file(trained, tmp_path):
    path = tmp_path / "texts.jsonl"
    path.write_text('{"text": "唱歌"}\n{"text": "下雨"}\n', encoding="utf-8")
    assert [p.label for p in trained.predict(path)] == ["music", "weather"]


def test_saved_and_loaded_it_says_the_same(trained, tmp_path):
    trained.save(tmp_path / "model")
    again = load(tmp_path / "model")
    assert isinstance(again, TextClassifier)
    assert (again.labels, again.max_length, again.multi_label) == (trained.labels, 32, False)
    texts = [text for text, _ in rows(12)]
    assert again.predict(texts) == trained.predict(texts)
    assert Backbone.from_pretrained(tmp_path / "model").config == trained.backbone.config


def test_saving_over_a_model_that_fails_leaves_the_old_one(trained, tmp_path, monkeypatch):
    target = trained.save(tmp_path / "model")
    before = {path.name: path.read_bytes() for path in target.iterdir()}

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(storage, "write_safetensors", full)
    with pytest.raises(CheckpointError, match="cannot be written: No space"):
        classifier(labels=["a", "b"]).save(target)
    assert {path.name: path.read_bytes() for path in target.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize("name", ["head.safetensors", "model.safetensors", "vocab.txt", "config.json", "task.json"])
def test_a_missing_file_is_named(trained, tmp_path, name):
    target = trained.save(tmp_path / "model")
    (target / name).unlink()
    if name == "vocab.txt":
        (target / "tokenizer.json").unlink()
    with pytest.raises(ValueError, match=name.split(".")[0]):
        load(target)


def test_labels_that_do_not_fit_the_head_are_refused(trained, tmp_path):
    target = trained.save(tmp_path / "model")
    task = json.loads((target / "task.json").read_text())
    (target / "task.json").write_text(json.dumps(task | {"labels": ["a", "b"]}))
    with pytest.raises(CheckpointError, match=r"classifier/.*shape.*files belong to different models"):
        load(target)
    (target / "task.json").write_text(json.dumps(task | {"colour": 1}))
    with pytest.raises(ConfigError, match=r"task.json: unknown key 'colour'"):
        load(target)


def test_the_same_seed_is_the_same_run_and_another_is_not():
    first, again, other = (classifier().fit(rows(), seed=seed, **FIT)["loss"] for seed in (5, 5, 6))
    np.testing.assert_allclose(first, again, rtol=1e-6)
    assert np.abs(np.array(first) - other).max() > 1e-3


def test_a_run_that_was_stopped_goes_on_exactly(tmp_path):
    options = FIT | {"save_every": 2}
    whole = classifier().fit(rows(), rows(30, 200), directory=tmp_path / "whole", **options)

    class StopOnce(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            steps.append(batch)
            if stop and self.params and batch == 4 and self.seen:
                raise TrainingInterrupted("test")

        def on_epoch_end(self, epoch, logs=None):
            self.seen = True

        seen = False

    stop, steps = True, []
    with pytest.raises(TrainingInterrupted):
        classifier().fit(rows(), rows(30, 200), directory=tmp_path / "cut", callbacks=[StopOnce()], **options)
    stop, before, steps = False, len(steps), []
    resumed = classifier().fit(
        rows(), rows(30, 200), directory=tmp_path / "cut", resume=True, callbacks=[StopOnce()], **options
    )
    assert before - 3 <= 6 * FIT["epochs"] - len(steps) < before, "it went on from the last resume point"
    assert resumed.keys() == whole.keys()
    for key, values in whole.items():
        np.testing.assert_allclose(resumed[key], values, rtol=1e-5, atol=1e-6)
    texts = [text for text, _ in rows(12)]
    for left, right in zip(load(tmp_path / "whole").predict(texts), load(tmp_path / "cut").predict(texts)):
        assert left.label == right.label
        assert left.probability == pytest.approx(right.probability, abs=1e-5)


@pytest.mark.parametrize("on_disk", [True, False])
def test_the_best_epoch_is_put_back(tmp_path, on_disk):
    """The last epoch is trained with a rate that wrecks the model."""
    held_out = rows(30, 200)
    made = classifier()
    rate = keras.callbacks.LearningRateScheduler(lambda epoch: 1e-2 if epoch < FIT["epochs"] - 1 else 10.0)
    options = FIT | {"optimizer": keras.optimizers.Adam(1e-2), "learning_rate": None, "callbacks": [rate]}
    if on_disk:
        options["directory"] = tmp_path / "run"
    curve = made.fit(rows(), held_out, **options)
    best = max(curve["val_accuracy"])
    assert best != curve["val_accuracy"][-1], "the run must get worse for this test to say anything"
    assert made.evaluate(held_out).accuracy == pytest.approx(best)


def test_of_a_pair_the_second_text_is_read_as_such():
    """The label is that of the second text; the first is of another one."""
    pairs = [(other, text, label) for (text, label), (other, _) in zip(rows(), rows(start=31))]
    made = classifier()
    made.fit(pairs, **FIT | {"epochs": 14})
    assert made.evaluate(pairs).accuracy > 0.95
    assert made.evaluate([(text, other, label) for other, text, label in pairs]).accuracy < 0.5


def test_several_labels_a_text():
    def both(first, second):
        return (first[0] + second[0], sorted({first[1], second[1]}))

    data = [both(a, b) for a, b in zip(rows(90), rows(90, 31))] + [(text, [label]) for text, label in rows(30)]
    made = classifier(multi_label=True)
    made.fit([*data, ("一二", [])], data, **FIT | {"epochs": 20})
    found = made.predict([text for text, _ in data])
    right = sum(set(prediction.labels) == set(labels) for prediction, (_, labels) in zip(found, data))
    report = made.evaluate(data)
    assert report.subset_accuracy == pytest.approx(right / len(data))
    assert report.subset_accuracy > 0.4  # a guess of three independent labels has 1/8
    assert any(len(prediction.labels) == 2 for prediction in found)
    assert made.predict(["天气"], threshold=1.0)[0].labels == ()


def test_fgm_changes_the_run():
    plain = classifier().fit(rows(), **FIT)["loss"]
    adversarial = classifier().fit(rows(), transforms=[FGM(0.5)], **FIT)["loss"]
    assert adversarial[0] > plain[0]


def test_unlabelled_texts_are_in_every_batch_and_only_smooth(monkeypatch):
    batches = []
    original = MixedBatches._item
    monkeypatch.setattr(MixedBatches, "_item", lambda self, i: batches.append(original(self, i)) or batches[-1])
    others = [text for text, _ in rows(40, 96)]
    size = FIT["batch_size"]
    once = FIT | {"epochs": 1}
    both = once | {"unlabelled": others, "batch_size": 2 * size}
    plain = classifier().fit(rows(), **once)["loss"]
    assert classifier().fit(rows(), **both)["loss"] == pytest.approx(plain, rel=1e-4)  # nothing reads them
    assert classifier().fit(rows(), transforms=[VirtualAdversarialTraining()], **both)["loss"][0] > plain[0] + 1e-6
    assert len(batches) >= 2 * len(rows()) // size
    for inputs, _, weights in batches:
        assert len(weights) == 2 * size
        assert ((weights == 0) & (inputs["token_ids"] != 0).any(axis=1)).sum() == size
        assert (weights > 0).any()


def test_a_vocabulary_is_counted_from_unlabelled_texts_too():
    made = TextClassifier.from_scratch("tiny", max_length=8)
    made.prepare(read_examples([("好", "a"), ("坏", "b")]), read_examples(["新"], labelled=False))
    assert "新" in made.tokenizer.vocabulary


def test_class_weights_change_the_loss():
    data = rows(60) + [("天晴", "weather")] * 60
    plain = classifier().fit(data, **FIT)["loss"]
    balanced = classifier().fit(data, class_weights="balanced", **FIT)["loss"]
    assert abs(plain[0] - balanced[0]) > 1e-3


def test_over_long_texts_are_cut_and_reported():
    made = classifier(max_length=8)
    made.fit([*rows(), ("一二三四五我想要天气", "weather")], **FIT | {"epochs": 1})
    assert "item 97: the text has 12 tokens and was cut to 8" in made.cut["training data"]
    assert "1 of 97" in made.cut["training data"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([("天", "a"), ("气",)], r"training data, item 2: expected \(text, label\)"),
        ([("天", "a"), (3, "b")], r"training data, item 2, column 'text': expected a text in quotes, found int"),
        (
            [("天", "a"), ("气", None)],
            r"item 2, column 'label': no label .None.; .* skip_unlabelled=True",
        ),
        ([("天", "a"), ("气", "a")], r"training data: .*at least two labels, found only 'a'"),
        ([("天", "a"), ("气", float("nan"))], r"training data, item 2, column 'label': no label .nan."),
        ([], "training data: no examples"),
        ("天", "no such file"),
        (
            {"text": ["天", "气"], "label": ["a"]},
            r"training data: the columns have different lengths .text 2, label 1.",
        ),
        (["天", "气"], r"training data, item 1: expected .text, label. or"),
        ({("天", "a")}, "a set has no order"),
        (
            [{"text": "天", "label": "a"}, {"txt": "气", "label": "b"}],
            r"item 2, column 'text': the text is missing; .* .there are txt, label.",
        ),
    ],
)
def test_bad_training_data_is_named(data, message):
    with pytest.raises(DataError, match=message):
        classifier().fit(data, verbose=0)


def test_an_unknown_label_is_named_with_its_line(trained, tmp_path):
    path = tmp_path / "test.jsonl"
    path.write_text('{"s": "天气", "y": "weather"}\n\n{"s": "天气", "y": "sport"}\n', encoding="utf-8")
    columns = Columns(text="s", label="y")
    with pytest.raises(DataError, match=r"test.jsonl, line 3: label 'sport' is not known.*food, music, weather"):
        trained.evaluate(path, columns=columns)


def test_a_vocabulary_of_another_model_is_refused(tmp_path):
    from qingformer.tokenization import Tokenizer

    backbone().save_pretrained(tmp_path / "bert", tokenizer=tokenizer())
    (tmp_path / "other.txt").write_text("\n".join(VOCABULARY[:-1]) + "\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"other.txt: the vocabulary has 24 tokens but the weights have 25 rows"):
        TextClassifier.from_pretrained(tmp_path / "bert", vocabulary=tmp_path / "other.txt", max_length=16)
    with pytest.raises(ConfigError, match="26 tokens but the weights have 25 rows"):
        TextClassifier(backbone(), Tokenizer.from_vocabulary([*VOCABULARY, "more"]), max_length=16)


def test_spare_rows_at_the_end_of_the_table_stay_with_a_note_or_go_on_request(tmp_path):
    from qingformer.tokenization import Tokenizer

    shorter = Tokenizer.from_vocabulary(VOCABULARY[:-1])
    backbone().save_pretrained(tmp_path / "bert", tokenizer=shorter)
    with pytest.warns(UserWarning, match="rows 24 to 24 are spare; they stay, also in what is saved"):
        task = TextClassifier.from_pretrained(tmp_path / "bert", labels=["a", "b"], max_length=16)
    assert task.backbone.config.vocab_size == 25
    task.save(tmp_path / "task")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        again = TextClassifier.load(tmp_path / "task")
    assert (again.backbone.config.vocab_size, again.tokenizer.vocab_size) == (25, 24)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        cut = TextClassifier.from_pretrained(tmp_path / "bert", labels=["a", "b"], max_length=16, vocab_size=24)
    table = "token_embedding/embeddings"
    np.testing.assert_array_equal(cut.backbone.weight_arrays()[table], task.backbone.weight_arrays()[table][:24])
    with pytest.raises(CheckpointError, match="vocab_size is larger than the table; pass vocab_size=25"):
        TextClassifier.from_pretrained(tmp_path / "bert", labels=["a", "b"], max_length=16, vocab_size=30)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: classifier(max_length=64), r"max_length is 64.*3 to 32"),
        (lambda: classifier(labels=["a", "a"]), "'a' occurs twice"),
        (lambda: classifier(labels=["a"]), "at least two"),
        (lambda: classifier(labels="ab"), "list of labels"),
        (lambda: classifier(dropout=1.5, labels=["a", "b"]), "dropout is 1.5"),
        (lambda: TextClassifier.from_scratch("huge"), r"'huge' is not known; choose one of tiny, small, base"),
        (lambda: TextClassifier(None, None), "from_scratch"),
        (lambda: classifier().predict(["天"]), "call fit"),
        (lambda: classifier().save("never"), "nothing to save"),
        (lambda: classifier().fit(rows(), resume=True, verbose=0), "need a directory"),
        (lambda: classifier().fit(rows(), unlabelled=["天"], unlabelled_share=1, verbose=0), "unlabelled_share is 1"),
        (lambda: classifier().fit(rows(), unlabelled=["天"], batch_size=1, verbose=0), "at least two rows"),
        (lambda: classifier().fit(rows(), epochs=0, verbose=0), "epochs is 0"),
        (lambda: classifier().fit(rows(), class_weights={"x": 1.0}, verbose=0), "names 'x', which is not a label"),
    ],
)
def test_arguments_that_cannot_be_are_named(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def test_a_family_without_pooler_uses_the_first_position():
    made = TextClassifier(backbone(pooler=False), tokenizer(), max_length=16)
    made.fit(rows(), **FIT)
    assert made.evaluate(rows(30, 200)).accuracy > 0.9


def test_from_scratch_counts_its_vocabulary():
    made = TextClassifier.from_scratch("tiny", max_length=16)
    made.fit(rows(48), **FIT | {"epochs": 1, "learning_rate": None})
    assert set("天气歌曲") <= set(made.tokenizer.vocabulary)
    assert made.backbone.config.vocab_size == made.tokenizer.vocab_size


def test_half_precision_trains():
    made = TextClassifier.from_scratch("tiny", VOCABULARY, max_length=16, dtype="mixed_bfloat16")
    curve = made.fit(rows(), **FIT | {"learning_rate": 1e-3})
    assert made.backbone.token_embedding.compute_dtype == "bfloat16"
    assert curve["loss"][-1] < 0.7 * curve["loss"][0]


def test_texts_and_pairs_are_not_taken_for_each_other(tmp_path):
    texts, pairs = [("好看", "a"), ("难看", "b")], [("好看", "好", "a"), ("难看", "难", "b")]
    one = TextClassifier(backbone(), tokenizer(), max_length=16)
    with pytest.raises(DataError, match="validation data, item 1: a pair of texts"):
        one.fit(texts, pairs, epochs=1, verbose=0)
    with pytest.raises(DataError, match="held-out data, item 1: a pair of texts"):
        one.check_labels(texts, pairs)
    one.fit(texts, epochs=1, verbose=0)
    with pytest.raises(DataError, match="texts, item 2: a pair of texts, but this model was trained on single texts"):
        one.predict(["好看", ("好看", "好")])
    with pytest.raises(DataError, match="test data, item 1: a pair"):
        one.evaluate(pairs)
    two = TextClassifier(backbone(), tokenizer(), max_length=16)
    two.fit(pairs, epochs=1, verbose=0)
    two.save(tmp_path / "two")
    again = TextClassifier.load(tmp_path / "two")
    with pytest.raises(DataError, match="item 1: one text, but this model was trained on pairs"):
        again.predict(["好看"])
    assert len(again.predict([("好看", "好")])) == 1
    two.inputs = inputs_of(read_examples([("好看", None, "a"), *pairs]))
    assert two.inputs == "mixed"
    assert len(two.predict(["好看", ("好看", "好")])) == 2
    settings = json.loads((tmp_path / "two" / "task.json").read_text(encoding="utf-8"))
    (tmp_path / "two" / "task.json").write_text(json.dumps({k: v for k, v in settings.items() if k != "inputs"}))
    assert len(TextClassifier.load(tmp_path / "two").predict(["好看"])) == 1  # of an earlier version
