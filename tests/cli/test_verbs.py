"""Each verb on small real input: what it prints, what it writes, what is clean to pipe."""

import io
import json
import subprocess
import sys

import numpy as np
import pytest

from qingformer.cli.console import as_options
from qingformer.models import Backbone
from qingformer.tasks import load
from qingformer.version import __version__
from tests.cli.conftest import train_arguments


def json_lines(text):
    return [json.loads(line) for line in text.splitlines()]


def test_training_leaves_model_curve_picture_report_and_settings(work):
    names = {path.name for path in work.trained.iterdir()}
    assert {"best", "state", "curve.jsonl", "curve.png", "report.json", "run.json"} <= names
    assert (work.trained / "curve.png").read_bytes().startswith(b"\x89PNG")
    curve = json_lines((work.trained / "curve.jsonl").read_text())
    epochs = [row for row in curve if row["kind"] == "epoch"]
    assert [row["epoch"] for row in epochs] == list(range(1, 11))
    assert epochs[-1]["loss"] < epochs[0]["loss"]
    report = json.loads((work.trained / "report.json").read_text())
    assert report["accuracy"] == 1.0
    assert report["labels"] == ["food", "music", "weather"]


def test_training_prints_epochs_score_and_places(cli, work, tmp_path):
    done = cli(*train_arguments(work, tmp_path / "run"), "--test", work.dev, "--transform", "fgm=0.1")
    assert done.code == 0
    assert done.err == ""
    for wanted in (
        "96 train, 30 dev, 30 test",
        "epoch 10/10  accuracy",
        "held-out score",
        "macro F1",
        "confusion matrix",
    ):
        assert wanted in done.out
    assert str(tmp_path / "run" / "curve.png") in done.out.splitlines()[-1]


def test_the_same_command_gives_the_same_model(cli, work, tmp_path):
    assert cli(*train_arguments(work, tmp_path / "run")).code == 0
    one = (work.trained / "best" / "head.safetensors").read_bytes()
    assert one == (tmp_path / "run" / "best" / "head.safetensors").read_bytes()


def test_predict_gives_one_json_object_a_line_and_nothing_else(cli, work, tmp_path):
    texts = tmp_path / "texts.txt"
    texts.write_text("我想听歌\n下雨\n", encoding="utf-8")
    done = cli("predict", texts, "--model", work.trained)
    assert (done.code, done.err) == (0, "")
    found = json_lines(done.out)
    assert [row["text"] for row in found] == ["我想听歌", "下雨"]
    expected = load(work.trained).predict(["我想听歌", "下雨"])
    assert [row["label"] for row in found] == [prediction.label for prediction in expected]
    assert [row["probability"] for row in found] == pytest.approx([p.probability for p in expected], abs=1e-5)
    done = cli("predict", texts, "-m", work.trained, "--all", "--output", tmp_path / "answers.jsonl")
    assert (done.code, done.out, done.err) == (0, "", "")
    for row in json_lines((tmp_path / "answers.jsonl").read_text(encoding="utf-8")):
        assert sum(row["probabilities"].values()) == pytest.approx(1, abs=1e-4)


def test_predict_reads_standard_input(work):
    done = subprocess.run(
        [sys.executable, "-m", "qingformer", "predict", "--model", str(work.trained)],
        input='{"text": "唱歌"}\n{"text": "吃饭"}\n'.encode(), capture_output=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"")
    expected = [prediction.label for prediction in load(work.trained).predict(["唱歌", "吃饭"])]
    assert [row["label"] for row in json_lines(done.stdout.decode())] == expected


def test_evaluate_prints_tables_or_json(cli, work, tmp_path):
    done = cli("evaluate", work.dev, "--model", work.trained, "--output", tmp_path / "report.json")
    assert done.code == 0
    assert "accuracy 1.0000  macro F1 1.0000  weighted F1 1.0000" in done.out
    as_json = cli("evaluate", work.dev, "--model", work.trained, "--json")
    assert json.loads(as_json.out) == json.loads((tmp_path / "report.json").read_text())
    assert np.trace(json.loads(as_json.out)["confusion"]) == 30


def test_convert_there_and_back_keeps_every_number(cli, work, tmp_path):
    before = Backbone.from_pretrained(work.bert).weight_arrays()
    last = work.bert
    for number, layout in enumerate(("huggingface", "tensorflow", "qingformer")):
        done = cli("convert", last, tmp_path / str(number), "--to", layout)
        assert done.code == 0, done.err
        assert f"{'loaded':9} │ {len(before)}" in done.out
        last = tmp_path / str(number)
    after = Backbone.from_pretrained(last).weight_arrays()
    assert before.keys() == after.keys()
    assert all(np.array_equal(before[path], after[path]) for path in before)


def test_convert_of_a_classifier_says_what_stays_behind(cli, work, tmp_path):
    done = cli("convert", work.trained, tmp_path / "tf", "--to", "tensorflow")
    assert done.code == 0
    assert "head and labels stay behind" in done.err
    again = cli("convert", work.trained, tmp_path / "tf")
    assert (again.code, "--overwrite" in again.err) == (2, True)


def test_convert_to_huggingface_keeps_the_head(cli, work, tmp_path):
    done = cli("convert", work.trained, tmp_path / "hf", "--to", "huggingface")
    assert done.code == 0, done.err
    assert "text-classifier -> BertForSequenceClassification" in done.out
    texts = ["天气", "唱歌"]
    assert load(tmp_path / "hf").predict(texts) == load(work.trained).predict(texts)
    same = [cli("predict", work.dev, "--model", model) for model in (tmp_path / "hf", work.trained)]
    assert same[0].code == 0, same[0].err
    assert same[0].out == same[1].out


def test_info_counts_what_is_there(cli, work):
    found = json.loads(cli("info", work.trained, "--json", "--length", "16").out)
    weights = Backbone.from_pretrained(work.bert).weight_arrays()
    assert found["parameters"]["total"] == sum(array.size for array in weights.values())
    assert sum(count for part, count in found["parameters"].items() if part != "total") == found["parameters"]["total"]
    assert "other" not in found["parameters"]
    assert found["task"]["labels"] == ["food", "music", "weather"]
    assert found["cost"]["training_flops"] == 3 * found["cost"]["forward_flops"]
    assert (found["layout"], found["format"], found["family"]) == ("qingformer", "safetensors", "bert")


def test_info_shows_tables_and_lists_unknown_keys(cli, work, tmp_path):
    cli("convert", work.bert, tmp_path / "hf", "--to", "huggingface")
    config = tmp_path / "hf" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"hidden_sise": 3}))
    done = cli("info", tmp_path / "hf", "--tensors")
    assert done.code == 0
    for wanted in ("hidden_sise", "Unknown keys", "bert.encoder.layer.0", "KFLOP", "pooler", "model.safetensors"):
        assert wanted in done.out


def test_info_reads_the_real_checkpoint(cli, shared):
    done = cli("info", shared / "weights" / "toy_keras_bert_ckpt", "--json")
    found = json.loads(done.out)
    assert (found["layout"], found["family"], found["unknown_tensors"]) == ("tensorflow", "bert", [])


@pytest.mark.parametrize("verb", ["train", "evaluate", "predict", "convert", "info"])
def test_help_teaches_by_examples(cli, verb):
    done = cli(verb, "--help")
    assert done.code == 0
    assert f"qingformer {verb}" in done.out
    assert "Examples" in done.out


def test_help_and_version_start_no_library():
    code = (
        "import sys; from qingformer.cli import run\n"
        "assert run(['--help']) == 0 and run(['train', '--help']) == 0 and run(['--version']) == 0\n"
        "slow = {'keras', 'jax', 'torch', 'tensorflow', 'numpy', 'tokenizers'} & set(sys.modules)\n"
        "sys.exit(f'imported {slow}' if slow else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"qingformer {__version__}" in done.stdout


def test_a_closed_pipe_is_no_error(work):
    done = subprocess.run(
        f"{sys.executable} -m qingformer evaluate {work.dev} --model {work.trained} --json | head -c 1",
        shell=True, capture_output=True, check=False,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == (b"{", b"")


def test_messages_speak_of_options():
    assert as_options("give text_column= or multi_label=True; x=3") == "give --text-column or --multi-label; x=3"
    assert (
        as_options('pass it (encoding="gb18030"), or quoting=False') == "pass it (--encoding gb18030), or --no-quoting"
    )
    assert as_options("the data had seed=3, now 4") == "the data had seed=3, now 4"


def test_standard_input_may_be_closed(cli, work, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"")))
    done = cli("predict", "--model", work.trained)
    assert done.code == 2
    assert done.err.startswith("error: ")
    assert len(done.err.splitlines()) == 1


def test_predictions_are_not_written_onto_a_folder(cli, work, tmp_path):
    done = cli("predict", work.dev, "--model", work.trained, "--output", tmp_path)
    assert (done.code, done.err) == (2, f"error: {tmp_path}: is a folder; name a file with --output\n")
