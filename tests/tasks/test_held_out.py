"""Which score picks the best epoch, when training ends early, and labels that only held-out data have."""

import pytest

from qingformer.errors import ConfigError, DataError
from qingformer.tasks import MultipleChoice, ReadingComprehension, RelationExtractor, SequenceTagger
from tests.tasks.helpers import FIT, backbone, classifier, rows, tokenizer

SHORT = FIT | {"batch_size": 32}


def tagger(labels=("LOC",), **options):
    return SequenceTagger(backbone(), tokenizer(), labels=labels, max_length=16, stride=4, **options)


def test_the_score_that_was_asked_for_picks_the_best(monkeypatch):
    made = classifier()
    given = iter([0.2, 0.9, 0.1, 0.0])
    monkeypatch.setattr(made, "score", lambda examples: {"macro_f1": next(given), "weighted_f1": 0.5})
    curve = made.fit(rows(24), rows(12), monitor="macro_f1", patience=2, **SHORT)
    assert curve["val_macro_f1"] == [0.2, 0.9, 0.1, 0.0]  # two epochs without a better one: ended
    assert len(curve["loss"]) == 4


def test_the_f1_scores_are_those_of_evaluate():
    made = classifier(labels=["food", "music", "weather"])
    report = made.evaluate(rows(12))
    found = made.score(made.read(rows(12), "data"))
    assert found == {"macro_f1": report.macro.f1, "weighted_f1": report.weighted.f1}


@pytest.mark.parametrize(
    ("make", "known"),
    [
        (lambda: classifier(labels=["food", "music", "weather"]), "accuracy, loss, macro_f1, weighted_f1"),
        (lambda: classifier(labels=["food", "music", "weather"], multi_label=True), "micro_f1"),
        (tagger, "f1, precision, recall"),
    ],
)
def test_an_unknown_score_is_refused_before_training(make, known):
    made, data = make(), rows(6)
    if isinstance(made, SequenceTagger):
        data = [("天气", [(0, 2, "LOC")])] * 4
    with pytest.raises(ConfigError, match=rf"monitor is 'auc'; choose one of .*{known}"):
        made.fit(data, data, monitor="auc", **SHORT)


def test_every_scored_task_has_the_scores_it_names():
    named = {MultipleChoice: {"accuracy"}, ReadingComprehension: {"f1", "exact"}}
    for kind in (SequenceTagger, RelationExtractor, MultipleChoice, ReadingComprehension):
        assert set(kind.scores) == named.get(kind, {"f1", "precision", "recall"})
        assert kind.monitor.removeprefix("val_") in kind.scores


def test_patience_needs_something_to_watch():
    with pytest.raises(ConfigError, match="patience needs validation_data"):
        classifier().fit(rows(6), patience=2, **SHORT)
    with pytest.raises(ConfigError, match="patience is 0; expected a whole number, 1 or more"):
        classifier().fit(rows(6), rows(6), patience=0, **SHORT)


@pytest.mark.slow
def test_a_run_that_ended_early_stays_ended(tmp_path, monkeypatch):
    def fit(resume):
        made = classifier()
        given = iter([0.9, 0.1, 0.0, 1.0, 1.0, 1.0])
        monkeypatch.setattr(made, "score", lambda examples: {"macro_f1": next(given), "weighted_f1": 0.5})
        return made.fit(
            rows(24), rows(12), monitor="macro_f1", patience=2, directory=tmp_path / "run", resume=resume, **SHORT
        )

    assert fit(False) == fit(True)
    assert len(fit(True)["loss"]) == 3


def test_a_label_that_only_held_out_data_have_is_missed_and_noted():
    made = tagger()
    report = made.evaluate([("天气", [(0, 1, "LOC")]), ("歌曲", [(0, 2, "ORG")]), ("歌", [(0, 1, "ORG")])])
    assert report.per_label["ORG"].support == 2
    assert report.per_label["ORG"].recall == 0
    assert report.micro.support == 3
    (note,) = made.cut.values()
    assert note.startswith("test data, item 2: label 'ORG' is not in the training data; 2 of them are scored as missed")
    made.check_data([("天气", [(0, 1, "LOC")])], [("歌曲", [(0, 2, "ORG")])])


def test_a_relation_that_only_held_out_data_have_is_missed_and_noted():
    made = RelationExtractor(backbone(), tokenizer(), relations=["r"], max_length=16, stride=4)
    report = made.evaluate([("天气歌曲", [("天气", "s", "歌曲")])])
    assert report.per_relation["s"].support == 1
    assert "relation 's' is not in the training data; 1 of them is scored as missed" in "".join(made.cut.values())


def test_training_data_with_another_label_than_given_are_refused():
    with pytest.raises(DataError, match="label 'ORG' is not known"):
        tagger().fit([("歌曲", [(0, 2, "ORG")])], **SHORT)
    with pytest.raises(DataError, match="name all labels with labels="):
        classifier(labels=["a", "b"]).evaluate([("天", "c")])
