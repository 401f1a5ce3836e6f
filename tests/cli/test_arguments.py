"""Options that the parser would take silently, or refuse without saying what is meant; output in any locale."""

import importlib
import io
import subprocess
import sys

import pytest

from qingformer.cli.console import check_output
from qingformer.cli.main import run
from qingformer.cli.process import use_utf8
from qingformer.environment import check_backend
from qingformer.errors import ConfigError

TRAIN = ["train", "--train", "a.jsonl", "--from-scratch", "tiny", "-o", "run"]


def refused(capsys, *arguments):
    assert run(list(arguments)) == 2
    found = capsys.readouterr()
    assert found.out == ""
    assert found.err.count("\n") == 1
    assert len(found.err) < 400
    return found.err


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--train", "b.jsonl"], "--train is given twice; it takes one value; join the files"),
        (["--train=b.jsonl"], "--train is given twice"),
        (["--output", "other"], "--output and -o are the same option, given twice"),
        (["-oother"], "-o is given twice"),
        (["--seed", "1", "--seed", "2"], "--seed is given twice; it takes one value"),
        (["--digits", "--no-digits"], "--no-digits and --digits are the same option"),
    ],
)
def test_an_option_given_twice_is_refused(capsys, more, said):
    assert said in refused(capsys, *TRAIN, *more)


def test_values_that_look_like_options_and_options_for_many_values_are_no_repetition(capsys):
    said = refused(capsys, *TRAIN, "--text-column", "--train", "--transform", "fgm=0.5", "--transform", "r_drop=4")
    assert "a.jsonl: no such file" in said


@pytest.mark.parametrize(
    ("option", "meant"),
    [
        ("--lr", "--learning-rate"),
        ("--batch", "--batch-size"),
        ("--learning_rate", "--learning-rate"),
        ("--model", "--source"),
        ("--max-seq-length", "--max-length"),
        ("--validation", "--dev"),
        ("--fgm", "--transform fgm"),
        ("--fp16", "--precision mixed_bfloat16"),
        ("--epoch", "--epochs"),
        ("--learnin-rate", "--learning-rate"),
    ],
)
def test_names_of_other_programs_are_understood(capsys, option, meant):
    assert f"{option}: train has no such option; write {meant} " in refused(capsys, *TRAIN, option, "1")


@pytest.mark.parametrize("option", ["--gpu", "--device", "--cuda"])
@pytest.mark.parametrize("verb", ["train", "predict"])
def test_a_device_is_chosen_by_the_environment(capsys, verb, option):
    said = refused(capsys, verb, option, "0")
    assert "jax[cuda12]" in said
    assert "CUDA_VISIBLE_DEVICES" in said


def test_a_verb_suggests_only_what_it_has(capsys):
    assert "write --model" in refused(capsys, "predict", "--source", "x")
    assert "write --" not in refused(capsys, "predict", "--lr", "1")


@pytest.mark.parametrize("name", ["theano", "pytorch", "JAX", ""])
def test_an_unknown_backend_is_named(monkeypatch, name):
    monkeypatch.setenv("KERAS_BACKEND", name)
    meant = "torch" if name == "pytorch" else "jax"
    with pytest.raises(ConfigError, match=rf"KERAS_BACKEND is '{name}'; .*KERAS_BACKEND={meant}"):
        check_backend()


def test_a_missing_gpu_is_one_line(monkeypatch):
    jax = pytest.importorskip("jax")

    def missing():
        raise RuntimeError("Unable to initialize backend 'cuda': no GPU\nfound")

    monkeypatch.setattr(jax, "devices", missing)
    check_device = importlib.import_module("qingformer.backend.jax").check_device
    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    with pytest.raises(ConfigError, match=r"JAX_PLATFORMS=cuda asks for .*no GPU.*jax\[cuda12\]"):
        check_device()
    monkeypatch.delenv("JAX_PLATFORMS")
    check_device()


@pytest.mark.parametrize("encoding", ["gbk", "ascii", "latin-1", "utf-8"])
def test_output_is_utf8_in_any_locale(monkeypatch, encoding):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding=encoding))
    use_utf8()
    print("今天😀 \ud800")
    sys.stdout.flush()
    assert raw.getvalue() == "今天😀 \\ud800\n".encode()


def test_errors_are_utf8_in_a_c_locale():
    environment = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PATH": "/usr/bin:/bin"}
    command = [
        sys.executable,
        "-m",
        "qingformer",
        "train",
        "--train",
        "数据.jsonl",
        "-o",
        "x",
        "--from-scratch",
        "tiny",
    ]
    found = subprocess.run(command, capture_output=True, env={**environment, "PYTHONPATH": ":".join(sys.path)})
    assert found.returncode == 2
    assert found.stderr.count(b"\n") == 1
    assert b"no such file" in found.stderr


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("--do_train", "qingformer evaluate"),
        ("--num_labels", "--labels a,b,c"),
        ("--do_lower_case", "source's own files"),
        ("--validation_split", "--train, --dev and --test"),
        ("--weight_decay", "fit(optimizer=...)"),
        ("--warmup_ratio", "fit(optimizer=...)"),
        ("--lora_rank", "enable_lora(8)"),
        ("--tokenizer", "write --vocabulary"),
        ("--logging_steps", "kept in the folder of --output"),
        ("--max_train_samples", "head -n 100"),
        ("--header", "write --columns"),
        ("--sep", "the tab of .tsv"),
        ("-v", "kept in the folder of --output"),
    ],
)
def test_options_that_only_other_programs_have_are_answered(capsys, option, said):
    found = refused(capsys, *TRAIN, option, "1")
    assert f"{option}: train has no such option; " in found
    assert said in found


@pytest.mark.parametrize("option", ["--input", "--file", "--data", "--test"])
@pytest.mark.parametrize("verb", ["predict", "evaluate"])
def test_the_file_of_predict_and_evaluate_needs_no_option(capsys, verb, option):
    assert f"write the file alone: qingformer {verb} FILE" in refused(capsys, verb, option, "a.txt", "-m", "run")


@pytest.mark.parametrize(("verb", "meant"), [("fit", "train"), ("eval", "evaluate"), ("infer", "predict")])
def test_verbs_of_other_programs_are_understood(capsys, verb, meant):
    assert f"{verb} is not a command; write qingformer {meant} " in refused(capsys, verb, "--train", "a.jsonl")
    assert "after a command: qingformer train" in refused(capsys, "--train", "a.jsonl")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["predict", "a.txt", "-m", ""], "-m of predict"),
        (["predict", "a.txt", "--model="], "--model of predict"),
        (["predict", "", "-m", "run"], "an argument of predict"),
        (["convert", "", "x"], "an argument of convert"),
        ([*TRAIN, "--vocabulary", ""], "--vocabulary of train"),
        (["train", "--train", "", "-o", "run"], "--train of train"),
    ],
)
def test_an_empty_value_is_not_the_folder_one_stands_in(capsys, arguments, named):
    assert f"{named} is empty; if it is a variable of the shell" in refused(capsys, *arguments)


def test_a_joiner_may_be_empty(capsys):
    assert "a.jsonl: no such file" in refused(capsys, *TRAIN, "--task", "ner", "--joiner", "")


def test_an_output_is_never_the_file_that_is_read(tmp_path):
    texts = tmp_path / "texts.txt"
    texts.write_text("今天\n", encoding="utf-8")
    (tmp_path / "other.txt").symlink_to(texts)
    for output in (texts, tmp_path / "other.txt"):
        with pytest.raises(ConfigError, match="is the file that is read"):
            check_output(output, str(texts))
    with pytest.raises(ConfigError, match="is a folder"):
        check_output(tmp_path, str(texts))
    check_output(tmp_path / "new.jsonl", str(texts))
    check_output(texts, "-")


def test_a_closed_stream_is_one_to_nowhere(monkeypatch):
    for name in ("stdin", "stdout", "stderr"):
        monkeypatch.setattr(sys, name, None)
    use_utf8()
    print("今天")
    assert sys.stdin.buffer.read() == b""
