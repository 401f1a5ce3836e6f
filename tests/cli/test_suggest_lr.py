"""`qingformer suggest-lr`: the numbers of the analysis, printed, as JSON and as a picture; bad input is one line."""

import json
import math
import os
import signal
import subprocess
import sys
import time

import pytest

from qingformer.analysis import suggest_learning_rate
from qingformer.analysis.noise_scale import NoiseScale
from qingformer.analysis.rate_plot import plot_rates
from qingformer.cli.suggest_lr import in_words
from qingformer.errors import ConfigError, DataError
from qingformer.tasks import load
from qingformer.tasks.classification.gradient_noise import classifier_gradients


def asked(work, *more):
    rate = [] if "--learning-rate" in more else ["--learning-rate", "0.01"]
    return ["suggest-lr", work.train, *rate, "--batch-size", "16", *more]


def test_json_holds_what_the_analysis_finds(cli, work):
    done = cli(*asked(work, "--model", work.trained, "--new-batch-size", "64", "--texts", "48", "--json"))
    assert (done.code, done.err) == (0, "")
    found = json.loads(done.out)
    moments = classifier_gradients(load(work.trained), str(work.train), texts=48)
    scale = moments.noise_scale()
    assert found["covariance_trace"] == pytest.approx(scale.covariance_trace, rel=1e-3)
    assert found["gradient_square"] == pytest.approx(scale.gradient_square, rel=1e-2, abs=1e-6)
    assert (found["texts"], found["gradients"]) == (48, 12)
    assert found["loss"] == pytest.approx(moments.loss, rel=1e-4)
    assert [row["batch_size"] for row in found["suggestions"]] == [16, 64]
    value = math.inf if found["noise_scale"] is None else found["noise_scale"]
    for law in ("sgd", "adam"):
        expected = suggest_learning_rate(0.01, 16, 64, value, law)
        assert found["suggestions"][1][law] == pytest.approx(expected.rate)
        assert found["suggestions"][0][law] == 0.01
    assert {"token_embedding", "block_0", "classifier"} <= set(found["layers"])


def test_a_new_model_is_measured_printed_and_drawn(cli, work, tmp_path):
    picture = tmp_path / "rates.png"
    done = cli(*asked(work, "--source", work.bert, "--max-length", "16", "--layers", "--plot", picture, "--rows", "2"))
    assert done.code == 0, done.err
    for wanted in ("gradient noise scale", "96 texts", "16 (in use)", "Adam", "SGD", "block_0", "factor", "256"):
        assert wanted in done.out
    assert picture.exists() or "no picture" in done.err  # 96 texts may not show the gradient at all
    plot_rates(96.0, 1e-3, 32, [64, 128], picture)
    assert picture.read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ConfigError, match="positive finite"):
        plot_rates(math.inf, 1e-3, 32, [], picture)


@pytest.mark.parametrize(
    ("more", "wanted"),
    [
        ([], ["--model", "--source", "--from-scratch"]),
        (["--from-scratch", "tiny", "--source", "x"], ["give one of"]),
        (["--from-scratch", "huge"], ["'huge'", "tiny"]),
        (["--from-scratch", "tiny", "--learning-rate", "2"], ["--learning-rate", "between 0 and 1"]),
        (["--from-scratch", "tiny", "--plot", "nowhere/rates.png"], ["nowhere", "no folder"]),
        (["--from-scratch", "tiny", "--rows", "40"], ["too few", "120"]),
        (["--from-scratch", "tiny", "--new-batch-size", "0"], ["--new-batch-size"]),
        (["--from-scratch", "tiny", "--text-column", "txt"], ["'txt'", "text, label"]),
    ],
)
def test_bad_input_is_one_line(cli, work, more, wanted):
    done = cli(*asked(work, *more))
    assert done.code == 2
    assert done.out == ""
    assert len(done.err.splitlines()) == 1, done.err
    for part in wanted:
        assert part in done.err


def test_options_of_new_models_do_not_go_with_a_trained_one(cli, work):
    done = cli(*asked(work, "--model", work.trained, "--max-length", "16"))
    assert (done.code, "has its own" in done.err) == (2, True)
    done = cli("suggest-lr", work.train, "--model", work.trained)
    assert (done.code, "--learning-rate" in done.err) == (2, True)


def test_labels_that_the_model_does_not_know(work):
    with pytest.raises(DataError, match="rain"):
        classifier_gradients(load(work.trained), [("天气", "rain")] * 20)


def test_words_for_what_is_not_known():
    scale = NoiseScale(4.0, 2.0, (1.0, math.inf), 0.95, 10, 5)
    assert in_words(scale) == "2 (95%: 1 to any number)"
    assert in_words(NoiseScale(4.0, -1.0, (9.0, math.inf), 0.95, 10, 5)) == "above 9"


@pytest.mark.slow
def test_ctrl_c_stops_with_one_line(work):
    command = [sys.executable, "-m", "qingformer", *map(str, asked(work, "--model", work.trained, "--rows", "1"))]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ)
    time.sleep(4)
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=60)
    assert running.returncode in (0, 130)  # it may have been done already
    assert b"Traceback" not in err
    if running.returncode:
        assert err.strip() == b"stopped"
