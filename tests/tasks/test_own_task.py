"""A task that a user writes in a file of their own trains, keeps its best epoch, saves, and is found by `qf.load`."""

import pytest

import qingformer as qf
from examples.own_task import REVIEWS, TextRegressor
from qingformer.errors import ConfigError, DataError


def test_the_example_learns_and_is_loaded_as_its_own_class(tmp_path):
    regressor = TextRegressor.from_scratch("tiny", max_length=16)
    curve = regressor.fit(REVIEWS[::2], REVIEWS[1::2], epochs=30, batch_size=4, verbose=0, directory=tmp_path / "run")
    best = regressor.evaluate(REVIEWS[1::2])["pearson"]
    assert best == pytest.approx(max(curve["val_pearson"]), abs=1e-5)
    assert best > 0.8
    regressor.save(tmp_path / "model")
    for folder in ("model", "run"):
        loaded = qf.load(tmp_path / folder)
        assert type(loaded) is TextRegressor
        assert loaded.predict(["烤鸭太香了"]) == pytest.approx(regressor.predict(["烤鸭太香了"]), abs=1e-5)


def test_what_goes_wrong_in_it_is_named_as_in_other_tasks():
    regressor = TextRegressor.from_scratch("tiny", max_length=16)
    with pytest.raises(ConfigError, match="this TextRegressor has no weights for its task yet; call fit"):
        regressor.predict(["烤鸭太香了"])
    with pytest.raises(DataError, match="training data: a row without a score"):
        regressor.fit([("烤鸭太香了", None)])
    with pytest.raises(ConfigError, match="monitor is 'f1'; choose one of pearson"):
        regressor.fit(REVIEWS, REVIEWS, monitor="f1")
