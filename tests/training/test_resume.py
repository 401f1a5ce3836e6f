"""Killed at any moment and resumed, a training gives the numbers of one that was never killed."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from qingformer import backend
from qingformer.data import PaddedBatches
from qingformer.objectives import FGM
from qingformer.training import TrainingState, TrainingStateError, read_curve
from tests.training.program import BATCH, EPOCHS, AtStep, batches, examples, make_model, train

ROOT = Path(__file__).resolve().parents[2]
STEPS = len(batches())


def values(model):
    return [keras.ops.convert_to_numpy(v) for v in [*model.variables, *model.optimizer.variables]]


def last_state_before(step):
    """A crash at the beginning of a step comes before the state of that moment is written (every 3 steps)."""
    return divmod((step - 1) // 3 * 3, STEPS) if step else (0, 0)


def without_time(rows):
    return [{k: v for k, v in row.items() if k != "time"} for row in rows]


def same(a, b):
    if backend.name() == "jax":
        np.testing.assert_array_equal(a, b)
    else:
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


class Stop(Exception):
    """Stands for a crash in the middle of training."""


def crash():
    raise Stop


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    directory = tmp_path_factory.mktemp("whole")
    model, result = train(directory, transforms=[FGM(0.2)])
    return values(model), result, read_curve(directory / "curve.jsonl")


def test_an_uninterrupted_run_leaves_curve_best_and_state(uninterrupted):
    _, result, curve = uninterrupted
    assert len(result.history) == EPOCHS
    assert not result.interrupted
    assert result.best == min(logs["val_loss"] for logs in result.history)
    assert [row["kind"] for row in curve] == (["step"] * STEPS + ["epoch"]) * EPOCHS
    assert [row["step"] for row in curve if row["kind"] == "step"] == list(range(1, EPOCHS * STEPS + 1))


SLOW = [pytest.param(at, marks=pytest.mark.slow) for at in (0, 3, STEPS - 1, STEPS, 2 * STEPS + 4)]


@pytest.mark.parametrize("at", [2, 5, STEPS + 1, *SLOW])
def test_resume_after_a_crash_gives_the_same_run(uninterrupted, tmp_path, at):
    """Crashes before the first state, between states, at a state, and around the end of an epoch."""
    weights, whole, curve = uninterrupted
    with pytest.raises(Stop):
        train(tmp_path, callbacks=[AtStep(at, crash)], transforms=[FGM(0.2)])
    model, result = train(tmp_path, resume=True, transforms=[FGM(0.2)])
    assert result.resumed_from == max((at // STEPS, 0), last_state_before(at))
    for a, b in zip(values(model), weights):
        same(a, b)
    assert len(result.history) == len(whole.history)
    for ours, theirs in zip(result.history, whole.history):
        assert ours.keys() == theirs.keys()
        same(list(ours.values()), list(theirs.values()))
    resumed_curve = read_curve(tmp_path / "curve.jsonl")
    assert len(resumed_curve) == len(curve)
    for ours, theirs in zip(without_time(resumed_curve), without_time(curve)):
        assert ours.keys() == theirs.keys()
        for key in ours:
            assert ours[key] == theirs[key] or ours[key] == pytest.approx(theirs[key], rel=1e-4, abs=1e-6)
            assert backend.name() != "jax" or ours[key] == theirs[key]
    assert (result.best, result.best_epoch) == pytest.approx((whole.best, whole.best_epoch))


def run_program(name, directory, *options):
    environment = {**os.environ, "KERAS_BACKEND": name, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    cache = ["--cache", str(directory.parent / "cache")]
    command = [sys.executable, "-m", "tests.training.program", str(directory), *cache, *options]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240, check=False)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("jax", marks=pytest.mark.slow),  # the crashes above do the same within one process
        pytest.param("torch", marks=[pytest.mark.slow, pytest.mark.peers]),
        pytest.param("tensorflow", marks=[pytest.mark.slow, pytest.mark.peers]),
    ],
)
def test_kill_nine_and_resume_in_another_process(name, tmp_path):
    pytest.importorskip(name)
    whole = run_program(name, tmp_path / "whole")
    assert whole.returncode == 0, whole.stderr[-2000:]
    killed = run_program(name, tmp_path / "killed", "--kill", str(STEPS + 5))
    assert killed.returncode == -signal.SIGKILL, killed.stderr[-2000:]
    assert not (tmp_path / "killed" / "final.npz").exists()
    resumed = run_program(name, tmp_path / "killed", "--resume")
    assert resumed.returncode == 0, resumed.stderr[-2000:]
    assert resumed.stdout.strip() == str(max((1, 0), last_state_before(STEPS + 5)))
    with np.load(tmp_path / "whole" / "final.npz") as a, np.load(tmp_path / "killed" / "final.npz") as b:
        assert a.files == b.files
        for key in a.files:
            if name == "tensorflow":
                np.testing.assert_allclose(a[key], b[key], rtol=1e-5, atol=1e-6)
            else:
                np.testing.assert_array_equal(a[key], b[key])
    curves = [without_time(read_curve(tmp_path / d / "curve.jsonl")) for d in ("whole", "killed")]
    assert curves[0] == curves[1] or name == "tensorflow"


def test_a_finished_training_resumes_to_itself_and_may_be_prolonged(tmp_path):
    model, first = train(tmp_path, epochs=2)
    again, second = train(tmp_path, epochs=2, resume=True)
    for a, b in zip(values(model)[:3], values(again)[:3]):
        np.testing.assert_array_equal(a, b)
    assert second.history == first.history
    assert second.resumed_from == (2, 0)
    _, third = train(tmp_path, epochs=3, resume=True)
    assert len(third.history) == 3


class Scored(keras.callbacks.Callback):
    """Says which epoch is the best: the first of all."""

    def on_epoch_end(self, epoch, logs=None):
        logs["val_score"] = 1.0 - epoch / 10


def test_resuming_what_has_ended_keeps_the_best_epoch_bit_for_bit(tmp_path):
    options = {"callbacks": [Scored()], "monitor": "val_score"}
    _, first = train(tmp_path, **options)
    best = (tmp_path / "best" / "model.weights.h5").read_bytes()
    for epochs in (EPOCHS, EPOCHS - 1):
        _, second = train(tmp_path, resume=True, epochs=epochs, **options)
        assert (second.best, second.best_epoch) == (first.best, first.best_epoch) == (1.0, 0)
        assert second.history == first.history
        assert (tmp_path / "best" / "model.weights.h5").read_bytes() == best
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best", "curve.jsonl", "state"]


def test_fewer_epochs_than_a_stopped_run_was_made_for_are_refused(tmp_path):
    with pytest.raises(Stop):
        train(tmp_path, callbacks=[AtStep(STEPS + 1, crash)])
    with pytest.raises(TrainingStateError, match="1 of 3 epochs are done; to go on give epochs=3 or more, not 2"):
        train(tmp_path, resume=True, epochs=2)


def test_a_run_that_early_stopping_ended_stays_ended(tmp_path):
    def stopping():
        return keras.callbacks.EarlyStopping(monitor="loss", patience=1, min_delta=100.0)

    _, first = train(tmp_path, callbacks=[stopping()])
    _, second = train(tmp_path, callbacks=[stopping()], resume=True)
    assert len(first.history) == len(second.history) == 2


def test_data_of_the_same_size_but_another_content_are_noticed(tmp_path):
    with pytest.raises(Stop):
        train(tmp_path, callbacks=[AtStep(4, crash)])
    features, labels = examples()
    features[3][0][0] += 1
    changed = PaddedBatches(features, labels, batch_size=BATCH, buckets=(8, 16), seed=7)
    with pytest.raises(TrainingStateError, match="the training data are not those that the run began with"):
        TrainingState(tmp_path / "state", dataset=changed).restore(make_model())
    held_out = PaddedBatches(*examples(seed=2, count=16), batch_size=BATCH, buckets=(16,), shuffle=False)
    with pytest.raises(TrainingStateError, match="the validation data are not those"):
        TrainingState(tmp_path / "state", dataset=batches(), held_out=held_out).restore(make_model())


def test_without_resume_an_old_state_is_deleted(tmp_path):
    train(tmp_path, epochs=2)
    with pytest.raises(Stop):
        train(tmp_path, callbacks=[AtStep(1, crash)])
    assert TrainingState(tmp_path / "state", dataset=batches()).restore(make_model()) == (0, 0)


@pytest.fixture
def saved(tmp_path):
    with pytest.raises(Stop):
        train(tmp_path, callbacks=[AtStep(4, crash)])
    (folder,) = (tmp_path / "state").iterdir()
    return tmp_path / "state", folder


def test_one_whole_state_is_kept(saved):
    directory, folder = saved
    assert folder.name == "epoch-00000-batch-000000003"
    assert [p.name for p in directory.iterdir()] == [folder.name]


def restore(directory, model=None, dataset=None):
    return TrainingState(directory, dataset=dataset or batches()).restore(model or make_model())


def test_leftovers_of_a_killed_write_are_passed_over_and_removed(saved):
    directory, _ = saved
    (directory / ".epoch-00000-batch-000000006.x.part").mkdir()
    assert restore(directory) == (0, 3)
    state = TrainingState(directory, dataset=batches())
    state.set_model(make_model())
    state.restore(state.model)
    state.position = (0, 0)
    state.save()
    assert [p.name for p in directory.iterdir()] == ["epoch-00000-batch-000000000"]


def test_another_model_is_refused_by_the_name_of_its_first_difference(saved):
    directory, _ = saved
    before = make_model(width=7)
    weights = values(before)
    with pytest.raises(TrainingStateError, match=r"token_embedding/embeddings \(trainable, float32, \(30, 6\)\), here"):
        restore(directory, before)
    for a, b in zip(weights, values(before)):
        np.testing.assert_array_equal(a, b)


def test_another_optimizer_is_refused(saved):
    with pytest.raises(TrainingStateError, match=r"saved with AdamW, the model has Adam$"):
        restore(saved[0], make_model(optimizer=keras.optimizers.Adam(0.1)))
    # The same class with other settings may have other variables.
    with pytest.raises(TrainingStateError, match=r"optimizer|only here"):
        restore(saved[0], make_model(optimizer=keras.optimizers.AdamW(0.1, amsgrad=True)))


def test_other_data_are_refused(saved):
    with pytest.raises(TrainingStateError, match="seed=7, now it has seed=8"):
        restore(saved[0], dataset=batches(seed=8))


def test_data_that_cannot_start_within_an_epoch_are_refused(saved):
    with pytest.raises(TrainingStateError, match="start_at"):
        TrainingState(saved[0]).restore(make_model())


@pytest.mark.parametrize("damage", ["truncated", "flipped", "missing", "not-json", "no-field", "format", "pickle"])
def test_damaged_states_are_refused(saved, damage):
    directory, folder = saved
    data, info = folder / "values.npz", folder / "state.json"
    if damage == "truncated":
        data.write_bytes(data.read_bytes()[:-100])
    elif damage == "flipped":
        content = bytearray(data.read_bytes())
        content[len(content) // 3] ^= 255
        data.write_bytes(bytes(content))
    elif damage == "missing":
        data.unlink()
    elif damage == "pickle":
        arrays = dict(np.load(data))
        np.savez(data, **{**arrays, "trainable/0": np.array([{}], dtype=object)})
    elif damage == "not-json":
        info.write_text("{")
    else:
        content = json.loads(info.read_text())
        content["format"] = 99 if damage == "format" else content["format"]
        if damage == "no-field":
            del content["epoch"]
        info.write_text(json.dumps(content))
    with pytest.raises(TrainingStateError, match=r"values\.npz|state\.json"):
        restore(directory)


def test_moving_averages_of_the_optimizer_are_refused(saved):
    with pytest.raises(TrainingStateError, match="use_ema"):
        restore(saved[0], make_model(optimizer=keras.optimizers.Adam(0.1, use_ema=True)))


@pytest.mark.parametrize("policy", ["mixed_float16", "bfloat16"])
def test_other_precisions_round_trip(tmp_path, policy):
    if (backend.name(), policy) == ("tensorflow", "bfloat16"):
        pytest.skip("Keras' optimizers on TensorFlow cannot convert the sparse bfloat16 gradient of an embedding")

    def build():
        before = keras.config.dtype_policy()
        keras.config.set_dtype_policy(policy)
        try:
            return make_model(dtype=policy)
        finally:
            keras.config.set_dtype_policy(before)

    model = build()
    model.fit(batches(), verbose=0, shuffle=False)
    state = TrainingState(tmp_path, dataset=batches())
    state.set_model(model)
    state.position = (1, 0)
    state.save()
    again = build()
    restore(tmp_path, again)
    for a, b in zip(model.variables, again.variables):
        if "accuracy" in a.path or "loss" in a.path:
            continue
        np.testing.assert_array_equal(
            *[np.asarray(keras.ops.convert_to_numpy(keras.ops.cast(v, "float32"))) for v in (a, b)]
        )


def test_early_stopping_remembers_its_patience(tmp_path):
    def stopping():
        return keras.callbacks.EarlyStopping(monitor="loss", patience=2, min_delta=100.0)

    _, whole = train(tmp_path / "whole", callbacks=[stopping()])
    assert len(whole.history) == 3
    with pytest.raises(Stop):
        train(tmp_path / "cut", callbacks=[stopping(), AtStep(2 * STEPS + 1, crash)], epochs=9)
    _, resumed = train(tmp_path / "cut", callbacks=[stopping()], epochs=9, resume=True)
    assert len(resumed.history) == 3
