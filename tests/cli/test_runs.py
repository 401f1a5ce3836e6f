"""A run's folder on the command line: begun when nothing is left to check, never unusable, one process at a time."""

import json
import os
import signal
import subprocess
import sys

import pytest

from qingformer.training import clear_run, locked
from tests.cli.conftest import train_arguments, with_options, write_rows
from tests.tasks.helpers import rows


def one_line(outcome, *wanted):
    assert outcome.code == 2, outcome
    (line,) = [line for line in outcome.err.splitlines() if not line.startswith("note: ")]
    assert line.startswith("error: ")
    assert len(line) < 400
    for part in wanted:
        assert str(part) in line


def everything(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    "more",
    [
        ["--loss", "focall"], ["--class-weights", "ham=2"], ["--transform", "fgmm"], ["--learning-rate", "nan"],
        ["--learning-rate", "0"], ["--learning-rate", "-1"], ["--learning-rate", "inf"], ["--resume", "--overwrite"],
    ],
)  # fmt: skip
def test_a_start_that_fails_leaves_no_folder_and_no_dent_in_an_old_run(cli, work, tmp_path, more):
    wanted = {"--loss": "focall", "--class-weights": "ham"}.get(more[0], more[0])
    one_line(cli(*with_options(train_arguments(work, tmp_path / "a" / "run"), more)), wanted)
    assert list(tmp_path.iterdir()) == []
    before = everything(work.trained)
    if "--resume" not in more:
        one_line(cli(*with_options(train_arguments(work, work.trained), more), "--overwrite"), wanted)
    assert everything(work.trained) == before


def test_a_folder_in_use_is_refused_with_the_process(cli, work, tmp_path):
    fcntl = pytest.importorskip("fcntl")
    (tmp_path / "run.json").write_text("{}")
    with (tmp_path / ".run.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        print(4321, file=file, flush=True)
        for more in (["--resume"], ["--overwrite"], []):
            one_line(cli(*train_arguments(work, tmp_path), *more), f"{tmp_path}: in use by process 4321; wait until")
    one_line(cli(*train_arguments(work, tmp_path), "--resume"), "the run began with", "train")
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


def test_what_a_kill_at_the_very_start_leaves_blocks_nothing(cli, work, tmp_path):
    for number, left in enumerate([[".run.lock", ".run.json.x1y2z3ab.part"], ["run.json", ".run.lock"]]):
        run = tmp_path / str(number)
        run.mkdir()
        for name in left:
            (run / name).write_text("{")
        assert cli(*with_options(train_arguments(work, run), ["--epochs", "1"])).code == 0
        assert sorted(path.name for path in run.iterdir() if path.name != "curve.png") == [
            "best", "curve.jsonl", "run.json", "state",
        ]  # fmt: skip


@pytest.fixture(scope="module")
def finished(work, tmp_path_factory):
    """A short finished run with data of its own, and how it was made."""
    from qingformer.cli import run

    folder = tmp_path_factory.mktemp("finished")
    write_rows(folder / "train.jsonl", rows(24))
    changes = ["--train", str(folder / "train.jsonl"), "--epochs", "2", "--test", str(work.dev)]
    arguments = with_options(train_arguments(work, folder / "run"), changes)
    assert run(arguments) == 0
    return folder, arguments


def best_of(folder):
    return everything(folder / "run" / "best"), json.loads((folder / "run" / "report.json").read_text())


def test_resuming_a_finished_run_changes_nothing_whatever_the_spelling_of_its_paths(cli, finished, monkeypatch):
    folder, arguments = finished
    before = best_of(folder)
    monkeypatch.chdir(folder)
    spelt = [str(each).replace(f"{folder}/train", f"./../{folder.name}/train") for each in arguments]
    assert spelt != arguments
    outcome = cli(*spelt, "--resume")
    assert outcome.code == 0, outcome.err
    assert best_of(folder) == before


def test_more_epochs_go_on_and_the_schedule_is_stated(cli, work, tmp_path):
    assert cli(*with_options(train_arguments(work, tmp_path / "run"), ["--epochs", "1"])).code == 0
    outcome = cli(*with_options(train_arguments(work, tmp_path / "run"), ["--epochs", "2"]), "--resume")
    assert outcome.code == 0
    assert "made for 1 epochs and goes on to 2" in outcome.err
    assert "epoch 2/2" in outcome.out
    assert "epoch 1/2" not in outcome.out
    assert json.loads((tmp_path / "run" / "run.json").read_text())["epochs"] == 2


@pytest.mark.parametrize(
    ("key", "value", "wanted"),
    [
        ("epochs", "2", "an integer"), ("epochs", True, "an integer"), ("learning_rate", [0.1], "a number or null"),
        ("train", {}, "a string"), ("multi_label", 0, "true or false"), ("transforms", None, "a list"),
        ("labels", ["a", 1], "strings alone"), ("working_directory", 5, "a string"), (None, [], "a JSON object"),
    ],
)  # fmt: skip
def test_a_damaged_run_json_is_named_with_its_key(cli, finished, key, value, wanted):
    folder, arguments = finished
    file = folder / "run" / "run.json"
    before = file.read_bytes()
    file.write_text(json.dumps(value if key is None else json.loads(before) | {key: value}))
    try:
        one_line(cli(*arguments, "--resume"), file, key or "expected", f"expected {wanted}")
    finally:
        file.write_bytes(before)


def test_changed_data_of_the_same_size_are_noticed(cli, finished):
    folder, arguments = finished
    before, old = best_of(folder), (folder / "train.jsonl").read_bytes()
    write_rows(folder / "train.jsonl", rows(24, 1))
    one_line(cli(*arguments, "--resume"), "the training data are not those that the run began with")
    (folder / "train.jsonl").write_bytes(old)
    assert best_of(folder) == before


def test_a_kill_while_the_best_model_was_replaced_leaves_one_for_predict(cli, finished):
    folder, arguments = finished
    before = best_of(folder)
    (folder / "run" / "best").rename(folder / "run" / ".best.previous")
    assert cli("predict", folder / "train.jsonl", "--model", folder / "run").code == 0
    assert cli("predict", folder / "train.jsonl", "--model", folder / "run" / "best").code == 0
    (folder / "run" / ".best.abcdefgh.part").mkdir()
    assert cli(*arguments, "--resume").code == 0
    assert best_of(folder) == before
    assert not [path.name for path in (folder / "run").iterdir() if path.name.startswith(".")]


def test_a_run_without_a_model_yet_says_so(cli, tmp_path, work):
    (tmp_path / "run.json").write_text("{}")
    one_line(cli("predict", work.dev, "--model", tmp_path), tmp_path, "first epoch is not over")


def test_overwriting_a_run_leaves_what_is_not_its_own(cli, finished):
    folder, _ = finished
    with locked(folder / "run"):
        (folder / "run" / "notes.txt").write_text("mine")
        before = everything(folder / "run")
        clear_run(folder / "run")
    left = everything(folder / "run")
    assert {path.name for path in left} == {"notes.txt", "run.json"}
    assert left.items() <= before.items()


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="sends signals")
def test_sigterm_in_training_stops_with_143_and_can_be_resumed(work, tmp_path):
    command = [sys.executable, "-m", "qingformer", *train_arguments(work, tmp_path / "run"), "--save-every", "2"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for line in process.stdout:
        if line.startswith("epoch 2/"):
            break
    process.send_signal(signal.SIGTERM)
    _, error = process.communicate(timeout=120)
    assert process.returncode == 143
    assert error.startswith("stopped; to continue where it was")
    assert len(error.splitlines()) == 1
    done = subprocess.run([*command, "--resume"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
