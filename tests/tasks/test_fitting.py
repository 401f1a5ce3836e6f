"""What `fit` refuses before it begins, what it never overwrites, and who may use a model meanwhile."""

import json
import math
import shutil
import threading

import keras
import numpy as np
import pytest

import qingformer as qf
from qingformer.errors import ConfigError
from qingformer.training import DivergenceError, TrainingStateError
from tests.tasks.helpers import FIT, classifier, rows

SHORT = FIT | {"epochs": 1}


def everything(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("rate", [math.nan, math.inf, -math.inf, -1e-3, 0, 0.0, "fast", True])
def test_a_learning_rate_that_cannot_be_is_refused(tmp_path, rate):
    with pytest.raises(ConfigError, match=r"learning_rate is .*expected a (finite )?number above 0"):
        classifier().fit(rows(12), **SHORT | {"learning_rate": rate}, directory=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("rate", [math.nan, math.inf, -1e-3])
def test_so_is_that_of_an_optimizer(rate):
    with pytest.raises(ConfigError, match="the learning rate of SGD is"):
        classifier().fit(rows(12), optimizer=keras.optimizers.SGD(rate), epochs=1)


@pytest.mark.parametrize("epochs", [0, -1, 2.5, "3", True])
def test_so_is_a_number_of_epochs(epochs):
    with pytest.raises(ConfigError, match=r"epochs is .*whole number"):
        classifier().fit(rows(12), **SHORT | {"epochs": epochs})


def test_another_run_is_not_overwritten_unless_that_is_asked_for(tmp_path):
    classifier().fit(rows(24), rows(12, 200), directory=tmp_path, **SHORT)
    (tmp_path / "notes.txt").write_text("mine")
    before = everything(tmp_path)
    with pytest.raises(ConfigError, match="holds a run already; continue it with resume=True"):
        classifier().fit(rows(24, 50), directory=tmp_path, **SHORT)
    with pytest.raises(ConfigError, match="choose one"):
        classifier().fit(rows(24, 50), directory=tmp_path, resume=True, overwrite=True, **SHORT)
    with pytest.raises(ConfigError, match="focall"):
        classifier().fit(rows(24, 50), directory=tmp_path, overwrite=True, loss="focall", **SHORT)
    assert everything(tmp_path) == before
    classifier(seed=3).fit(rows(24, 50), directory=tmp_path, overwrite=True, **SHORT)
    after = everything(tmp_path)
    assert after.keys() == before.keys()
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert sum(after[name] != before[name] for name in before) >= 3


def test_a_finished_run_with_more_epochs_goes_on_and_keeps_its_best(tmp_path):
    classifier().fit(rows(24), rows(12, 200), directory=tmp_path, **FIT | {"epochs": 2})
    curve = classifier().fit(rows(24), rows(12, 200), directory=tmp_path, resume=True, **FIT | {"epochs": 3})
    assert len(curve["loss"]) == 3
    with pytest.raises(qf.training.TrainingStateError, match="the training data are not those"):
        classifier().fit(rows(24, 3), rows(12, 200), directory=tmp_path, resume=True, **FIT | {"epochs": 3})
    with pytest.raises(qf.training.TrainingStateError, match="the validation data are not those"):
        classifier().fit(rows(24), rows(12, 300), directory=tmp_path, resume=True, **FIT | {"epochs": 3})


@pytest.fixture(scope="module")
def trained():
    made = classifier()
    made.fit(rows(48), **SHORT)
    return made


def spoil(task, value):
    variable = task.backbone.trainable_variables[0]
    variable.assign(np.full(variable.shape, value, "float32"))
    return variable.path


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_weights_that_are_not_finite_are_named_when_they_are_used(value):
    made = classifier(labels=["weather", "music", "food"])
    path = spoil(made, value)
    for use in (lambda: made.predict(["今天"]), lambda: made.evaluate(rows(6)), lambda: made.fit(rows(24), **SHORT)):
        with pytest.raises(DivergenceError, match=f"{path}|epoch 1, step 1: "):
            use()


def test_a_diverged_run_puts_the_best_weights_back(tmp_path):
    class Spoil(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                variable = self.model.trainable_variables[0]
                variable.assign(np.full(variable.shape, math.nan))

    for directory in (None, tmp_path / "run"):
        made = classifier()
        with pytest.raises(DivergenceError, match="epoch 2"):
            made.fit(rows(24), rows(12, 200), callbacks=[Spoil()], directory=directory, **FIT | {"epochs": 3})
        assert math.isfinite(made.predict(["天气"])[0].probability)
    assert qf.load(tmp_path / "run").predict(["天气"])[0].label == made.predict(["天气"])[0].label


def test_threads_predict_together_and_a_fit_refuses_them_meanwhile(trained):
    texts = [text for text, _ in rows(30, 100)]
    serial, found = trained.predict(texts), {}

    def predict(number):
        found[number] = trained.predict(texts)

    threads = [threading.Thread(target=predict, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(each == serial for each in found.values())
    answers = []

    class Meanwhile(keras.callbacks.Callback):
        """Another thread predicts within a step's time; so does the thread that trains, between two epochs."""

        def on_train_batch_begin(self, batch, logs=None):
            thread = threading.Thread(target=self.other)
            thread.start()
            thread.join()

        def other(self):
            for use in (lambda: trained.predict(texts), lambda: trained.fit(rows(24), **SHORT)):
                with pytest.raises(ConfigError, match="being trained"):
                    use()
            answers.append("refused")

    trained.fit(rows(48), callbacks=[Meanwhile()], **SHORT)
    assert answers == ["refused"] * 3
    assert len(trained.predict(texts)) == 30


@pytest.mark.slow
@pytest.mark.parametrize("pointer", ["efficient_global_pointer", "global_pointer"])
@pytest.mark.parametrize("dtype", ["mixed_float16", "float16"])
def test_relations_learn_in_float16(pointer, dtype):
    data = [
        {"text": "马云创办了阿里", "triples": [["马云", "创办", "阿里"]]},
        {"text": "李明创办了百度", "triples": [["李明", "创办", "百度"]]},
    ] * 8
    made = qf.RelationExtractor.from_scratch("tiny", dtype=dtype, pointer=pointer, max_length=16)
    curve = made.fit(data, epochs=2, batch_size=4, verbose=0)
    assert curve["loss"][1] < curve["loss"][0] < 1e3


def test_predictions_are_json(trained):
    assert json.dumps(trained.predict(["天气"])[0].probabilities, allow_nan=False)


def test_a_resume_says_before_training_what_it_cannot_go_on_without(tmp_path):
    scored_on = rows(12, 200)
    classifier().fit(rows(24), scored_on, directory=tmp_path / "run", **SHORT)

    def resumed(change, held_out=scored_on, **options):
        copy = tmp_path / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(tmp_path / "run", copy)
        change(copy)
        options = SHORT | {"epochs": SHORT["epochs"] + 1} | options
        with pytest.raises(TrainingStateError) as caught:
            classifier().fit(rows(24), held_out, directory=copy, resume=True, **options)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    def unchanged(folder):
        pass

    assert "best epoch was chosen by val_accuracy, but monitor is now val_loss" in resumed(unchanged, monitor="loss")
    assert "chose its best epoch on validation data, of which there are none now" in resumed(unchanged, held_out=None)
    assert "best: missing, a part of the best epoch" in resumed(lambda folder: shutil.rmtree(folder / "best"))
    said = resumed(lambda folder: (folder / "best" / "model.safetensors").unlink())
    assert "best/model.safetensors: missing" in said
