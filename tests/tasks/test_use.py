"""What a user does with a task: pickles it, gives a run's folder in place of a model's, writes predictions as JSON."""

import json
import pickle

import numpy as np
import pytest

from qingformer.errors import ConfigError
from qingformer.models import Backbone
from qingformer.tasks import RelationExtractor, SequenceTagger, TextClassifier, load
from qingformer.tasks.choice.multiple_choice import Choice
from qingformer.tasks.reading.reading_comprehension import Answer, Reading
from qingformer.tokenization import Tokenizer
from tests.tasks.helpers import VOCABULARY, backbone, classifier, tokenizer

LABELS = ["food", "music", "weather"]


def test_a_used_task_is_pickled():
    made = classifier(labels=LABELS)
    before = made.predict(["天气", "歌曲"])
    again = pickle.loads(pickle.dumps(made))
    assert type(again) is TextClassifier
    assert again.predict(["天气", "歌曲"]) == before
    with pytest.raises(ConfigError, match="nothing to pickle yet"):
        pickle.dumps(classifier())


def test_a_run_is_taken_where_its_best_model_is(tmp_path):
    made = classifier(labels=LABELS)
    made.save(tmp_path / "run" / "best")
    run = tmp_path / "run"
    assert load(run).labels == LABELS
    assert TextClassifier.load(run).labels == LABELS
    assert TextClassifier.from_pretrained(run, labels=["a", "b"], max_length=8).labels == ["a", "b"]
    assert Tokenizer.from_pretrained(run).vocabulary == VOCABULARY
    theirs = Backbone.from_pretrained(run).weight_arrays()
    assert all(np.array_equal(array, theirs[path]) for path, array in made.backbone.weight_arrays().items())


def test_predictions_are_dictionaries_for_json():
    tagger = SequenceTagger(backbone(), tokenizer(), labels=["LOC"], max_length=16, stride=4)
    extractor = RelationExtractor(backbone(), tokenizer(), relations=["r"], max_length=16, stride=4)
    found = [
        *classifier(labels=LABELS).predict(["天气"]),
        *tagger.predict(["天气"]),
        *extractor.predict(["天气"]),
        Reading("1", "问", (Answer("答", 0, 1, 0.5),)),
        Choice("1", 0, "甲", (0.5, 0.5)),
    ]
    for each in found:
        assert json.loads(json.dumps(each.to_dict()))
    assert found[0].to_dict()["label"] in LABELS
    assert found[1].to_dict()["text"] == "天气"
