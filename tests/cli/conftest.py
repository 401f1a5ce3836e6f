"""Data files, a pretrained model and a trained one, all small, made once."""

import json
import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from qingformer import backend
from qingformer.cli import run
from tests.tasks.helpers import backbone, rows, tokenizer


@dataclass
class Outcome:
    """What a command line did."""

    code: int
    out: str
    err: str


@dataclass
class Work:
    """A folder with training and test data, a pretrained model, and a run."""

    folder: Path
    train: Path
    dev: Path
    bert: Path
    trained: Path


def write_rows(path, data):
    lines = (json.dumps({"text": text, "label": label}, ensure_ascii=False) for text, label in data)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="session", autouse=True)
def compiled_once(tmp_path_factory):
    cache = tmp_path_factory.mktemp("compiled")
    os.environ["XDG_CACHE_HOME"] = str(cache)  # for the subprocesses
    backend.enable_compilation_cache(cache / "qingformer" / "xla")


@pytest.fixture(scope="session")
def work(tmp_path_factory, compiled_once):
    folder = tmp_path_factory.mktemp("work")
    train, dev = write_rows(folder / "train.jsonl", rows()), write_rows(folder / "dev.jsonl", rows(30, 200))
    backbone().save_pretrained(folder / "bert", tokenizer=tokenizer())
    made = Work(folder, train, dev, folder / "bert", folder / "trained")
    assert run([*train_arguments(made, made.trained), "--test", str(dev)]) == 0
    return made


@pytest.fixture
def cli(capfd):
    """Run a command line in this process: `cli("info", path)`."""

    def call(*arguments):
        capfd.readouterr()
        code = run([str(argument) for argument in arguments])
        out, err = capfd.readouterr()
        return Outcome(code, out, err)

    return call


def train_arguments(work, output, source=None, epochs=10):
    return [
        "train", "--train", str(work.train), "--dev", str(work.dev), "--source", str(source or work.bert),
        "--max-length", "16", "--epochs", str(epochs), "--batch-size", "16", "--learning-rate", "0.01",
        "--output", str(output),
    ]  # fmt: skip


def with_options(arguments, more):
    """`arguments` in which those of `more` take the place of what stands there."""
    arguments = list(arguments)
    for place in range(0, len(more) - 1, 2):
        if more[place] in arguments:
            start = arguments.index(more[place])
            arguments[start : start + 2] = []
    return [*arguments, *more]
