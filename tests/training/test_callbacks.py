"""Curve, plot, best checkpoint, progress events, Ctrl-C, seeds."""

import json
import os
import signal
import sys
import threading

import keras
import numpy as np
import pytest

from qingformer.errors import ConfigError
from qingformer.training import (
    BestCheckpoint,
    LearningCurve,
    OrderedSteps,
    PlotError,
    Progress,
    TrainingInterrupted,
    plot_curve,
    read_curve,
    run,
    seed_everything,
)
from tests.training.program import EPOCHS, AtStep, batches, make_model, train

STEPS = len(batches())


class Recorder(keras.callbacks.Callback):
    """The running means that Keras logs, and the means of the single steps they come from."""

    def __init__(self):
        super().__init__()
        self.running = []

    def on_train_batch_end(self, batch, logs=None):
        self.running.append(logs["loss"])


@pytest.mark.parametrize("together", [False, True], ids=["asynchronous", "synchronous"])
def test_curve_lines_say_what_keras_logs(tmp_path, together):
    recorder = Recorder()
    curve = LearningCurve(tmp_path / "curve.jsonl", every_steps=3)
    model = make_model()
    history = model.fit(
        batches(), epochs=2, shuffle=False, verbose=0, callbacks=[curve, *([recorder] if together else [])]
    ).history
    rows = read_curve(tmp_path / "curve.jsonl")
    steps = [row for row in rows if row["kind"] == "step"]
    epochs = [row for row in rows if row["kind"] == "epoch"]
    assert [row["step"] for row in steps] == list(range(3, 2 * STEPS + 1, 3))
    assert [(row["step"], row["epoch"]) for row in epochs] == [(STEPS, 1), (2 * STEPS, 2)]
    assert [row["loss"] for row in epochs] == pytest.approx(history["loss"])
    assert [row["accuracy"] for row in epochs] == pytest.approx(history["accuracy"])
    times = [row["time"] for row in rows]
    assert times == sorted(times)
    if together:
        for row in steps:
            assert row["loss"] == pytest.approx(recorder.running[row["step"] - 1], rel=1e-6)
        single = [r * (i + 1) - recorder.running[i - 1] * i if i else r for i, r in enumerate(recorder.running[:STEPS])]
        assert steps[0]["recent_loss"] == pytest.approx(np.mean(single[:3]), rel=1e-4)
        assert steps[1]["recent_loss"] == pytest.approx(np.mean(single[3:6]), rel=1e-4)


def test_curve_shows_the_rate_of_schedules_and_of_changed_constants(tmp_path):
    model = make_model()
    model.fit(batches(), epochs=2, shuffle=False, verbose=0, callbacks=[LearningCurve(tmp_path / "a.jsonl", 1)])
    schedule = model.optimizer._learning_rate
    for row in read_curve(tmp_path / "a.jsonl"):
        assert row["learning_rate"] == pytest.approx(float(schedule(row["step"])), rel=1e-5, abs=1e-9)
    model = make_model(optimizer=keras.optimizers.SGD(1.0))
    changes = keras.callbacks.LearningRateScheduler(lambda epoch, rate: 1.0 / (epoch + 1))
    curve = LearningCurve(tmp_path / "b.jsonl", 0)
    model.fit(batches(), epochs=2, shuffle=False, verbose=0, callbacks=[changes, curve])
    assert [row["learning_rate"] for row in read_curve(tmp_path / "b.jsonl")] == [1.0, 0.5]


def test_a_new_training_starts_a_new_curve_and_nan_is_null(tmp_path):
    path = tmp_path / "deep" / "curve.jsonl"
    for _ in range(2):
        make_model().fit(batches(), shuffle=False, verbose=0, callbacks=[LearningCurve(path, 0)])
    assert len(read_curve(path)) == 1
    curve = LearningCurve(path)
    curve._rate = 0.0
    curve._write("epoch", {"loss": float("nan")})
    assert read_curve(path)[-1]["loss"] is None


def test_broken_curves_are_errors_and_half_a_last_line_is_not(tmp_path):
    path = tmp_path / "curve.jsonl"
    line = json.dumps({"kind": "epoch", "step": 1, "epoch": 1, "loss": 1.0})
    path.write_text(line + "\n" + line[:10])
    assert len(read_curve(path)) == 1
    path.write_text(line + "\n{\n")
    with pytest.raises(PlotError, match=r"curve\.jsonl, line 2: not JSON"):
        read_curve(path)
    path.write_text("[]\n")
    with pytest.raises(PlotError, match="line 1: not a line of a learning curve"):
        read_curve(path)
    with pytest.raises(PlotError, match="no such file"):
        read_curve(tmp_path / "none")
    path.write_text("")
    with pytest.raises(PlotError, match="no lines yet"):
        plot_curve(path, tmp_path / "x.png")


def test_plot_writes_a_picture_without_a_display(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.delenv("DISPLAY", raising=False)
    path = tmp_path / "curve.jsonl"
    rows = [{"kind": "step", "step": s, "epoch": 1, "recent_loss": 1 / s} for s in range(1, 9)]
    rows += [{"kind": "epoch", "step": 8, "epoch": 1, "loss": 0.3, "val_loss": None, "val_accuracy": 0.5}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    picture = plot_curve(path, tmp_path / "out" / "curve.png")
    assert picture.read_bytes().startswith(b"\x89PNG\r\n")
    assert picture.stat().st_size > 5000


def test_without_matplotlib_the_error_says_what_to_install(tmp_path, monkeypatch):
    path = tmp_path / "curve.jsonl"
    path.write_text('{"kind": "epoch", "step": 1, "epoch": 1, "loss": 1.0}\n')
    for module in ("matplotlib", "matplotlib.figure", "matplotlib.backends.backend_agg"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(PlotError, match=r"qingformer\[plot\]"):
        plot_curve(path, tmp_path / "x.png")


class Steps(OrderedSteps):
    def __init__(self):
        super().__init__()
        self.seen = []

    def on_step(self, logs):
        self.seen.append((self.step, self.batch, logs["loss"]))


def test_steps_that_arrive_in_any_order_are_put_in_order():
    callback = Steps()
    callback.set_model(type("Model", (), {"steps_per_execution": 1})())
    callback.start_from(10, 2)
    callback.on_epoch_begin(0)
    order = np.random.default_rng(0).permutation(50)

    def send(part):
        for i in part:
            callback.on_train_batch_end(int(i), {"loss": float(i)})

    halves = [threading.Thread(target=send, args=(part,)) for part in (order[:25], order[25:])]
    for thread in halves:
        thread.start()
    callback.wait_for(52)
    assert callback.seen == [(11 + i, 3 + i, float(i)) for i in range(50)]
    for thread in halves:
        thread.join()


def test_progress_events_count_the_whole_training(tmp_path):
    events = []
    progress = Progress(events.append, epochs=EPOCHS, batches=STEPS, interval=0.0)
    train(tmp_path, callbacks=[progress])
    assert [e.kind for e in events] == ["begin", *(["step"] * STEPS + ["epoch"]) * EPOCHS, "end"]
    steps = [e for e in events if e.kind == "step"]
    assert [(e.epoch, e.batch, e.step) for e in steps] == [
        (1 + i // STEPS, 1 + i % STEPS, i + 1) for i in range(EPOCHS * STEPS)
    ]
    assert all(e.rate > 0 and e.steps == EPOCHS * STEPS and np.isfinite(e.logs["loss"]) for e in steps)
    assert steps[-1].remaining == 0
    middle = steps[STEPS]
    assert middle.remaining == pytest.approx((middle.steps - middle.step) / middle.rate)


def test_best_checkpoint_keeps_the_best_epoch(tmp_path):
    model = make_model()
    weights, best = [], BestCheckpoint(tmp_path / "best", monitor="value", mode="max")
    best.set_model(model)
    for epoch, value in enumerate([float("nan"), 0.5, 0.9, 0.9, 0.1]):
        model.get_layer("logits").bias.assign(np.full(4, epoch, "float32"))
        weights.append(keras.ops.convert_to_numpy(model.get_layer("logits").bias))
        best.on_epoch_end(epoch, {"value": value})
    assert (best.best, best.best_epoch) == (0.9, 2)
    model.load_weights(tmp_path / "best" / "model.weights.h5")
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(model.get_layer("logits").bias), weights[2])


def test_best_checkpoint_modes_and_errors(tmp_path):
    assert BestCheckpoint(tmp_path, "val_loss").smaller
    assert not BestCheckpoint(tmp_path, "val_accuracy").smaller
    with pytest.raises(ConfigError, match="mode"):
        BestCheckpoint(tmp_path, mode="least")
    callback = BestCheckpoint(tmp_path, "val_f1")
    with pytest.raises(ConfigError, match="no 'val_f1' in the logs of epoch 1, only loss"):
        callback.on_epoch_end(0, {"loss": 1.0})


def test_own_saver_fills_the_directory(tmp_path):
    saved = []
    train(tmp_path, epochs=1, save_best=lambda folder: saved.append((folder / "x").write_text("best")))
    assert saved
    assert (tmp_path / "best" / "x").read_text() == "best"


class Rising(keras.callbacks.Callback):
    """Every epoch is better than the one before, and somebody leaves files in the run's folders before the second."""

    def __init__(self, folders):
        super().__init__()
        self.folders = folders

    def on_epoch_begin(self, epoch, logs=None):
        for folder in self.folders if epoch == 1 else ():
            (next(folder.glob("epoch-*"), folder) / "notes.txt").write_text(f"of {folder.name}")

    def on_epoch_end(self, epoch, logs=None):
        logs["value"] = float(epoch)


def test_files_that_somebody_left_in_best_and_state_survive_better_epochs(tmp_path):
    folders = [tmp_path / "best", tmp_path / "state"]
    _, result = train(tmp_path, epochs=3, callbacks=[Rising(folders)], monitor="value", validation_data=None)
    assert result.best_epoch == 2
    assert [(folder / "notes.txt").read_text() for folder in folders] == ["of best", "of state"]


def interrupt():
    os.kill(os.getpid(), signal.SIGINT)


def test_ctrl_c_stops_after_the_step_and_resumes_to_the_same_end(tmp_path):
    handler = signal.getsignal(signal.SIGINT)
    whole_model, whole = train(tmp_path / "whole")
    _, stopped = train(tmp_path / "cut", callbacks=[AtStep(4, interrupt)], save_every_steps=0)
    assert stopped.interrupted
    assert not stopped.history
    assert signal.getsignal(signal.SIGINT) is handler
    (folder,) = (tmp_path / "cut" / "state").iterdir()
    assert folder.name in ("epoch-00000-batch-000000004", "epoch-00000-batch-000000005")
    model, result = train(tmp_path / "cut", resume=True)
    assert not result.interrupted
    assert result.resumed_from[1] in (4, 5)
    for a, b in zip(whole_model.get_weights(), model.get_weights()):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    assert [h["loss"] for h in result.history] == pytest.approx([h["loss"] for h in whole.history], rel=1e-5)


def test_second_ctrl_c_aborts_at_once(tmp_path):
    handler = signal.getsignal(signal.SIGINT)

    def twice():
        interrupt()
        interrupt()

    with pytest.raises(KeyboardInterrupt) as problem:
        train(tmp_path, callbacks=[AtStep(2, twice)])
    assert not isinstance(problem.value, TrainingInterrupted)
    assert signal.getsignal(signal.SIGINT) is handler


def test_ctrl_c_belongs_to_others_when_training_fails(tmp_path):
    handler = signal.getsignal(signal.SIGINT)

    def fail():
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        train(tmp_path, callbacks=[AtStep(1, fail)])
    assert signal.getsignal(signal.SIGINT) is handler


def test_same_seed_same_run(tmp_path):
    losses = [train(tmp_path / str(i), epochs=1)[1].history[0]["loss"] for i in range(2)]
    assert losses[0] == losses[1]
    draws = []
    for seed in (1, 1, 2):
        seed_everything(seed)
        draws.append(float(np.random.random()))
    assert draws[0] == draws[1] != draws[2]


def test_run_refuses_what_cannot_be(tmp_path):
    with pytest.raises(ConfigError, match="epochs"):
        run(make_model(), batches(), epochs=0, directory=tmp_path)
    model = make_model()
    with pytest.raises(ConfigError, match="compiled"):
        run(keras.Model(model.input, model.output), batches(), epochs=1, directory=tmp_path)
