"""Whatever is wrong with the input is one line that names the place and the remedy, and an exit code; no traceback."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from qingformer.tasks import load
from tests.cli.conftest import train_arguments, write_rows
from tests.tasks.helpers import VOCABULARY, backbone, rows, tokenizer


def one_line(outcome, *wanted):
    """The outcome is an error of one line that says all of `wanted`."""
    assert outcome.code == 2
    assert len(outcome.err.splitlines()) == 1, outcome.err
    assert outcome.err.startswith("error: ")
    for part in map(str, wanted):
        assert part in outcome.err, outcome.err


def train_on(work, train, output, *more):
    length = [] if "--max-length" in more else ["--max-length", "16"]
    return ["train", "--train", train, "--source", work.bert, *length, "--output", output, *more]


FILES = {
    "empty": (b"", "is empty", "at least one row"),
    "zero rows": (b"text,label\n", "no ", "row"),
    "wrong JSON": ('{"text": "天", "label": "a"}\n{"text": "气"'.encode(), "line 2", "not JSON", "one object"),
    "mixed encodings": (
        '{"text": "天", "label": "a"}\n'.encode() + '{"text": "气", "label": "b"}\n'.encode("gbk"),
        "line 2",
        "utf-8",
        "--encoding gb18030",
    ),
    "no label": ('{"text": "天", "label": "a"}\n{"text": "气"}\n'.encode(), "line 2", "label"),
    "label of no use": ('{"text": "天", "label": {"a": 1}}\n'.encode(), "line 1", "label"),
    "text of no use": (b'{"text": 3, "label": "a"}\n', "line 1", "text"),
    "one label": ('{"text": "天", "label": "a"}\n'.encode(), "at least two labels", "'a'"),
    "several labels": (
        '{"text": "天", "label": ["a", "b"]}\n{"text": "气", "label": "a"}\n'.encode(),
        "line 1",
        "--multi-label",
    ),
}


@pytest.mark.parametrize("case", FILES)
def test_damaged_data_files(cli, work, tmp_path, case):
    content, *wanted = FILES[case]
    path = tmp_path / ("data.csv" if case == "zero rows" else "data.jsonl")
    path.write_bytes(content)
    one_line(cli(*train_on(work, path, tmp_path / "run")), path, *wanted)
    assert not (tmp_path / "run").exists()


def test_missing_files(cli, work, tmp_path):
    gone = tmp_path / "gone.jsonl"
    one_line(cli(*train_on(work, gone, tmp_path / "run")), gone, "no such file")
    one_line(cli("predict", gone, "--model", work.trained), gone, "no such file")
    one_line(
        cli("evaluate", work.dev, "--model", tmp_path / "gone"), tmp_path / "gone", "no such directory", "--output"
    )
    one_line(cli("info", tmp_path / "gone"), tmp_path / "gone", "no such file")
    one_line(cli("convert", tmp_path / "gone", tmp_path / "new"), tmp_path / "gone")


def test_wrong_column(cli, work, tmp_path):
    run = train_on(work, work.train, tmp_path / "run", "--text-column", "txt")
    one_line(cli(*run), work.train, "line 1", "'txt'", "text, label")
    path = tmp_path / "odd.jsonl"
    path.write_text('{"a": "天", "b": "x"}\n')
    one_line(cli(*train_on(work, path, tmp_path / "run")), path, "line 1", "a, b", "--text-column")


def test_unknown_label_at_evaluation(cli, work, tmp_path):
    path = write_rows(tmp_path / "test.jsonl", [*rows(4), ("天", "sport")])
    one_line(
        cli("evaluate", path, "--model", work.trained),
        f"{path}, line 5",
        "'sport'",
        "food, music, weather",
        "train with it",
    )
    run = [*train_arguments(work, tmp_path / "run"), "--test", path]
    one_line(cli(*run), f"{path}, line 5", "'sport'")
    assert not (tmp_path / "run").exists(), "found out before training, not after it"


def test_vocabulary_of_other_weights(cli, work, tmp_path):
    path = tmp_path / "vocab.txt"
    path.write_text("\n".join(VOCABULARY[:-1]) + "\n", encoding="utf-8")
    one_line(
        cli(*train_on(work, work.train, tmp_path / "run", "--vocabulary", path)),
        path,
        "24 tokens",
        "25 rows",
        "vocab.txt",
    )


def test_unknown_configuration_key(cli, work, tmp_path):
    backbone().save_pretrained(tmp_path / "bert", tokenizer=tokenizer())
    config = tmp_path / "bert" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"hidden_sise": 16}))
    run = ["train", "--train", work.train, "--source", tmp_path / "bert", "--output", tmp_path / "run"]
    one_line(cli(*run), config, "hidden_sise", "did you mean hidden_size")


def test_over_long_text_is_cut_and_said_so(cli, work, tmp_path):
    path = tmp_path / "texts.txt"
    path.write_text("天气\n" + "我想要唱歌" * 9 + "\n", encoding="utf-8")
    done = cli("predict", path, "--model", work.trained)
    assert done.code == 0
    assert len(done.out.splitlines()) == 2
    assert len(done.err.splitlines()) == 1
    for wanted in (f"{path}, line 2", "47 tokens", "cut to 16", "1 of 2", "--max-length"):
        assert wanted in done.err
    one_line(
        cli(*train_on(work, work.train, tmp_path / "run", "--max-length", 64)),
        "max_length is 64",
        "3 to 32",
        "--max-length",
    )


@pytest.mark.parametrize(
    ("more", "wanted"),
    [
        (["--transform", "pdg=1"], ("'pdg'", "fgm", "r_drop")),
        (["--transform", "fgm=x"], ("'x' is not a number",)),
        (["--class-weights", "sport=2"], ("'sport', which is not a label",)),
        (["--class-weights", "food=-1"], ("positive",)),
        (["--precision", "float8"], ("float8", "mixed_bfloat16")),
        (["--from-scratch", "tiny"], ("--source", "--from-scratch")),
        (["--epochs", "0"], ("--epochs",)),
        (["--epochs", "many"], ("--epochs", "integer")),
        (["--colour", "red"], ("--colour", "--help")),
        (["--resume"], ("no run to resume", "--resume")),
        (["--learning-rate", "5"], ("--learning-rate is 5.0",)),
    ],
)
def test_options_that_cannot_be(cli, work, tmp_path, more, wanted):
    one_line(cli(*train_on(work, work.train, tmp_path / "run", *more)), *wanted)


def test_a_folder_with_other_things_is_left_alone(cli, work, tmp_path):
    (tmp_path / "mine.txt").write_text("precious")
    one_line(cli(*train_on(work, work.train, tmp_path)), tmp_path, "choose another --output")
    one_line(cli(*train_on(work, work.train, work.trained)), work.trained, "--resume", "--overwrite")
    one_line(
        cli(*train_arguments(work, work.trained), "--test", work.dev, "--resume", "--seed", 9),
        "seed = 0, not 9",
        "same settings",
    )
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_truncated_model_is_named(cli, work, tmp_path):
    target = load(work.trained).save(tmp_path / "model")
    weights = target / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    one_line(cli("predict", work.dev, "--model", target), weights)


def test_debug_shows_the_exception(work, tmp_path):
    command = [sys.executable, "-m", "qingformer", "info", str(tmp_path / "gone"), "--debug"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "CheckpointError" in done.stderr
    assert "Traceback" in done.stderr


@pytest.mark.skipif(os.name != "posix", reason="limits the size of files with ulimit")
@pytest.mark.parametrize("verb", ["train", "convert"])
def test_disk_full_while_saving(work, tmp_path, verb):
    """A limit on the size of files stands in for a full disk: the write itself fails, deep inside saving."""
    big = {"hidden_size": 64, "intermediate_size": 256}
    backbone(**big).save_pretrained(tmp_path / "bert", tokenizer=tokenizer())
    new = tmp_path / "new"
    command = {
        "convert": ["convert", str(tmp_path / "bert"), str(new), "--to", "tensorflow"],
        "train": train_arguments(work, new, tmp_path / "bert", epochs=1),
    }[verb]
    limited = f"ulimit -f 100; exec {shlex.join([sys.executable, '-m', 'qingformer', *command])}"
    done = subprocess.run(["bash", "-c", limited], capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert str(new.parent) in done.stderr
    assert "free some space" in done.stderr
    left = {path.relative_to(new).as_posix() for path in new.rglob("*") if path.is_file()} if new.exists() else set()
    assert left <= {"run.json", "curve.jsonl"}, "nothing half-written stays"
    assert not list(tmp_path.rglob("*.part"))


def losses(folder):
    rows_ = [json.loads(line) for line in (folder / "curve.jsonl").read_text().splitlines()]
    return [(row["epoch"], row["loss"], row["val_loss"]) for row in rows_ if row["kind"] == "epoch"]


@pytest.mark.timeout(900)  # four trainings in processes of their own
@pytest.mark.skipif(os.name != "posix", reason="sends SIGINT to another process")
def test_ctrl_c_stops_cleanly_and_resume_gives_the_same_losses(work, tmp_path):
    command, whole = (
        [sys.executable, "-m", "qingformer", *train_arguments(work, tmp_path / name, epochs=40), "--save-every", "2"]
        for name in ("cut", "whole")
    )
    assert subprocess.run(whole, capture_output=True, check=False).returncode == 0
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for line in process.stdout:
        if line.startswith("epoch 2/"):
            break
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=120)
    assert process.returncode == 130
    assert error.splitlines() == [
        f"stopped; to continue where it was, run the same command with --resume ({tmp_path / 'cut'})"
    ]
    assert 2 <= len(losses(tmp_path / "cut")) < 40
    done = subprocess.run([*command, "--resume"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    np.testing.assert_allclose(losses(tmp_path / "cut"), losses(tmp_path / "whole"), rtol=1e-6)


def test_ctrl_c_before_training_says_so_too(work):
    command = [sys.executable, "-m", "qingformer", "predict", "--model", str(work.trained)]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    time.sleep(8)
    process.send_signal(signal.SIGINT)
    out, error = process.communicate(timeout=60)
    assert (process.returncode, out, error) == (130, "", "stopped\n")


def test_messages_keep_their_spaces(cli, work, tmp_path):
    path = tmp_path / "s.jsonl"
    row = {"text": "住在New  York市", "entities": [{"start": 2, "end": 11, "text": "Ne York", "label": "LOC"}]}
    path.write_text(json.dumps(row, ensure_ascii=False), encoding="utf-8")
    outcome = cli(*train_on(work, path, tmp_path / "run"), "--task", "ner")
    one_line(outcome, path, "line 1", "should be 'Ne York', but the text there is 'New  York'")
