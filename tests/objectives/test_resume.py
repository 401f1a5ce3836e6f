"""Killed and resumed, a training with all of these transforms gives the numbers of an uninterrupted one."""

import numpy as np
import pytest

from qingformer import backend
from qingformer.objectives import FGM, ChildTuningD, ChildTuningF, Freeze, GradientAccumulation
from tests.conftest import slow_on_jax
from tests.objectives.tools import values
from tests.training.program import AtStep, train


class Stop(Exception):
    """Stands for a crash in the middle of training."""


def crash():
    raise Stop


def transforms():
    return [
        FGM(0.2),
        ChildTuningF(0.7),
        GradientAccumulation(2),
        Freeze({"logits/bias": (2, 6)}),
        ChildTuningD(0.4, select="embedding|logits"),
    ]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    model, result = train(tmp_path_factory.mktemp("whole"), transforms=transforms(), epochs=2)
    return values([*model.variables, *model.optimizer.variables]), result.history


@slow_on_jax
@pytest.mark.parametrize("at", [5, 1, 8])
def test_resume_gives_the_same_run_and_measures_nothing_again(uninterrupted, tmp_path, monkeypatch, at):
    weights, history = uninterrupted
    with pytest.raises(Stop):
        train(tmp_path, callbacks=[AtStep(at, crash)], transforms=transforms(), epochs=2)
    if at > 3:  # the first state is written before step 3; a training killed earlier begins anew, and measures
        monkeypatch.setattr("qingformer.objectives.child_tuning_fisher.fisher_information", crash)
    model, result = train(tmp_path, resume=True, transforms=transforms(), epochs=2)
    assert (result.resumed_from != (0, 0)) == (at > 3)
    for ours, theirs in zip(values([*model.variables, *model.optimizer.variables]), weights):
        if backend.name() == "jax":
            np.testing.assert_array_equal(ours, theirs)
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
    for ours, theirs in zip(result.history, history):
        assert ours == pytest.approx(theirs, rel=1e-6)
